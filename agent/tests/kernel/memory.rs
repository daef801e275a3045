//! Memory that is held, by the files of the control group that it is charged to.

use std::{
    process::Child,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pod_chaos_protocol::{Ending, Event, FailureKind, Phase};
use serde_json::{Value, json};

use crate::{
    container::{Container, kill_agent, pid_of},
    pod::{Agent, clean_end, disturb, failure, revert, until},
    requirement::tests,
};

tests! {
    Namespaces:
        memory_is_held_and_gives_way_to_the_app,
        a_killed_holder_holds_nothing,
        a_holder_that_cannot_give_way_dies_before_the_app,
        who_is_killed_for_lack_of_memory_is_the_app,
        a_part_of_no_limit_is_refused;
}

const LIMIT: u64 = 48 << 20;
/// How far from what was asked for: 2 % of the limit.
const TOLERANCE: u64 = LIMIT / 50;

fn request(container: &Container, load: &Value, time: &str) -> Value {
    let burn = json!({ "load": load, "allow-node-pressure": true });
    let plan = json!({ "id": "00000001", "running-time": time, "target": container.target(),
                       "fault": { "burn-memory": burn } });
    disturb(&plan)
}

fn limited() -> Container {
    let container = Container::with("exec sleep 1234");
    container.set(&["memory.limit_in_bytes", "memory.max"], &LIMIT.to_string());
    container
}

/// What its processes use, files that can be dropped left out.
pub fn used(container: &Container) -> u64 {
    let all = container.read(&["memory.usage_in_bytes", "memory.current"]);
    let stat = container.read(&["memory.stat"]);
    let files = stat.lines().find_map(|line| {
        line.strip_prefix("total_inactive_file ").or(line.strip_prefix("inactive_file "))
    });
    all.trim().parse::<u64>().unwrap() - files.unwrap().parse::<u64>().unwrap()
}

/// What its processes use for themselves.
fn rss(container: &Container) -> u64 {
    let stat = container.read(&["memory.stat"]);
    let line = |line: &str| {
        line.strip_prefix("total_rss ").or(line.strip_prefix("anon ")).map(str::to_owned)
    };
    stat.lines().find_map(line).unwrap().parse().unwrap()
}

fn in_force(container: &Container, load: &Value, time: &str) -> Agent {
    let mut agent = container.agent_in_its_group();
    agent.send(&request(container, load, time));
    let before = agent.next();
    assert!(matches!(before, Some(Event::MemoryUsed { phase: Phase::Before, .. })), "{before:?}");
    let in_force = agent.next();
    assert!(matches!(in_force, Some(Event::ProcessInForce { .. })), "{in_force:?}");
    agent
}

/// An app that keeps so many MiB, until its input ends.
pub fn app(container: &Container, mib: u32) -> Child {
    container
        .start_beside(&format!("(head -c {mib}M /dev/zero; cat) | exec tail -c {mib}M >/dev/null"))
}

fn memory_is_held_and_gives_way_to_the_app() {
    let container = limited();
    let before = used(&container);
    let mut agent = in_force(&container, &json!({ "to": "75%" }), "60s");
    let goal = LIMIT / 4 * 3;
    let now = used(&container);
    assert!(now.abs_diff(goal) <= TOLERANCE, "{now} used, {goal} asked for");
    let mut app = app(&container, 12);
    let rss = || rss(&container);
    until("the app to grow", || (rss() > 12 << 20).then_some(()));
    until("the rest to give way", || (used(&container).abs_diff(goal) <= TOLERANCE).then_some(()));
    drop(app.stdin.take());
    app.wait().unwrap();
    until("the rest to grow again", || {
        (rss() < 12 << 20 && used(&container).abs_diff(goal) <= TOLERANCE).then_some(())
    });
    agent.send(&revert());
    let Some(Event::MemoryUsed { phase: Phase::During, usage }) = agent.next() else { panic!() };
    assert!(usage.used.abs_diff(goal) <= TOLERANCE && usage.limit == Some(LIMIT), "{usage:?}");
    let Some(Event::MemoryUsed { phase: Phase::After, .. }) = agent.next() else { panic!() };
    assert_eq!(clean_end(agent.next()).0, Ending::Request);
    let after = used(&container);
    assert!(after <= before + (4 << 20), "{before} before, {after} after");
    assert_eq!(
        container
            .read(&["memory.failcnt", "memory.events"])
            .lines()
            .filter(|line| line.starts_with("oom_kill "))
            .find(|line| !line.ends_with(" 0")),
        None
    );
}

fn a_killed_holder_holds_nothing() {
    let container = limited();
    let before = used(&container);
    let mut agent = in_force(&container, &json!({ "size": "24Mi" }), "60s");
    let now = used(&container);
    assert!(now >= before + (24 << 20), "{before} before, {now} in force");
    kill_agent(&mut agent);
    until("the memory to be free", || (used(&container) < before + (4 << 20)).then_some(()));
    assert_eq!(container.ask(&revert()).len(), 1);
}

/// It is stopped, so that it cannot shrink.
fn a_holder_that_cannot_give_way_dies_before_the_app() {
    let container = limited();
    let mut agent = in_force(&container, &json!({ "size": "36Mi" }), "60s");
    kill(pid_of(&agent), Signal::SIGSTOP).unwrap();
    let mut app = app(&container, 16);
    until("the app to grow", || (rss(&container) > 16 << 20).then_some(()));
    // The command that entered the namespaces stands still with it.
    kill(Pid::from_raw(agent.child.id().cast_signed()), Signal::SIGCONT).unwrap();
    agent.child.wait().unwrap();
    assert_eq!(container.ask(&revert()).len(), 1);
    drop(app.stdin.take());
    assert!(app.wait().unwrap().success(), "the app was killed");
}

fn who_is_killed_for_lack_of_memory_is_the_app() {
    let container = limited();
    let mut app = app(&container, 16);
    until("the app", || (used(&container) > 16 << 20).then_some(()));
    let start = Instant::now();
    let mut agent = in_force(&container, &json!("oom"), "30s");
    let killed = agent.next();
    let Some(Event::OutOfMemory { kills: 1.., processes }) = killed else { panic!("{killed:?}") };
    assert!(processes.iter().any(|one| one.name == "tail"), "{processes:?}");
    let rest = agent.rest();
    assert_eq!(clean_end(rest.into_iter().last()).0, Ending::Gone);
    assert!(start.elapsed() < Duration::from_secs(30));
    drop(app.stdin.take());
    app.wait().unwrap();
    // Its first process uses less, and lives.
    assert!(!container.threads("State").is_empty());
}

fn a_part_of_no_limit_is_refused() {
    let container = Container::with("exec sleep 1234");
    let mut agent = container.agent_in_its_group();
    agent.send(&request(&container, &json!({ "to": "80%" }), "1s"));
    let events = agent.rest();
    let failure = failure(&events);
    assert_eq!(failure.kind, FailureKind::Unsupported);
    assert!(failure.message.contains("no limit of memory"), "{failure}");
}
