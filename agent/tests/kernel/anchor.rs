//! A process that is the same user as a container's own, and by whose file others of that user can start the agent.

use std::{fs, process::Command};

use pod_chaos_protocol::{Event, FailureKind};
use serde_json::json;

use crate::{
    container::Container,
    pod::{failure, until},
    requirement::tests,
};

tests! {
    Namespaces:
        the_containers_user_can_start_the_agent_by_it,
        there_is_none_for_a_container_that_has_ended;
}

fn the_containers_user_can_start_the_agent_by_it() {
    let container =
        Container::with("exec setpriv --reuid 1234 --regid 4321 --clear-groups sleep 1234");
    until("another user", || (container.threads("Uid")[0].starts_with("1234")).then_some(()));
    let mut agent = container.agent();
    agent.send(&json!({ "request": "anchor", "target": container.target() }));
    let pid = match agent.next() {
        Some(Event::Anchored { pid }) => pid,
        other => panic!("{other:?}"),
    };
    let status = || fs::read_to_string(format!("/proc/{}/root/proc/{pid}/status", container.pid));
    let is = |line: &str| {
        let status = status().unwrap();
        assert!(status.lines().any(|one| one == line), "{line}: {status}");
    };
    let start = || {
        let target = format!("--target={}", container.pid);
        let user = ["--pid", "--mount", "--setuid=1234", "--setgid=4321"];
        let mut command = Command::new("nsenter");
        command.arg(target).args(user).arg(format!("/proc/{pid}/exe")).arg("version");
        command.output().unwrap()
    };
    // It is started in two steps.
    until("the agent's file", || start().status.success().then_some(()));
    is("Uid:\t1234\t1234\t1234\t1234");
    is("Gid:\t4321\t4321\t4321\t4321");
    is("CapEff:\t0000000000000000");
    is("Groups:\t ");
    assert_eq!(agent.rest(), []);
    assert!(status().is_err(), "it is still there");
}

fn there_is_none_for_a_container_that_has_ended() {
    let container = Container::with("exec sleep 1234");
    let target = json!({ "container": "app", "id": "0badc0de0badc0de" });
    let events = container.ask(&json!({ "request": "anchor", "target": target }));
    assert_eq!(failure(&events).kind, FailureKind::NotFound);
}
