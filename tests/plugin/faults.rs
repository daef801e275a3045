//! A fault's course, as the plugin sees it: agents that behave, refuse, vanish and leave things
//! behind.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::Stdio,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use insta::assert_snapshot;
use pod_chaos_protocol::{
    Backend, Carried, Ending, Event, Failure, FailureKind, Fault, FaultState, FaultStatus, Netem,
    Plan, Request,
};
use serde_json::json;

use crate::{
    fake_api::{Agent, FakeApi, Line, Says, Scenario, pod_with_agent, status},
    plugin_with, seen,
};

pub const WARM: fn() -> serde_json::Value = || pod_with_agent(&json!({"running": {}}));

pub fn fault_status(request: &Request) -> FaultStatus {
    let fault = match request {
        Request::Apply { plan } => plan.id,
        _ => "0000000a".parse().unwrap(),
    };
    FaultStatus {
        fault,
        state: FaultState::InForce,
        interfaces: vec!["eth0".parse().unwrap()],
        traffic: None,
        backend: Backend::NetdevEgress,
        netem: Some(Netem { delay: "100ms".parse().unwrap(), ..Netem::default() }),
        partition: None,
        age_ms: 0,
        remaining_ms: 1000,
        packets: 7,
        delayed: Some(5),
        dropped: Some(2),
    }
}

pub fn in_force(request: &Request) -> Line {
    (0, Some(Event::InForce { status: Box::new(fault_status(request)) }))
}

pub fn ended(request: &Request, by: Ending, left: &[&str]) -> Event {
    Event::Ended {
        fault: fault_status(request).fault,
        by,
        ran_ms: 1000,
        packets: Some(42),
        delayed: Some(40),
        dropped: Some(2),
        calls: None,
        left: left.iter().map(ToString::to_string).collect(),
        errors: Vec::new(),
    }
}

fn failed(kind: FailureKind, message: &str, hint: &str) -> Line {
    let failure = Failure { kind, message: message.to_owned(), hint: Some(hint.to_owned()) };
    (0, Some(Event::Failed { failure }))
}

/// An agent that does as it is told.
pub fn good(request: &Request) -> Vec<Line> {
    match request {
        Request::Apply { .. } => {
            let probed = Event::Probed {
                interfaces: vec!["eth0".parse().unwrap()],
                backend: Backend::NetdevEgress,
                kernel: "6.12.0".to_owned(),
            };
            let end = ended(request, Ending::Timer, &[]);
            vec![(0, Some(probed)), in_force(request), (1000, Some(end)), (0, None)]
        }
        Request::Revert { .. } => vec![
            (0, Some(ended(request, Ending::Request, &[]))),
            (0, Some(Event::Status { faults: Vec::new(), processes: Vec::new() })),
            (0, None),
        ],
        _ => vec![
            (0, Some(Event::Status { faults: vec![fault_status(request)], processes: Vec::new() })),
            (0, None),
        ],
    }
}

pub fn serve(says: Says) -> FakeApi {
    FakeApi::serve(Scenario { pod: Some(WARM()), agent: Agent::Says(says), ..Scenario::default() })
}

#[test]
fn nothing_hit_is_a_warning() {
    let warned = |says| {
        let output = disrupt(&serve(says), &[]);
        assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
        seen(&output).contains("warning: no packet that was to be hit came by meanwhile")
    };
    assert!(warned(|request| {
        let mut end = ended(request, Ending::Timer, &[]);
        if let Event::Ended { packets, delayed, dropped, .. } = &mut end {
            (*packets, *delayed, *dropped) = (Some(0), Some(0), Some(0));
        }
        vec![in_force(request), (0, Some(end)), (0, None)]
    }));
    assert!(!warned(good));
}

/// Ids and container names are chosen anew each time.
pub fn masked(text: &str) -> String {
    let mut out = String::new();
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let id = bare.len() == 8 && bare.bytes().all(|b| b.is_ascii_hexdigit());
        if id && bare != "default" {
            out.push_str(&word.replace(bare, "IDIDIDID"));
        } else if bare.starts_with("pod-chaos-net-") {
            out.push_str(&word.replace(bare, "pod-chaos-net-XXXXX"));
        } else if bare.starts_with("pod-chaos-proc-") {
            out.push_str(&word.replace(bare, "pod-chaos-proc-XXXXX"));
        } else {
            out.push_str(word);
        }
    }
    out
}

