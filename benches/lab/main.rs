//! What the README's table says, measured on the lab beside references in the same run.
//!
//! Machines are noisy: the figures are medians and 95th percentiles, the judgement is the ratio.

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../tests/e2e/lab.rs"]
mod lab;
mod network;

use std::{
    process::{Command, ExitCode},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use lab::{Lab, Namespace, Outcome, Pod, lab as lab_command, plugin, slow_for, text};
use serde_json::json;

/// One part of the measurement.
type Part = fn(&Lab) -> Outcome<Vec<Row>>;

/// One line of the table.
struct Row {
    figure: &'static str,
    measured: String,
    reference: String,
    reach: &'static str,
}

fn main() -> ExitCode {
    let lab = match Lab::from_environment() {
        Ok(lab) => lab,
        Err(why) => {
            eprintln!("skipped: {why}");
            return ExitCode::SUCCESS;
        }
    };
    let parts: [(&str, Part); 7] = [
        ("warm", warm),
        ("cold", cold),
        ("end", end),
        ("agent", agent),
        ("untargeted", network::untargeted),
        ("cidrs", network::cidrs),
        ("emulator", network::emulator),
    ];
    let chosen: Vec<String> =
        std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let mut rows = Vec::new();
    for (name, part) in parts {
        if !chosen.is_empty() && !chosen.iter().any(|one| one == name) {
            continue;
        }
        eprintln!("measuring: {name}");
        match part(&lab) {
            Ok(more) => rows.extend(more),
            Err(error) => {
                eprintln!("error: {name}: {}", error.message().unwrap_or_default());
                return ExitCode::FAILURE;
            }
        }
    }
    println!("| figure | measured | reference, same run | to reach |\n|---|---|---|---|");
    for row in rows {
        println!("| {} | {} | {} | {} |", row.figure, row.measured, row.reference, row.reach);
    }
    ExitCode::SUCCESS
}

/// Sorted samples.
struct Samples(Vec<f64>);

impl Samples {
    fn new(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        Self(samples)
    }

    /// The sample below which that share of them lies, in percent.
    fn percentile(&self, percent: usize) -> f64 {
        self.0[(self.0.len() - 1) * percent / 100]
    }

    fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// Median and 95th percentile of seconds, as milliseconds.
    fn show(&self) -> String {
        format!("{:.0} ms (p95 {:.0} ms)", self.median() * 1e3, self.percentile(95) * 1e3)
    }
}

/// How long a command takes, in seconds; it must succeed.
fn timed(command: &mut Command) -> Outcome<f64> {
    let start = Instant::now();
    let output = command.output()?;
    let took = start.elapsed().as_secs_f64();
    check!(output.status.success(), "{command:?}: {}", text(&output));
    Ok(took)
}

fn disrupt(space: &Namespace, pod: &str, time: &str) -> Command {
    let args = ["disrupt", "-p", pod, "-n", &space.name, "-d", "100", "-r", time, "--detach"];
    plugin(&args)
}

/// Command to fault in force with the agent there, beside an exec that does nothing.
fn warm(lab: &Lab) -> Outcome<Vec<Row>> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let output = space.plugin(&["install", "-p", "nginx"]);
    check!(output.status.success(), "{}", text(&output));
    // A container's status lags; from here on it is as it stays.
    sleep(Duration::from_secs(4));
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..25 {
        let mut exec = Command::new("kubectl");
        exec.args(["exec", &pod.name, "-n", &space.name, "-c", "nginx", "--", "true"]);
        reference.push(timed(&mut exec)?);
        ours.push(timed(&mut disrupt(&space, "nginx", "100ms"))?);
        sleep(Duration::from_millis(400));
    }
    let (ours, reference) = (Samples::new(ours), Samples::new(reference));
    let ratio = ours.median() / reference.median();
    Ok(vec![Row {
        figure: "command → fault in force, agent installed",
        measured: format!("{}, {ratio:.2} ×", ours.show()),
        reference: format!("`kubectl exec … true`: {}", reference.show()),
        reach: "≤ 1.3 ×",
    }])
}

