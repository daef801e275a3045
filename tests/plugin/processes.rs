//! Faults on processes: whom they are done to, and by an agent that may do what.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use insta::assert_snapshot;
use pod_chaos_protocol::{
    CallCount, CallCounts, Carriage, CpuUsage, Disposition, Ending, Event, Failure, FailureKind,
    FaultId, FaultState, Metrics, ProcessInfo, ProcessSignal, ProcessStatus, Request, RunTime,
    SignalName,
};
use serde_json::{Value, json};

use crate::{
    fake_api::{Agent, FakeApi, Line, Says, Scenario, pod},
    faults::masked,
    plugin_with, seen,
};

/// A pod with these containers, all of which run.
pub fn pod_of(containers: &Value) -> Value {
    let status = containers.as_array().unwrap().iter().map(|container| {
        json!({"name": container["name"], "image": "x", "imageID": "x", "ready": true, "restartCount": 0,
               "state": {"running": {}}, "containerID": "containerd://0123456789abcdef"})
    });
    let status: Vec<_> = status.collect();
    pod(&json!({"spec": {"containers": containers}, "status": {"containerStatuses": status}}))
}

/// The clean end of a fault.
fn ended(fault: FaultId, by: Ending) -> Event {
    Event::Ended {
        fault,
        by,
        ran_ms: 1000,
        packets: None,
        delayed: None,
        dropped: None,
        calls: None,
        left: Vec::new(),
        errors: Vec::new(),
    }
}

/// An agent that does as it is told.
pub fn good(request: &Request) -> Vec<Line> {
    let Request::Disturb { plan } = request else {
        return vec![
            (0, Some(Event::Status { faults: Vec::new(), processes: Vec::new() })),
            (0, None),
        ];
    };
    let found = ["nginx", "nginx"].into_iter().zip([1, 7]);
    let found = found.map(|(name, pid)| ProcessInfo { pid, name: name.to_owned(), threads: 1 });
    let status = ProcessStatus {
        fault: plan.id,
        state: FaultState::InForce,
        target: plan.target.clone(),
        doing: plan.fault.clone(),
        processes: 2,
        threads: 2,
        calls: None,
        age_ms: 0,
        remaining_ms: 1000,
    };
    vec![
        (0, Some(Event::Found { processes: found.collect() })),
        (0, Some(Event::ProcessInForce { status })),
        (100, Some(ended(plan.id, Ending::Deadline))),
        (0, None),
    ]
}

fn serve(pod: Value) -> FakeApi {
    FakeApi::serve(Scenario { pod: Some(pod), agent: Agent::Says(good), ..Scenario::default() })
}

/// A pod with one container, and an agent that does this.
fn web_with(says: Says) -> FakeApi {
    let pod = Some(pod_of(&json!([{"name": "web", "image": "x"}])));
    FakeApi::serve(Scenario { pod, agent: Agent::Says(says), ..Scenario::default() })
}

fn pause(api: &FakeApi, more: &[&str]) -> Output {
    let time: &[_] = if more.contains(&"-r") { &[] } else { &["-r", "1"] };
    let mut command = plugin_with(&api.kubeconfig);
    command.args(["pause", "-p", "web"]).args(time).args(more).output().unwrap()
}

#[test]
fn a_pause_says_whom_it_hits_and_what_will_be_seen() {
    let probe = json!({"periodSeconds": 5, "failureThreshold": 2, "httpGet": {"port": 80}});
    let api = serve(pod_of(&json!([{"name": "web", "image": "x", "livenessProbe": probe}])));
    assert_snapshot!(masked(&seen(&pause(&api, &["--process", "^nginx"]))));
    let [Request::Disturb { plan }] = &api.agent_heard()[..] else { panic!() };
    assert_eq!(plan.target.id.as_str(), "0123456789abcdef");
    assert_eq!(plan.target.matching.as_ref().unwrap().to_string(), "^nginx");
    let api = serve(pod_of(&json!([{"name": "web", "image": "x", "livenessProbe": probe}])));
    let long = seen(&pause(&api, &["-r", "7"]));
    assert!(long.contains("warning: container web has a liveness probe"), "{long}");
}