pub fn disrupt(api: &FakeApi, more: &[&str]) -> std::process::Output {
    let mut command = plugin_with(&api.kubeconfig);
    command.args(["disrupt", "-p", "web", "-d", "100", "-r", "1"]).args(more).output().unwrap()
}

#[test]
fn says_when_it_is_in_force_and_that_it_is_clean() {
    let output = disrupt(&serve(good), &[]);
    assert_snapshot!(masked(&seen(&output)));
}

#[test]
fn a_new_agent_carries_its_plan_for_a_few_seconds() {
    let api = FakeApi::serve(Scenario { agent: Agent::Says(good), ..Scenario::default() });
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = now();
    let output = disrupt(&api, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_eq!(api.added().len(), 1);
    let command = api.added()[0]["command"].as_array().unwrap().clone();
    assert_eq!(command[..2], ["/pod-chaos-agent", "wait"]);
    let carried: Carried = serde_json::from_str(command[2].as_str().unwrap()).unwrap();
    // The very plan that the agent is then asked for, so that it joins it.
    assert_eq!(api.agent_heard(), [Request::Apply { plan: carried.plan.clone() }]);
    // A container that is made again later must do nothing.
    assert!(carried.is_fresh(before) && !carried.is_fresh(now() + 10), "{carried:?}");
}

#[test]
fn a_plan_that_is_for_later_is_not_carried() {
    let no_clock = Scenario { has_clock: false, ..Scenario::default() };
    for (scenario, more) in [(no_clock, &[][..]), (Scenario::default(), &["-w", "0.2"])] {
        let api = FakeApi::serve(Scenario { agent: Agent::Says(good), ..scenario });
        let output = disrupt(&api, more);
        assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
        assert_eq!(api.added()[0]["command"], json!(["/pod-chaos-agent", "wait"]));
    }
}

#[test]
fn a_plan_with_a_large_table_is_not_carried_but_sent() {
    let table = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(table.path(), "-12345 ".repeat(16384)).unwrap();
    let api = FakeApi::serve(Scenario { agent: Agent::Says(good), ..Scenario::default() });
    let file = table.path().to_str().unwrap();
    let output = disrupt(&api, &["-v", "10", "--distribution", file]);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_eq!(api.added()[0]["command"], json!(["/pod-chaos-agent", "wait"]));
}

#[cfg(unix)]
#[test]
fn an_interrupt_while_the_agent_starts_calls_its_plan_off() {
    let api = FakeApi::serve(Scenario {
        agent: Agent::Says(good),
        starts_in: Duration::from_secs(1),
        ..Scenario::default()
    });
    let child = plugin_with(&api.kubeconfig)
        .args(["disrupt", "-p", "web", "-d", "100", "-r", "60"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while api.added().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let kill = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    let output = child.wait_with_output().unwrap();
    assert_snapshot!(masked(&seen(&output)));
    assert!(matches!(api.agent_heard()[..], [Request::Revert { fault: Some(_) }]));
}

#[test]
fn a_patch_of_which_nothing_is_known_is_followed_up() {
    let gone = status(500, "InternalError", "etcdserver: request timed out");
    let api = FakeApi::serve(Scenario { patch_error: Some((500, gone)), ..Scenario::default() });
    assert_snapshot!(masked(&seen(&disrupt(&api, &[]))));
}

#[test]
fn a_dead_agent_gets_a_successor_of_another_name() {
    let dead = json!({"terminated": {"exitCode": 137, "reason": "Error"}});
    let api = FakeApi::serve(Scenario {
        pod: Some(pod_with_agent(&dead)),
        agent: Agent::Says(good),
        ..Scenario::default()
    });
    let output = plugin_with(&api.kubeconfig).args(["install", "-p", "web"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_ne!(api.added()[0]["name"], "pod-chaos-net-aaaaa");
}

/// The plan that the agent is asked for.
fn asked(api: &FakeApi) -> Plan {
    match &api.agent_heard()[..] {
        [Request::Apply { plan }] => plan.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_pods_node_is_spared_unless_probes_are_to_be_hit() {
    let spared = |more: &[&str]| {
        let api = serve(good);
        let output = disrupt(&api, more);
        assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
        let node = asked(&api).traffic.spare_node;
        node.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(spared(&[]), ["192.168.7.1", "fd07::1"]);
    assert_eq!(spared(&["--include-probes"]), [""; 0]);
    let node_alone = disrupt(&serve(good), &["--to", "192.168.7.1:80"]);
    assert_eq!(node_alone.status.code(), Some(3));
    assert_snapshot!("node_alone", masked(&seen(&node_alone)));
}

#[test]
fn the_flags_about_traffic_reach_the_agent() {
    let api = serve(good);
    let flags = "--to 10.0.0.0/8 --to [fd00::1]:443 --exclude 10.0.0.9 --protocol tcp --port 80,443 \
                 --port 8000-8100 --local-port 1024-65535 --spare-dns --direction both -i eth0 -i net1 \
                 --connections 30% --replace";
    let output = disrupt(&api, &flags.split_whitespace().collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    let plan = asked(&api);
    assert!(plan.replace);
    assert_snapshot!(serde_json::to_string_pretty(&plan.traffic).unwrap());
}

#[test]
fn a_partition_says_what_will_be_seen() {
    for (name, flags) in [
        ("partition_drop", &["--to", "10.0.0.0/8"][..]),
        ("partition_reject", &["--reject", "--direction", "ingress", "--new-only"]),
        ("partition_kill", &["--kill-connections"]),
    ] {
        let api = serve(|request| match request {
            Request::Apply { plan } => {
                let Fault::Partition(partition) = plan.fault else { panic!("{plan:?}") };
                let status = FaultStatus {
                    netem: None,
                    partition: Some(partition),
                    traffic: Some(plan.traffic.clone()),
                    backend: Backend::NetdevDrop,
                    ..fault_status(request)
                };
                let killed = Event::Killed { connections: 2 };
                let end = ended(request, Ending::Timer, &[]);
                vec![
                    (0, partition.kill_connections.then_some(killed)),
                    (0, Some(Event::InForce { status: Box::new(status) })),
                    (200, Some(end)),
                    (0, None),
                ]
                .into_iter()
                .enumerate()
                .filter(|(at, line)| *at > 0 || line.1.is_some())
                .map(|(_, line)| line)
                .collect()
            }
            other => good(other),
        });
        let mut command = plugin_with(&api.kubeconfig);
        let output = command.args(["partition", "-p", "web", "-r", "1"]).args(flags).output();
        assert_snapshot!(name, masked(&seen(&output.unwrap())));
    }
}

#[test]
fn a_probe_says_when_traffic_passes_again() {
    let api = serve(|request| match request {
        Request::Apply { plan } => {
            let resumed = |after_ms, passed_meanwhile| Event::Resumed {
                probe: plan.probe.clone().unwrap(),
                after_ms,
                passed_meanwhile,
            };
            vec![
                in_force(request),
                (0, Some(resumed(Some(12), 0))),
                (0, Some(resumed(None, 3))),
                (0, Some(ended(request, Ending::Timer, &[]))),
                (0, None),
            ]
        }
        other => good(other),
    });
    let mut command = plugin_with(&api.kubeconfig);
    let output = command.args(["partition", "-p", "web", "-r", "1", "--probe", "db:5432"]).output();
    assert_snapshot!(masked(&seen(&output.unwrap())));
}

#[test]
fn a_plan_too_long_for_an_argument_is_not_carried() {
    let api = FakeApi::serve(Scenario { agent: Agent::Says(good), ..Scenario::default() });
    let blocks: Vec<_> = (0..2000).map(|n| format!("10.{}.{}.0/24", n / 256, n % 256)).collect();
    let flags: Vec<_> = blocks.iter().flat_map(|block| ["--to", block]).collect();
    let output = disrupt(&api, &flags);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_eq!(api.added()[0]["command"], json!(["/pod-chaos-agent", "wait"]));
    assert_eq!(asked(&api).traffic.egress.unwrap().0.len(), 2000);
}

#[test]
fn an_agent_of_another_protocol_is_left_alone() {
    let api = FakeApi::serve(Scenario {
        pod: Some(WARM()),
        agent: Agent::Says(good),
        agent_protocol: 999,
        ..Scenario::default()
    });
    let output = plugin_with(&api.kubeconfig).args(["install", "-p", "web"]).output().unwrap();
    assert_snapshot!(seen(&output));
    assert_eq!(api.agent_heard(), []);
}

#[test]
fn json_is_one_line_an_event() {
    let output = disrupt(&serve(good), &["-o", "json"]);
    let lines: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["probed", "in-force", "ended", "report"]);
    assert!(lines[..3].iter().all(|line| line["pod"] == "web" && line["namespace"] == "default"));
}

/// `script` gives it a terminal; a bar that begins a new line for each step is no bar.
#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_the_bar_stays_on_its_line() {
    let api = serve(good);
    let command =
        format!("{} disrupt -p web -d 100 -r 1 -w 0.5", env!("CARGO_BIN_EXE_kubectl-pod_chaos"));
    let output = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("KUBECONFIG", &api.kubeconfig)
        .env("TERM", "xterm")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("until the start") && text.contains("s left"), "no bar: {text:?}");
    // Whatever is drawn is drawn from the start of the line.
    assert!(text.split('\r').all(|drawn| drawn.matches("pod/web").count() <= 1), "{text:?}");
    assert!(text.contains("clean: ended by the kernel's timer"), "{text:?}");
}

#[test]
fn detaching_returns_while_the_fault_is_in_force() {
    let api = serve(good);
    let output = disrupt(&api, &["--detach"]);
    assert_snapshot!(masked(&seen(&output)));
    assert_eq!(api.agent_heard().len(), 1, "it must not revert what it leaves");
}

#[test]
fn what_is_left_behind_is_said_and_exits_4() {
    let output = disrupt(
        &serve(|request| {
            let end = ended(request, Ending::Timer, &["link pc-0000000a"]);
            vec![in_force(request), (0, Some(end)), (0, None)]
        }),
        &[],
    );
    assert_snapshot!(masked(&seen(&output)));
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn the_agents_refusals_keep_their_hint_and_exit_3() {
    for (name, says) in [
        (
            "no_sch_netem",
            (|_| {
                vec![failed(
                    FailureKind::Unsupported,
                    "this kernel has no netem (sch_netem)",
                    "install kernel-modules-extra",
                )]
            }) as Says,
        ),
        ("unknown_interface", |_| {
            vec![failed(FailureKind::NotFound, "no interface `net7`", "this pod has eth0")]
        }),
        ("conflict", |_| {
            vec![failed(
                FailureKind::Conflict,
                "fault 0000000b is in force on eth0 for another 20 s",
                "end it with `kubectl pod-chaos revert`",
            )]
        }),
    ] {
        let output = disrupt(&serve(says), &[]);
        assert_eq!(output.status.code(), Some(3));
        assert_snapshot!(name, masked(&seen(&output)));
    }
}

#[test]
fn a_lost_agent_is_looked_for_again_after_the_deadline() {
    // The stream breaks in mid-fault; a second session finds nothing left.
    let api = serve(|request| match request {
        Request::Apply { .. } => vec![in_force(request), (100, None)],
        other => good(other),
    });
    let start = Instant::now();
    let output = disrupt(&api, &[]);
    assert!(start.elapsed() >= Duration::from_secs(1), "it must wait for the deadline");
    assert_snapshot!(masked(&seen(&output)));
}

#[cfg(unix)]
#[test]
fn interrupts_revert_at_once_and_exit_130() {
    for signal in ["INT", "TERM"] {
        let api = serve(|request| match request {
            Request::Apply { .. } => vec![in_force(request), (60_000, None)],
            other => good(other),
        });
        let mut child = plugin_with(&api.kubeconfig)
            .args(["disrupt", "-p", "web", "-d", "100", "-r", "60"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert!(line.contains("in force"), "{line}");
        let kill = std::process::Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        let status = child.wait().unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(status.code(), Some(130), "{rest}");
        assert!(rest.contains("clean: ended"), "{rest}");
        assert!(matches!(api.agent_heard()[..], [Request::Apply { .. }, Request::Revert { .. }]));
    }
}

#[test]
fn status_is_a_table_or_a_document() {
    let api = serve(good);
    let run = |args: &[&str]| plugin_with(&api.kubeconfig).args(args).output().unwrap();
    assert_snapshot!("status_table", seen(&run(&["status"])));
    assert_snapshot!("status_json", seen(&run(&["status", "-p", "web", "-o", "json"])));
}

#[test]
fn status_has_kubectls_formats() {
    let api = serve(good);
    let run = |format: &str| {
        let output = plugin_with(&api.kubeconfig).args(["status", "-o", format]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let json: serde_json::Value = serde_json::from_str(&run("json")).unwrap();
    let yaml: serde_json::Value = serde_saphyr::from_str(&run("yaml")).unwrap();
    assert_eq!(yaml, json);
    assert_eq!(run("name"), "pod/web\n");
    assert_eq!(run("jsonpath={.faults[*].fault}"), "0000000a\n");
    assert_snapshot!("status_wide", run("wide"));
}

/// What is printed is what is sent, and with `server` it was tried.
#[test]
fn a_dry_run_prints_the_patch_and_sends_nothing() {
    for (tries, how) in [(false, "client"), (true, "server")] {
        let api = FakeApi::serve(Scenario { agent: Agent::Says(good), ..Scenario::default() });
        let output = disrupt(&api, &["--dry-run", how]);
        assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
        let patch: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(patch["metadata"], json!({"name": "web", "namespace": "default"}));
        let container = &patch["spec"]["ephemeralContainers"][0];
        assert_eq!(container["command"][0], "/pod-chaos-agent");
        assert_eq!(
            container["securityContext"]["capabilities"]["add"],
            json!(["NET_ADMIN", "NET_RAW"])
        );
        let tried = api.requests().iter().any(|it| it.contains("dryRun=All"));
        assert_eq!((api.changes().len(), tried), (0, tries), "{how}");
    }
    let refused = FakeApi::serve(Scenario {
        admission: Some((403, status(403, "Forbidden", "no"))),
        ..Scenario::default()
    });
    assert_eq!(disrupt(&refused, &["--dry-run", "server"]).status.code(), Some(3));
    let warm = serve(good);
    let output = disrupt(&warm, &["--dry-run", "server"]);
    assert!(seen(&output).contains("pod-chaos-net-aaaaa"), "{}", seen(&output));
    assert_eq!(warm.agent_heard(), []);
}

#[test]
fn kubectls_flags_lead_to_the_server() {
    let api = serve(good);
    let text = std::fs::read_to_string(&api.kubeconfig).unwrap();
    let at = text.find("http://").unwrap();
    let server = text[at..].split('"').next().unwrap().to_owned();
    // No kubeconfig at all.
    let output =
        crate::plugin().args(["status", "-p", "web", "--token", "x", "--server", &server]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    let missing = ["status", "--certificate-authority", "/nonexistent"];
    let output = plugin_with(&api.kubeconfig).args(missing).output().unwrap();
    assert!(seen(&output).contains("reading certificates from /nonexistent"), "{}", seen(&output));
}

#[test]
fn revert_says_what_it_ended() {
    let api = serve(good);
    let output = plugin_with(&api.kubeconfig).args(["revert", "-p", "web"]).output().unwrap();
    assert_snapshot!(seen(&output));
}

#[test]
fn revert_leaves_a_pod_alone_that_never_had_an_agent() {
    let api = FakeApi::serve(Scenario::default());
    let output = plugin_with(&api.kubeconfig).args(["revert", "-p", "web"]).output().unwrap();
    assert_snapshot!(seen(&output));
    assert_eq!(api.changes(), [""; 0]);
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let api = serve(good);
    let mut child = plugin_with(&api.kubeconfig)
        .args(["status", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{}", seen(&output));
}

#[test]
fn an_agent_that_says_hello_and_no_more_holds_nobody_up() {
    for line in ["status -p web", "revert -p web", "uninstall -p web"] {
        let api = serve(|_| Vec::new());
        let words = line.split_whitespace().chain(["--request-timeout", "200ms"]);
        let output = plugin_with(&api.kubeconfig).args(words).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {}", seen(&output));
        let why = "talking to the agent: no answer within 0.2 s";
        assert!(seen(&output).contains(why), "{line}: {}", seen(&output));
        assert_eq!(api.agent_heard().len(), 1, "{line}");
    }
}
