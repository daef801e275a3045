//! One command for a thousand pods, against an API server that is played, as are its agents: how long it takes until
//! all faults are in force, how far apart they begin, and what the plugin needs for it. Needs no lab.

#[allow(dead_code, reason = "of the tests of the plugin, which play other scenes too")]
#[path = "../tests/plugin/fake_api.rs"]
mod fake_api;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, ExitCode, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use fake_api::{Agent, FakeApi, Line, Scenario, pod, pod_with_agent};
use pod_chaos_protocol::{Event, Request};
use serde_json::{Value, json};

const PODS: usize = 1000;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// How long an agent takes until its fault is in force, in milliseconds: it asks the kernel some dozen times.
const AGENT: u64 = 30;

/// When each agent was told to begin, and what processes had had of processors until then.
static BEGUN: Mutex<Vec<(Instant, Used)>> = Mutex::new(Vec::new());
/// The plugin.
static PLUGIN: AtomicU32 = AtomicU32::new(0);

/// What the plugin and what plays the rest have had of processors.
#[derive(Clone, Copy)]
struct Used {
    plugin: Duration,
    played: Duration,
}

impl Used {
    fn now() -> Self {
        let of = |task: String| {
            // Nanoseconds on a processor come first (Documentation/scheduler/sched-stats.rst).
            let text = fs::read_to_string(format!("/proc/{task}/schedstat")).unwrap_or_default();
            let first = text.split(' ').next().and_then(|first| first.parse().ok());
            Duration::from_nanos(first.unwrap_or_default())
        };
        Self {
            plugin: of(PLUGIN.load(Ordering::Relaxed).to_string()),
            played: of("thread-self".to_owned()),
        }
    }
}

/// An agent that is told once, and reverts when it is told so.
fn says(request: &Request) -> Vec<Line> {
    let event = |value: Value| Some(serde_json::from_value::<Event>(value).expect("an event"));
    match request {
        Request::Apply { plan } => {
            BEGUN.lock().expect("nobody panics").push((Instant::now(), Used::now()));
            let status = json!({
                "fault": plan.id, "state": "in-force", "age-ms": 0, "remaining-ms": 60_000,
                "backend": "netdev-egress", "interfaces": ["eth0"], "packets": 0,
                "netem": {"delay": "100ms"},
            });
            vec![(AGENT, event(json!({"event": "in-force", "status": status})))]
        }
        Request::Revert { fault } => {
            let end = json!({
                "event": "ended", "fault": fault, "by": "request", "ran_ms": 1000, "packets": 1,
                "calls": null, "left": [], "errors": [],
            });
            vec![(0, event(end)), (0, None)]
        }
        _ => Vec::new(),
    }
}

struct Measured {
    /// From the command to the last fault in force.
    whole: Duration,
    /// From the first to the last that was told to begin.
    apart: Duration,
    /// What was used of processors meanwhile.
    used: Used,
    /// The most memory that the plugin has held, in MiB.
    memory: u64,
}

/// How the API server is played.
type Serve = fn(Scenario) -> FakeApi;

fn measure(installed: bool, serve: Serve) -> Outcome<Measured> {
    let one = |number: usize| {
        let name =
            json!({"metadata": {"name": format!("web-{number:04}"), "labels": {"app": "web"}}});
        let mut one =
            if installed { pod_with_agent(&json!({"running": {}})) } else { pod(&json!({})) };
        one["metadata"]["name"] = name["metadata"]["name"].clone();
        one["metadata"]["labels"] = name["metadata"]["labels"].clone();
        one
    };
    let api = serve(Scenario {
        pod: None,
        more_pods: (0..PODS).map(one).collect(),
        agent: Agent::Says(says),
        ..Scenario::default()
    });
    BEGUN.lock().map_err(|error| error.to_string())?.clear();
    let start = Instant::now();
    let mut plugin = Command::new(env!("CARGO_BIN_EXE_kubectl-pod_chaos"))
        .env_clear()
        .env("KUBECONFIG", &api.kubeconfig)
        .args(["disrupt", "-l", "app=web", "-d", "100", "-r", "60"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    PLUGIN.store(plugin.id(), Ordering::Relaxed);
    let said = BufReader::new(plugin.stderr.take().ok_or("no stderr")?);
    let mut lines = said.lines();
    let all = format!("all {PODS} in force");
    let mut last = String::new();
    while !last.starts_with(&all) {
        last = lines.next().ok_or_else(|| format!("it ended: {last}"))??;
    }
    let whole = start.elapsed();
    let status = fs::read_to_string(format!("/proc/{}/status", plugin.id()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    Command::new("kill").args(["-INT", &plugin.id().to_string()]).status()?;
    for line in lines {
        last = line?;
    }
    if plugin.wait()?.code() != Some(130) || !last.contains("all reverted") {
        return Err(format!("not reverted: {last}").into());
    }
    let begun = BEGUN.lock().map_err(|error| error.to_string())?;
    let (first, from) = *begun.first().ok_or("none began")?;
    let (last, to) = begun[begun.len() - 1];
    let used = Used {
        plugin: to.plugin.saturating_sub(from.plugin),
        played: to.played.saturating_sub(from.played),
    };
    if begun.len() != PODS {
        return Err(format!("{} of {PODS} began", begun.len()).into());
    }
    Ok(Measured { whole, apart: last - first, used, memory: peak / 1024 })
}

fn main() -> ExitCode {
    println!("| figure | measured | to reach |\n|---|---|---|");
    let all: [(bool, Serve, &str); 3] = [
        (true, FakeApi::serve, "agents installed"),
        (false, FakeApi::serve, "nothing installed"),
        (true, FakeApi::serve_tls, "agents installed, over TLS"),
    ];
    for (installed, serve, what) in all {
        match measure(installed, serve) {
            Ok(Measured { whole, apart, used, memory }) => println!(
                "| {PODS} pods in one command, {what} | {:.1} s, begun within {} ms ({} ms of a processor for \
                 the plugin, {} ms for who plays the agents), {memory} MiB | ≤ 15 s, ≤ 250 ms, ≤ 100 MiB |",
                whole.as_secs_f64(),
                apart.as_millis(),
                used.plugin.as_millis(),
                used.played.as_millis()
            ),
            Err(error) => {
                eprintln!("error: {what}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