#[test]
fn the_agent_joins_the_container_with_the_least_it_needs() {
    let same_user = json!({"runAsUser": 1000, "runAsGroup": 7});
    for (context, user, added) in
        [(json!({}), 0, json!(["SYS_PTRACE"])), (same_user, 1000, Value::Null)]
    {
        let api =
            serve(pod_of(&json!([{"name": "web", "image": "x", "securityContext": context}])));
        let output = pause(&api, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
        let agent = &api.added()[0];
        assert_eq!(agent["targetContainerName"], "web");
        assert_eq!(agent["securityContext"]["runAsUser"], user);
        assert_eq!(agent["securityContext"]["capabilities"]["add"], added);
        // The next fault of the kind finds it there.
        assert_eq!(pause(&api, &[]).status.code(), Some(0));
        assert_eq!(api.added().len(), 1);
    }
}

#[test]
fn a_dry_run_shows_what_the_agent_may_do() {
    for (line, added) in [
        ("pause -p web", json!(["SYS_PTRACE"])),
        ("syscall -p web --call open --error EIO", json!(["SYS_PTRACE"])),
        ("signal HUP -p web", json!(["KILL"])),
        ("kill -p web", json!(["SYS_PTRACE", "KILL"])),
        ("burn cpu -p web --workers 1", Value::Null),
        ("fill disk -p web --path / --size 1Mi", Value::Null),
    ] {
        let api = serve(pod_of(&json!([{"name": "web", "image": "x"}])));
        let mut command = plugin_with(&api.kubeconfig);
        command.args(line.split(' ')).args(["--dry-run=client", "-o", "yaml"]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{line}: {}", seen(&output));
        let patch = std::str::from_utf8(&output.stdout).unwrap().trim_start_matches("---\n");
        let patch: Value = serde_saphyr::from_str(patch).unwrap();
        let agent = &patch["spec"]["ephemeralContainers"][0];
        assert_eq!(agent["securityContext"]["capabilities"]["drop"], json!(["ALL"]), "{line}");
        assert_eq!(agent["securityContext"]["capabilities"]["add"], added, "{line}");
        assert_eq!(api.changes(), [""; 0], "{line}");
    }
}

/// What `act` comes to where kernel.yama.ptrace_scope is 1, in a container of another user than root: an agent of the same
/// user tries first, and then one that is root, with these capabilities.
fn assert_root_tries_again(act: &str, says: Says, capabilities: &[&str]) {
    let user = json!({"runAsUser": 1000, "runAsGroup": 7});
    let pod = pod_of(&json!([{"name": "web", "image": "x", "securityContext": user}]));
    let agent = Agent::Says(says);
    let api = FakeApi::serve(Scenario { pod: Some(pod), agent, ..Scenario::default() });
    let mut command = plugin_with(&api.kubeconfig);
    let output = command.args(act.split(' ')).args(["-p", "web"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    let why = format!("only with {}", capabilities.join(", "));
    assert!(seen(&output).contains(&why), "{}", seen(&output));
    let [first, second] = &api.added()[..] else { panic!("{:?}", api.added()) };
    assert_eq!(first["securityContext"]["runAsUser"], 1000);
    assert_eq!(second["securityContext"]["runAsUser"], 0);
    assert_eq!(second["securityContext"]["capabilities"]["add"], json!(capabilities));
}

/// The end of what the first of two agents says.
fn not_seized(what: &str) -> Vec<Line> {
    let message = format!("failed to seize {what} 1: Operation not permitted");
    let failure = Failure { kind: FailureKind::NotPermitted, message, hint: None };
    vec![(0, Some(Event::Failed { failure })), (0, None)]
}

#[test]
fn where_the_node_lets_only_root_trace_an_agent_that_is_root_is_put_in() {
    let says: Says = |request| {
        static ASKED: AtomicBool = AtomicBool::new(false);
        if ASKED.swap(true, Ordering::Relaxed) { good(request) } else { not_seized("thread") }
    };
    assert_root_tries_again("pause -r 1", says, &["SYS_PTRACE"]);
}

#[test]
fn where_the_node_lets_only_root_trace_a_kill_takes_an_agent_that_is_root() {
    let says: Says = |_| {
        static ASKED: AtomicBool = AtomicBool::new(false);
        let told = ProcessSignal {
            pid: 1,
            name: "app".to_owned(),
            signal: SignalName::KILL,
            disposition: Disposition::Default,
        };
        let rest = if ASKED.swap(true, Ordering::Relaxed) {
            vec![(0, None)]
        } else {
            not_seized("process")
        };
        [vec![(0, Some(Event::Signals { signals: vec![told] }))], rest].concat()
    };
    assert_root_tries_again("signal KILL", says, &["SYS_PTRACE", "KILL"]);
}

#[test]
fn refuses_what_cannot_be_meant() {
    let two = pod_of(&json!([{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]));
    let mut host = pod_of(&json!([{"name": "web", "image": "x"}]));
    host["spec"]["hostPID"] = json!(true);
    let mut waits = pod_of(&json!([{"name": "web", "image": "x"}]));
    waits["status"]["containerStatuses"][0]["state"] =
        json!({"waiting": {"reason": "CrashLoopBackOff"}});
    let refusals = [
        (&two, &[][..]),
        (&two, &["-c", "c"]),
        (&two, &["-c", "a", "--process", "("]),
        (&host, &[]),
        (&waits, &[]),
    ]
    .map(|(pod, more)| {
        let api = serve(pod.clone());
        let refusal = format!("=== pause {}\n{}", more.join(" "), seen(&pause(&api, more)));
        assert!(api.changes().is_empty(), "{:?}", api.changes());
        refusal
    });
    assert_snapshot!(refusals.concat());
}

#[test]
fn a_share_of_no_limit_is_refused_before_an_agent_comes() {
    let api = serve(pod_of(&json!([{"name": "web", "image": "x"}])));
    let burn = ["burn", "cpu", "-p", "web", "--percent", "30%", "-r", "3"];
    let output = plugin_with(&api.kubeconfig).args(burn).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", seen(&output));
    assert!(seen(&output).contains("container web has no limit of processor time"));
    assert!(api.changes().is_empty(), "{:?}", api.changes());
}

#[test]
fn the_agent_burns_in_its_own_control_group_if_asked_to() {
    let api = serve(pod_of(&json!([{"name": "web", "image": "x"}])));
    let burn = |args: &[&str]| {
        let mut command = plugin_with(&api.kubeconfig);
        command.args(["burn", "cpu", "-p", "web", "-r", "1", "--percent", "30%"]);
        command.args(args).output().unwrap()
    };
    let refused = burn(&["--own-cgroup"]);
    assert_eq!(refused.status.code(), Some(2), "{}", seen(&refused));
    assert!(seen(&refused).contains("has no limit"), "{}", seen(&refused));
    let output = burn(&["--of", "core", "--own-cgroup"]);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert!(seen(&output).contains("the container is not charged"), "{}", seen(&output));
    // No process is started in another container than the agent's.
    let in_target = || api.requests().iter().any(|one| one.contains("container=web"));
    assert!(!in_target(), "{:?}", api.requests());
    burn(&["--of", "core"]);
    assert!(in_target(), "{:?}", api.requests());
    assert_eq!(api.added()[0]["securityContext"]["capabilities"]["add"], Value::Null);
}

#[test]
fn pods_without_an_agent_of_the_network_need_none_to_be_clean() {
    let dead = json!({"terminated": {"exitCode": 137}});
    let mut pod = pod_of(&json!([{"name": "web", "image": "x"}]));
    pod["spec"]["ephemeralContainers"] = json!([{
        "name": "pod-chaos-proc-aaaaa", "image": "x", "targetContainerName": "web",
        "securityContext": {"runAsUser": 0, "runAsGroup": 0},
    }]);
    pod["status"]["ephemeralContainerStatuses"] = json!([{
        "name": "pod-chaos-proc-aaaaa", "state": dead, "ready": false, "restartCount": 0, "image": "", "imageID": "",
    }]);
    let api = serve(pod);
    let output = plugin_with(&api.kubeconfig).args(["revert", "-p", "web"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert!(
        api.added().is_empty() && seen(&output).contains("nothing to revert"),
        "{}",
        seen(&output)
    );
}

/// An agent that sends signals, of which nothing comes.
pub fn sends(request: &Request) -> Vec<Line> {
    let Request::Signal { plan } = request else { return good(request) };
    let signal = plan.signal.unwrap_or(SignalName::TERM);
    let disposition = Disposition::Handled;
    let sent = ProcessSignal { pid: 1, name: "nginx".to_owned(), signal, disposition };
    vec![(0, Some(Event::Signals { signals: vec![sent] })), (0, None)]
}

#[test]
fn a_container_that_does_not_end_is_a_failure() {
    let pod = pod_of(&json!([{"name": "web", "image": "x"}]));
    let api = FakeApi::serve(Scenario {
        pod: Some(pod),
        agent: Agent::Says(sends),
        ..Scenario::default()
    });
    let kill = |args: &[&str]| {
        let mut command = plugin_with(&api.kubeconfig);
        masked(&seen(&command.args(["kill", "-p", "web"]).args(args).output().unwrap()))
    };
    assert_snapshot!("kill_that_is_survived", kill(&["--timeout", "1"]));
    // Nobody tells the end of other processes.
    assert_snapshot!(
        "kill_of_processes",
        kill(&["--process", "worker", "--times", "2", "--signal", "int"])
    );
    assert_eq!(
        api.added()[0]["securityContext"]["capabilities"]["add"],
        json!(["SYS_PTRACE", "KILL"])
    );
}

#[test]
fn kills_go_on_across_restarts_with_an_agent_for_each() {
    let api = web_with(sends);
    let mut command = plugin_with(&api.kubeconfig);
    command.args(["kill", "-p", "web", "--times", "3", "-o", "json"]);
    let plugin = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let killed = || {
        let heard = api.agent_heard().into_iter();
        let runs = heard.filter_map(|request| match request {
            Request::Signal { plan } => Some(plan.target.id.to_string()),
            _ => None,
        });
        runs.collect::<Vec<_>>()
    };
    let runs = ["0123456789abcdef", "1111111111111111", "2222222222222222", "3333333333333333"];
    for (count, next) in (1..).zip(&runs[1..]) {
        wait_for("a signal", || killed().len() == count);
        restart(&api, next);
    }
    let output = plugin.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_eq!(killed(), runs[..3]);
    assert_eq!(api.added().len(), 3);
    let told = String::from_utf8_lossy(&output.stdout);
    let fates: Vec<Value> = told
        .lines()
        .filter(|line| line.contains(r#""event":"fate""#))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let number = |fate: &Value, key: &str| fate[key].as_i64();
    let restarts: Vec<_> =
        fates.iter().map(|it| (number(it, "exit-code"), number(it, "restarts-after"))).collect();
    assert_eq!(restarts, [1, 2, 3].map(|count| (Some(137), Some(count))), "{told}");
}

#[test]
fn a_limit_of_ephemeral_storage_is_told_of_before_a_disk_is_filled() {
    let limits = json!({"limits": {"ephemeral-storage": "2Gi"}});
    let api = serve(pod_of(&json!([{"name": "web", "image": "x", "resources": limits}])));
    let mut command = plugin_with(&api.kubeconfig);
    command.args(["fill", "disk", "-p", "web", "--path", "/data", "--size", "1Gi", "-r", "1"]);
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    let warned =
        told.find("container web may have 2Gi of ephemeral storage, and the kubelet evicts");
    assert!(output.status.success() && warned.is_some(), "{}", seen(&output));
    assert!(warned < told.find("agent"), "{told}");
}

#[test]
fn calls_that_make_no_sense_are_refused_before_a_cluster_is_asked() {
    let api = serve(pod_of(&json!([{"name": "web", "image": "x"}])));
    let refusals = [
        &["--call", "opnat", "--error", "EIO"][..],
        &["--call", "open", "--error", "EACESS"],
        &["--set", "files", "--error", "EIO"],
        &["--call", "open"],
        &["--error", "EIO"],
        &["--call", "exit_group", "--error", "EIO"],
        &["--call", "getpid", "--error", "EIO", "--path", "/etc/*"],
        &["--call", "open", "--error", "EIO", "--path", "*.html"],
        &["--call", "open", "--error", "EIO", "--when", "7..3"],
        &["--call", "open", "--error", "EIO", "--probability", "0"],
        &["--call", "open", "--error", "EIO", "--call-seed", "1"],
    ]
    .map(|args| {
        let mut command = plugin_with(&api.kubeconfig);
        let output = command.args(["syscall", "-p", "web"]).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", seen(&output));
        format!("=== {}\n{}", args.join(" "), String::from_utf8_lossy(&output.stderr))
    });
    assert_snapshot!(refusals.concat());
    assert!(api.changes().is_empty(), "{:?}", api.changes());
}

fn call_count() -> CallCount {
    CallCount { call: "openat".to_owned(), seen: 9, hit: 7, ended: 8, took_us: 96 }
}

/// An agent that makes calls fail, and counts them.
fn counts(request: &Request) -> Vec<Line> {
    let mut lines = good(request);
    let counts = CallCounts { calls: vec![call_count()], unresolved: 2, ..CallCounts::default() };
    for (_, event) in &mut lines {
        match event {
            Some(Event::ProcessInForce { status }) => status.calls = Some(CallCounts::default()),
            Some(Event::Ended { calls, .. }) => *calls = Some(counts.clone()),
            _ => {}
        }
    }
    if lines.len() > 2 {
        lines.insert(2, (0, Some(Event::Calls { counts })));
    }
    lines
}

#[test]
fn calls_that_are_hit_are_counted() {
    let api = web_with(counts);
    let run = |args: &[&str]| {
        let mut command = plugin_with(&api.kubeconfig);
        command.args(["syscall", "-p", "web", "--call", "open", "--error", "EACCES", "-r", "1"]);
        masked(&seen(&command.args(args).output().unwrap()))
    };
    assert_snapshot!("syscall_counted", run(&[]));
    assert_snapshot!("syscall_counted_json", run(&["-o", "json"]));
    assert_eq!(api.added()[0]["securityContext"]["capabilities"]["add"], json!(["SYS_PTRACE"]));
}

/// An agent that observes, and is asked to for a second.
fn observes(request: &Request) -> Vec<Line> {
    let Request::Observe { plan } = request else { return good(request) };
    assert_eq!((plan.every.to_string(), plan.running_time.to_string()), ("1s".into(), "1s".into()));
    let metrics = Metrics {
        cpu: CpuUsage { span_ms: 1000, used_ms: 250, throttled_ms: 3 },
        memory_bytes: 3 << 20,
        working_set_bytes: 2 << 20,
        processes: 2,
        threads: 5,
        voluntary_switches: 40,
        involuntary_switches: 2,
        received: Carriage { bytes: 2048, packets: 4, dropped: 0 },
        sent: Carriage { bytes: 7, packets: 1, dropped: 0 },
        calls: vec![call_count()],
    };
    vec![(0, Some(Event::Observed { metrics })), (50, None)]
}

/// The same, and it can become anyone.
fn becomes(request: &Request) -> Vec<Line> {
    match request {
        Request::Anchor { .. } => vec![(0, Some(Event::Anchored { pid: 77 }))],
        request => observes(request),
    }
}

#[test]
fn a_container_of_an_unknown_user_is_entered_by_an_agent_that_becomes_it() {
    let api = FakeApi::serve(Scenario {
        pod: Some(pod_of(&json!([{"name": "web", "image": "x"}]))),
        agent: Agent::Says(becomes),
        foreign_user: true,
        ..Scenario::default()
    });
    let observe = || {
        let mut command = plugin_with(&api.kubeconfig);
        command.args(["observe", "-p", "web", "-r", "1", "-o", "csv"]).output().unwrap()
    };
    let output = observe();
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert!(seen(&output).contains("takes SETUID, SETGID"), "{}", seen(&output));
    let [first, second] = &api.added()[..] else { panic!("{:?}", api.added()) };
    assert_eq!(first["securityContext"]["capabilities"]["add"], Value::Null);
    assert_eq!(second["securityContext"]["capabilities"]["add"], json!(["SETUID", "SETGID"]));
    assert!(api.requests().iter().any(|one| one.contains("command=%2Fproc%2F77%2Fexe")));
    // The next time both are there.
    assert_eq!(observe().status.code(), Some(0));
    assert_eq!(api.added().len(), 2);
}

#[test]
fn what_a_container_uses_is_printed_in_each_format() {
    let api = web_with(observes);
    let printed = ["text", "csv", "json"].map(|format| {
        let mut command = plugin_with(&api.kubeconfig);
        command.args(["observe", "-p", "web", "-r", "1", "-o", format]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
        let stdout = String::from_utf8(output.stdout).unwrap();
        // The time is the only word with two colons.
        let masked = stdout.split_inclusive([' ', ',']).map(|word| {
            if word.matches(':').count() < 2 { word.to_owned() } else { "TIME ".to_owned() }
        });
        masked.collect::<String>()
    });
    assert_snapshot!(printed.join("\n"));
    assert_eq!(api.added()[0]["securityContext"]["capabilities"], json!({"drop": ["ALL"]}));
}

/// An agent that observes for a second.
fn observes_often(request: &Request) -> Vec<Line> {
    let Request::Observe { .. } = request else { return good(request) };
    let metrics = Metrics::default;
    let mut lines: Vec<_> =
        (0..5).map(|_| (200, Some(Event::Observed { metrics: metrics() }))).collect();
    lines.push((0, None));
    lines
}

#[test]
fn a_url_is_asked_meanwhile_and_its_silence_is_told() {
    let api = web_with(observes_often);
    // Nobody listens there any more.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = plugin_with(&api.kubeconfig);
    command.args(["observe", "-p", "web", "-r", "1", "--every", "100ms", "-o", "csv"]);
    let output = command.args(["--url", &format!("http://{address}/")]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(told.matches("does not answer: ").count(), 1, "{told}");
    let rows = String::from_utf8_lossy(&output.stdout);
    let mut statuses = rows.lines().skip(1).filter_map(|line| line.split(',').nth(23));
    assert!(statuses.any(|status| status == "0"), "{rows}");
}

/// An agent that observes for a while, and whose faults end soon.
pub fn goes_through(request: &Request) -> Vec<Line> {
    let Request::Observe { .. } = request else { return good(request) };
    let metrics = Metrics::default;
    (0..200).map(|_| (50, Some(Event::Observed { metrics: metrics() }))).collect()
}

/// Goes through a list, with such durations of faults and baselines, into a folder in that one.
fn matrix(api: &FakeApi, folder: &Path, list: &str, [duration, baseline]: [&str; 2]) -> Child {
    let file = folder.join("faults.yaml");
    fs::write(&file, list).unwrap();
    let mut command = plugin_with(&api.kubeconfig);
    command.args(["syscall", "matrix", "-p", "web", "--every", "50ms", "--faults"]).arg(&file);
    command.args(["--duration", duration, "--baseline", baseline, "--to"]).arg(folder.join("to"));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The phases that have been written down there, in turn.
fn phases(folder: &Path) -> Vec<String> {
    let csv = fs::read_to_string(folder.join("to/metrics.csv")).unwrap();
    let rows = csv.lines().skip(1);
    let mut phases: Vec<_> =
        rows.filter_map(|row| Some(row.split(',').nth(1)?.to_owned())).collect();
    phases.dedup();
    phases
}

#[test]
fn faults_are_gone_through_and_what_is_done_is_not_done_again() {
    let api = web_with(goes_through);
    let folder = tempfile::tempdir().unwrap();
    let run = |list: &str, times: &str| {
        matrix(&api, folder.path(), list, [times, times]).wait_with_output().unwrap()
    };
    let read = |name: &str| fs::read_to_string(folder.path().join("to").join(name)).unwrap();
    let disturbed = || {
        let heard = api.agent_heard().into_iter();
        let calls = heard.filter_map(|request| match request {
            Request::Disturb { plan } => Some(plan.fault.to_string()),
            _ => None,
        });
        calls.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    let list = "- each: [open, read]\n  with: [{error: EIO}]";
    let first = run(list, "300ms");
    assert_eq!(first.status.code(), Some(0), "{}", seen(&first));
    assert_eq!(disturbed(), ["open: error EIO", "read: error EIO"]);
    let rows = read("metrics.csv");
    let mut rows: Vec<_> =
        rows.lines().skip(1).map(|row| row.splitn(3, ',').take(2).collect::<Vec<_>>()).collect();
    assert_eq!(rows.len(), read("metrics.jsonl").lines().count());
    rows.dedup();
    let phases = ["before", "during", "after"];
    let all =
        ["open: error EIO", "read: error EIO"].map(|fault| phases.map(|phase| [fault, phase]));
    assert_eq!(rows, all.concat());
    let count = api.agent_heard().len();
    let again = seen(&run(list, "300ms"));
    assert!(again.starts_with("exit: 0") && again.contains("all 2 faults are done"), "{again}");
    assert!(api.agent_heard().len() <= count + 1, "{again}");
    for (list, times, why) in [
        (list, "400ms", "it is of other faults, another target, or other times"),
        ("- each: [opnat]\n  with: [{error: EIO}]", "300ms", "is not a system call"),
    ] {
        let refused = seen(&run(list, times));
        assert!(refused.contains(why), "{refused}");
    }
}

/// The id of a container that was restarted.
const SECOND: &str = "fedcba9876543210";

/// The same, with faults that go on for a while unless they are reverted.
fn goes_through_slowly(request: &Request) -> Vec<Line> {
    match request {
        Request::Disturb { .. } => {
            let mut lines = good(request);
            lines[2].0 = 900;
            lines
        }
        Request::Revert { fault } => {
            vec![(0, Some(ended(fault.expect("one fault"), Ending::Request))), (0, None)]
        }
        request => goes_through(request),
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_list_goes_on_where_it_was() {
    let api = web_with(goes_through_slowly);
    let folder = tempfile::tempdir().unwrap();
    let list = "- each: [open, read]\n  with: [{error: EIO}]";
    let run = || matrix(&api, folder.path(), list, ["1s", "300ms"]);
    let plugin = run();
    let is_hit = |request: &Request| matches!(request, Request::Disturb { .. });
    wait_for("a fault", || api.agent_heard().iter().any(is_hit));
    let pid = plugin.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = plugin.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", seen(&output));
    assert!(seen(&output).contains("of 2 faults: the same command goes on"), "{}", seen(&output));
    let output = run().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert!(seen(&output).contains("all 2 faults are done"), "{}", seen(&output));
    assert_eq!(phases(folder.path()), ["before", "during", "after"].repeat(2));
}

/// What the kubelet says when the container runs again, and has that id. Its agents have died with it.
fn restart(api: &FakeApi, id: &str) {
    let mut status = api.pod()["status"].clone();
    for agent in status["ephemeralContainerStatuses"].as_array_mut().into_iter().flatten() {
        agent["state"] = json!({"terminated": {"exitCode": 137}});
    }
    let one = &mut status["containerStatuses"][0];
    one["lastState"] = json!({"terminated": {"exitCode": 137, "reason": "Error", "containerID": one["containerID"]}});
    one["containerID"] = json!(format!("containerd://{id}"));
    one["restartCount"] = json!(one["restartCount"].as_u64().unwrap() + 1);
    api.meddle(&json!({ "status": status }));
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "no {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The first fault ends with its agent and without a word, as when the container does.
fn loses_its_first_container(request: &Request) -> Vec<Line> {
    match request {
        Request::Disturb { plan } if plan.target.id.as_str() != SECOND => {
            let mut lines = good(request);
            lines.truncate(2);
            lines.push((400, None));
            lines
        }
        Request::Observe { plan }
            if plan.container.as_ref().is_some_and(|id| id.as_str() != SECOND) =>
        {
            let mut lines = goes_through(request);
            lines.truncate(16);
            lines.push((0, None));
            lines
        }
        request => goes_through(request),
    }
}

/// The first fault fails, as when the container ends before it is in force.
fn fails_in_its_first_container(request: &Request) -> Vec<Line> {
    match request {
        Request::Disturb { plan } if plan.target.id.as_str() != SECOND => {
            let message = "no process of container web can be seen by the agent".to_owned();
            let failure = Failure { kind: FailureKind::NotFound, message, hint: None };
            vec![(0, Some(Event::Failed { failure })), (0, None)]
        }
        request => loses_its_first_container(request),
    }
}

/// Goes through one fault, and has the container restart as soon as it is asked for, if it is to. Exit code and
/// output, the containers for which it was asked for, and for how long.
fn hit_again(says: Says, restarts: bool) -> (Output, Vec<(String, RunTime)>) {
    let api = web_with(says);
    let folder = tempfile::tempdir().unwrap();
    let list = "- each: [open]\n  with: [{error: EIO}]";
    let plugin = matrix(&api, folder.path(), list, ["5s", "300ms"]);
    let disturbed = || {
        let heard = api.agent_heard().into_iter();
        let plans = heard.filter_map(|request| match request {
            Request::Disturb { plan } => Some((plan.target.id.to_string(), plan.running_time)),
            _ => None,
        });
        plans.collect::<Vec<_>>()
    };
    wait_for("anything to be hit", || !disturbed().is_empty());
    if restarts {
        restart(&api, SECOND);
    }
    let output = plugin.wait_with_output().unwrap();
    if restarts {
        let all = ["before", "during", "after"];
        assert_eq!(phases(folder.path()), all, "{}", seen(&output));
    }
    (output, disturbed())
}

fn assert_hit_again(says: Says) {
    let (output, disturbed) = hit_again(says, true);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    let (first, second) = (&disturbed[0], &disturbed[1]);
    assert_eq!((first.0.as_str(), second.0.as_str()), ("0123456789abcdef", SECOND));
    assert!(second.1 < first.1, "{disturbed:?}");
    assert!(seen(&output).contains("lost sight of container web"), "{}", seen(&output));
}

#[test]
fn a_restart_is_hit_again_for_the_rest_of_its_time() {
    assert_hit_again(loses_its_first_container);
}

#[test]
fn what_fails_because_of_a_restart_is_begun_again() {
    assert_hit_again(fails_in_its_first_container);
}

#[test]
fn what_fails_without_a_restart_is_a_failure() {
    let (output, disturbed) = hit_again(fails_in_its_first_container, false);
    assert_eq!(output.status.code(), Some(3), "{}", seen(&output));
    assert!(seen(&output).contains("no process of container web can be seen"), "{}", seen(&output));
    assert_eq!(disturbed.len(), 1, "{disturbed:?}");
}
