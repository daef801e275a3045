//! Processor time that is burnt, by the files of the control group that is to pay for it.

use std::{
    fs,
    time::{Duration, Instant},
};

use pod_chaos_protocol::{Ending, Event, FailureKind, Phase};
use serde_json::{Value, json};

use crate::{
    container::{Container, kill_agent},
    pod::{clean_end, disturb, failure, revert, status},
    requirement::tests,
};

tests! {
    Namespaces:
        processors_are_burnt_in_the_group_of_the_container,
        a_killed_burner_burns_no_more,
        a_share_of_no_limit_is_refused;
}

fn request(container: &Container, load: &Value, time: &str) -> Value {
    let fault = json!({ "burn-cpu": { "load": load } });
    let target = container.target();
    let plan = json!({ "id": "00000001", "running-time": time, "target": target, "fault": fault });
    disturb(&plan)
}

fn share(percent: &str, of: &str) -> Value {
    json!({ "share": { "percent": percent, "of": of } })
}

/// Processor time of the container's control group, in seconds.
pub fn used(container: &Container) -> f64 {
    for group in &container.groups {
        if let Ok(nanos) = fs::read_to_string(group.join("cpuacct.usage")) {
            return nanos.trim().parse::<f64>().unwrap() / 1e9;
        }
        let stat = fs::read_to_string(group.join("cpu.stat")).unwrap_or_default();
        if let Some(micros) = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")) {
            return micros.parse::<f64>().unwrap() / 1e6;
        }
    }
    panic!("{:?} have no processor time", container.groups);
}

fn idle() -> Container {
    Container::with("exec sleep 1234")
}

fn processors_are_burnt_in_the_group_of_the_container() {
    let container = idle();
    let mut agent = container.agent_in_its_group();
    agent.send(&request(&container, &share("30%", "core"), "600ms"));
    let before = agent.next();
    let Some(Event::CpuUsed { phase: Phase::Before, usage }) = before else { panic!("{before:?}") };
    assert!(usage.used_ms < 100, "{usage:?}");
    let (start, used_before) = (Instant::now(), used(&container));
    let Some(Event::ProcessInForce { status }) = agent.next() else { panic!() };
    assert_eq!((status.processes, status.threads), (1, 1));
    let during = agent.next();
    let (took, burnt) = (start.elapsed().as_secs_f64(), used(&container) - used_before);
    let Some(Event::CpuUsed { phase: Phase::During, usage }) = during else { panic!("{during:?}") };
    // No more than asked for, whatever the machine does; and no less, unless it has no time at all.
    assert!((0.1..0.34).contains(&(burnt / took)), "{burnt} s in {took} s");
    let told = Duration::from_millis(usage.used_ms).as_secs_f64();
    assert!((told - burnt).abs() < 0.05, "{told} s told, {burnt} s burnt");
    let after = agent.next();
    assert!(matches!(after, Some(Event::CpuUsed { phase: Phase::After, .. })), "{after:?}");
    assert_eq!(clean_end(agent.next()).0, Ending::Deadline);
}

fn a_killed_burner_burns_no_more() {
    let container = idle();
    let mut agent = container.agent_in_its_group();
    agent.send(&request(&container, &json!({ "workers": 1 }), "60s"));
    assert!(matches!(agent.next(), Some(Event::CpuUsed { .. })));
    assert!(matches!(agent.next(), Some(Event::ProcessInForce { .. })));
    // Another agent sees it, and could end it.
    let [Event::Status { processes, .. }] = &container.ask(&status())[..] else { panic!() };
    assert_eq!(processes.len(), 1);
    kill_agent(&mut agent);
    let before = used(&container);
    std::thread::sleep(Duration::from_millis(300));
    assert!(used(&container) - before < 0.02, "it burns on");
    assert_eq!(container.ask(&revert()).len(), 1);
}

fn a_share_of_no_limit_is_refused() {
    let container = idle();
    let mut agent = container.agent_in_its_group();
    agent.send(&request(&container, &share("80%", "limit"), "1s"));
    let events = agent.rest();
    let failure = failure(&events);
    assert_eq!(failure.kind, FailureKind::Unsupported);
    assert!(failure.message.contains("has no limit"), "{failure}");
}
