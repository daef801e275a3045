//! Signals, by what becomes of the processes that get them.

use std::fs;

use pod_chaos_protocol::{Event, FailureKind, ProcessSignal};
use serde_json::{Value, json};

use crate::{
    container::Container,
    pod::{failure, until},
    requirement::tests,
};

tests! {
    Namespaces:
        a_handled_signal_arrives,
        an_end_is_asked_for_where_that_is_handled,
        a_first_process_that_handles_nothing_is_killed,
        what_the_kernel_would_keep_from_it_is_refused,
        a_first_process_that_is_traced_cannot_be_killed,
        only_those_that_match_get_it;
}

fn request(container: &Container, signal: Option<&str>) -> Value {
    let mut plan = json!({ "target": container.target() });
    if let Some(signal) = signal {
        plan["signal"] = signal.into();
    }
    json!({ "request": "signal", "plan": plan })
}

/// Sends it; who gets what, before it is known what comes of it.
fn signals(container: &Container, request: &Value) -> Vec<ProcessSignal> {
    let mut agent = container.agent();
    agent.send(request);
    match agent.next() {
        Some(Event::Signals { signals }) => signals,
        other => panic!("{other:?}"),
    }
}

/// To kill it takes a tracer, and another one is there: that is said, and by whom.
fn a_first_process_that_is_traced_cannot_be_killed() {
    let container = Container::with("sleep 1234 & wait");
    let pause = json!({
        "id": "00000001", "running-time": "60s", "target": container.target(), "fault": "pause",
    });
    let (_agent, _) = container.disturb(&pause);
    let request = request(&container, Some("KILL"));
    let events = container.ask(&request);
    let failure = failure(&events);
    assert_eq!(failure.kind, FailureKind::Conflict);
    assert!(failure.message.contains("is traced by process"), "{failure}");
}

fn command_line(pid: impl std::fmt::Display) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned()
}

fn until_gone(container: &Container) {
    // Its parent asks for it at once.
    until("the end", || command_line(container.pid).is_empty().then_some(()));
}

/// A first process that handles this signal so, once it has come to that.
fn trap(signal: &str, what: &str) -> Container {
    let container =
        Container::with(&format!("trap \"{what}\" {signal}; while :; do sleep 0.02; done"));
    until("the trap", || {
        let status = fs::read_to_string(format!("/proc/{}/status", container.pid)).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t"))?;
        let bit = if signal == "HUP" { 0 } else { 14 };
        (u64::from_str_radix(caught, 16).ok()? & (1 << bit) != 0).then_some(())
    });
    container
}

fn a_handled_signal_arrives() {
    let container = trap("HUP", "exec sleep 7777");
    let sent = signals(&container, &request(&container, Some("HUP")));
    let told = json!([{ "pid": 1, "name": "sh", "signal": "SIGHUP", "disposition": "handled" }]);
    assert_eq!(serde_json::to_value(sent).unwrap(), told);
    until("what the handler does", || (command_line(container.pid) == "sleep 7777").then_some(()));
}

fn an_end_is_asked_for_where_that_is_handled() {
    let container = trap("TERM", "exit 3");
    let sent = signals(&container, &request(&container, None));
    assert_eq!(sent[0].signal.to_string(), "SIGTERM");
    until_gone(&container);
}

fn a_first_process_that_handles_nothing_is_killed() {
    let container = Container::new(3);
    let sent = signals(&container, &request(&container, None));
    assert_eq!(sent[0].signal.to_string(), "SIGKILL");
    until_gone(&container);
}

fn what_the_kernel_would_keep_from_it_is_refused() {
    let container = Container::new(3);
    for signal in ["USR1", "TERM", "STOP"] {
        let events = container.ask(&request(&container, Some(signal)));
        let failure = failure(&events);
        assert_eq!(failure.kind, FailureKind::Unsupported);
        assert!(failure.message.contains("process 1"), "{failure}");
    }
    assert!(container.runs());
}

fn only_those_that_match_get_it() {
    let container = Container::with("sleep 1234 & sleep 4321 & wait; exec sleep 9999");
    let children = || {
        let path = format!("/proc/{0}/task/{0}/children", container.pid);
        let pids = fs::read_to_string(path).unwrap();
        pids.split_whitespace().map(command_line).collect::<Vec<_>>()
    };
    let expected = |lines: &[&str]| until("children", || (children() == lines).then_some(()));
    expected(&["sleep 1234", "sleep 4321"]);
    let mut request = request(&container, Some("KILL"));
    request["plan"]["target"]["matching"] = "^sleep 4".into();
    let events = container.ask(&request);
    assert!(
        matches!(&events[..], [Event::Signals { signals }] if signals.len() == 1),
        "{events:?}"
    );
    // Its parent, a shell, has asked for it before it goes on to wait.
    expected(&["sleep 1234"]);
}
