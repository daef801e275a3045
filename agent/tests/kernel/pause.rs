//! Paused processes, as `/proc` shows them.

use std::fs;

use nix::sys::signal::{Signal, kill};
use pod_chaos_protocol::{Ending, Event, FailureKind, FaultState};
use serde_json::{Value, json};

use crate::{
    container::{Container, kill_agent},
    pod::{clean_end, disturb, failure, revert, status, until},
    requirement::tests,
};

tests! {
    Namespaces:
        stops_many_threads_and_lets_them_go,
        ends_at_its_deadline,
        goes_on_as_soon_as_the_agent_is_killed,
        another_agent_sees_and_ends_it,
        only_processes_that_match_are_stopped,
        the_sandbox_and_other_containers_are_spared,
        a_traced_process_is_refused,
        an_app_that_is_killed_ends_it;
}

fn plan(container: &Container, time: &str) -> Value {
    json!({ "id": "00000001", "running-time": time, "target": container.target(), "fault": "pause" })
}

/// Fails unless no thread of the app runs.
fn assert_paused(container: &Container) {
    let states = container.threads("State");
    assert!(states.iter().all(|state| state.starts_with('t')), "{states:?}");
    assert!(!container.runs());
}

fn assert_free(container: &Container) {
    assert!(container.runs());
    assert!(container.threads("TracerPid").iter().all(|tracer| tracer == "0"));
}

fn stops_many_threads_and_lets_them_go() {
    let container = Container::new(100);
    assert_free(&container);
    let (mut agent, status) = container.disturb(&plan(&container, "60s"));
    assert_eq!((status.processes, status.state), (1, FaultState::InForce));
    assert!(status.threads >= 100, "{status:?}");
    assert_paused(&container);
    agent.send(&revert());
    assert_eq!(clean_end(agent.next()).0, Ending::Request);
    assert_free(&container);
}

fn ends_at_its_deadline() {
    let container = Container::new(5);
    let (mut agent, _) = container.disturb(&plan(&container, "300ms"));
    let (by, ran_ms, _) = clean_end(agent.next());
    assert_eq!(by, Ending::Deadline);
    assert!((300..1000).contains(&ran_ms), "{ran_ms} ms");
    assert_free(&container);
}

/// With a process namespace that a pod's containers share, its first process is the sandbox's.
fn the_sandbox_and_other_containers_are_spared() {
    let sandbox = Container::with("exec sleep 1234");
    let (app, other) = (sandbox.sharing(5), sandbox.sharing(3));
    let (mut agent, status) = app.disturb(&plan(&app, "60s"));
    assert_eq!(status.processes, 1, "{status:?}");
    assert_paused(&app);
    assert_free(&other);
    assert_eq!(sandbox.threads("TracerPid"), ["0"]);
    agent.send(&revert());
    assert_eq!(clean_end(agent.next()).0, Ending::Request);
    assert_free(&app);
    // It has no first process that the kernel would spare, so a plain SIGKILL ends it.
    let kill = json!({ "request": "signal", "plan": { "target": app.target(), "signal": "KILL" } });
    app.ask(&kill);
    until("its end", || app.threads("State").is_empty().then_some(()));
    assert_free(&other);
    assert_eq!(sandbox.threads("TracerPid"), ["0"]);
}

fn goes_on_as_soon_as_the_agent_is_killed() {
    let container = Container::new(20);
    let (mut agent, _) = container.disturb(&plan(&container, "60s"));
    assert_paused(&container);
    kill_agent(&mut agent);
    assert_free(&container);
    let nothing = [Event::Status { faults: vec![], processes: vec![] }];
    assert_eq!(container.ask(&status()), nothing);
}

fn another_agent_sees_and_ends_it() {
    let container = Container::new(20);
    let (mut agent, in_force) = container.disturb(&plan(&container, "60s"));
    let seen = container.ask(&status());
    let [Event::Status { processes, .. }] = &seen[..] else { panic!("{seen:?}") };
    assert_eq!((processes[0].fault, processes[0].threads), (in_force.fault, in_force.threads));
    assert!(processes[0].remaining_ms <= in_force.remaining_ms);
    let mut answers = container.ask(&revert()).into_iter();
    assert_eq!(clean_end(answers.next()).0, Ending::Request);
    assert_eq!(answers.next(), Some(Event::Status { faults: vec![], processes: vec![] }));
    assert_eq!(clean_end(agent.next()).0, Ending::Request);
    assert_free(&container);
    // Once more is harmless.
    assert_eq!(container.ask(&revert()).len(), 1);
}

fn only_processes_that_match_are_stopped() {
    let container = Container::with("sleep 1234 & sleep 4321 & wait; exec true");
    let children = || {
        let path = format!("/proc/{0}/task/{0}/children", container.pid);
        let pids = fs::read_to_string(path).unwrap();
        let state = |pid: &str| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let state = stat.rsplit_once(") ").unwrap().1.chars().next().unwrap();
            (String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned(), state)
        };
        pids.split_whitespace().map(state).collect::<Vec<_>>()
    };
    let sleeps = |states: [char; 2]| {
        children() == [("sleep 1234".to_owned(), states[0]), ("sleep 4321".to_owned(), states[1])]
    };
    until("children that sleep", || sleeps(['S', 'S']).then_some(()));
    let mut plan = plan(&container, "60s");
    plan["target"]["matching"] = "^sleep 12".into();
    let (mut agent, status) = container.disturb(&plan);
    assert_eq!((status.processes, status.threads), (1, 1));
    assert!(sleeps(['t', 'S']), "{:?}", children());
    agent.send(&revert());
    assert_eq!(clean_end(agent.next()).0, Ending::Request);
    until("sleep to go on", || sleeps(['S', 'S']).then_some(()));
    plan["target"]["matching"] = "nothing".into();
    let events = container.ask(&disturb(&plan));
    assert_eq!(failure(&events).kind, FailureKind::NotFound);
}

fn a_traced_process_is_refused() {
    let container = Container::new(5);
    let (_agent, _) = container.disturb(&plan(&container, "60s"));
    let mut second = plan(&container, "60s");
    second["id"] = "00000002".into();
    let events = container.ask(&disturb(&second));
    let failure = failure(&events);
    assert_eq!(failure.kind, FailureKind::Conflict);
    assert!(failure.message.contains("is traced by process"), "{failure}");
    assert_paused(&container);
}

fn an_app_that_is_killed_ends_it() {
    let container = Container::with("sleep 1234 & wait; sleep 4321");
    let child = container.child("sleep");
    let mut plan = plan(&container, "60s");
    plan["target"]["matching"] = "^sleep 1234".into();
    let (mut agent, _) = container.disturb(&plan);
    kill(child, Signal::SIGKILL).unwrap();
    assert_eq!(clean_end(agent.next()).0, Ending::Gone);
}