/// The same with nothing installed, beside what one would do by hand; by the packets, not by what either
/// says.
fn cold(lab: &Lab) -> Outcome<Vec<Row>> {
    let space = lab.namespace(&json!({}))?;
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for round in 0..9 {
        let (a, b) = (format!("ours-{round}"), format!("debug-{round}"));
        let pods = [space.nginx(&a)?, space.nginx(&b)?];
        // The first ephemeral container of a pod that is a second old starts late for anyone.
        sleep(Duration::from_secs(3));
        ours.push(slow_after(&pods[0], &mut disrupt(&space, &a, "2"))?);
        let mut debug = Command::new("kubectl");
        debug.args(["debug", &b, "-n", &space.name, "-i", "--profile=netadmin"]);
        debug.args(["--image=localhost/pod-chaos-tools:lab", "--image-pull-policy=IfNotPresent"]);
        debug.args(["--", "tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "100ms"]);
        reference.push(slow_after(&pods[1], &mut debug)?);
        for pod in [a, b] {
            lab::kubectl(&["delete", "pod", &pod, "-n", &space.name, "--wait=false"]);
        }
    }
    let samples = |of: &[(f64, f64)], which: fn(&(f64, f64)) -> f64| {
        Samples::new(of.iter().map(which).collect())
    };
    let (slow, said) = (samples(&ours, |times| times.0), samples(&ours, |times| times.1));
    let (by_hand, returned) =
        (samples(&reference, |times| times.0), samples(&reference, |times| times.1));
    let over = |one: &Samples, other: &Samples| one.median() / other.median();
    Ok(vec![Row {
        figure: "the same, nothing installed",
        measured: format!(
            "first slow packet after {}, {:.2} ×; said so after {}, {:.2} ×",
            slow.show(),
            over(&slow, &returned),
            said.show(),
            over(&said, &returned)
        ),
        reference: format!(
            "`kubectl debug --profile=netadmin` + `tc`: {}; its first slow packet after {}",
            returned.show(),
            by_hand.show()
        ),
        reach: "≤ 0.8 ×",
    }])
}

/// Seconds from the start of a command to the first packet that takes 100 ms, and to the command's end.
fn slow_after(pod: &Pod, command: &mut Command) -> Outcome<(f64, f64)> {
    let pings = pod.trace()?;
    sleep(Duration::from_millis(200));
    let began = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let took = timed(command)?;
    sleep(Duration::from_millis(300));
    let trips = pings.finish()?;
    let slow = trips.iter().find(|trip| trip.sent > began && trip.took >= 100.0);
    Ok((slow.ok_or("no packet was slow")?.sent - began, took))
}

/// How far from the deadline packets are quick again, with the agent alive and with it SIGKILLed.
fn end(lab: &Lab) -> Outcome<Vec<Row>> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let installed = space.plugin(&["install", "-p", "nginx"]);
    check!(installed.status.success(), "{}", text(&installed));
    let mut rows = Vec::new();
    for (figure, kill) in
        [("end vs. deadline, 50 runs, by the packets", false), ("the same, agent SIGKILLed", true)]
    {
        let mut off = Vec::new();
        for _ in 0..50 {
            off.push(one_end(&space, &pod, kill)?);
        }
        let off = Samples::new(off);
        rows.push(Row {
            figure,
            measured: format!(
                "p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                off.median() * 1e3,
                off.percentile(99) * 1e3,
                off.percentile(100) * 1e3
            ),
            reference: "pings sent 5 ms apart".to_owned(),
            reach: "p99 ≤ 20 ms",
        });
    }
    Ok(rows)
}

fn one_end(space: &Namespace, pod: &Pod, kill: bool) -> Outcome<f64> {
    let pings = pod.trace()?;
    sleep(Duration::from_millis(200));
    timed(&mut disrupt(space, "nginx", "500ms"))?;
    if kill {
        let pid = pod.pid(&pod.agent()?)?;
        let output = lab_command(&["node", "guest", "--", "kill", "-9", &pid]);
        check!(output.status.success(), "{}", text(&output));
    }
    sleep(Duration::from_millis(700));
    let slow = slow_for(&pings.finish()?, 100.0)?;
    Ok((slow - 0.5).abs())
}

/// What the agent costs while it waits.
fn agent(lab: &Lab) -> Outcome<Vec<Row>> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let output = space.plugin(&["install", "-p", "nginx"]);
    check!(output.status.success(), "{}", text(&output));
    let status = format!("/proc/{}/status", pod.pid(&pod.agent()?)?);
    let read = || -> Outcome<(u64, u64)> {
        let output = lab_command(&["node", "guest", "--", "cat", &status]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let field = |name: &str| -> Outcome<u64> {
            let line = text.lines().find(|line| line.starts_with(name)).ok_or("no such line")?;
            Ok(line.split_whitespace().nth(1).ok_or("no number")?.parse()?)
        };
        Ok((field("VmRSS:")?, field("voluntary_ctxt_switches:")?))
    };
    let (_, before) = read()?;
    sleep(Duration::from_secs(10));
    let (resident, after) = read()?;
    let binary = std::fs::metadata(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/target/x86_64-unknown-linux-musl/agent/pod-chaos-agent"
    ))?;
    #[allow(clippy::cast_precision_loss)]
    let size = binary.len() as f64 / f64::from(1 << 20);
    Ok(vec![
        Row {
            figure: "agent image (its one file)",
            measured: format!("{size:.2} MiB"),
            reference: String::new(),
            reach: "≤ 2 MiB",
        },
        Row {
            figure: "waiting agent, resident memory",
            measured: format!("{resident} KiB"),
            reference: String::new(),
            reach: "≤ 2 MiB",
        },
        Row {
            figure: "waiting agent, wake-ups in 10 s",
            measured: (after - before).to_string(),
            reference: String::new(),
            reach: "0",
        },
    ])
}
