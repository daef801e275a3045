//! A plan that comes with the container.

use std::{
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use pod_chaos_protocol::{Ending, Event, FailureKind};
use serde_json::{Value, json};

use crate::{
    pod::{
        Agent, PEER4, Pod, agent_path, apply, clean_end, failure, on, parts, plan, revert, until,
    },
    requirement::tests,
};

tests! {
    Namespaces:
        one_that_cannot_be_read_is_left,
        one_of_another_protocol_is_left,
        one_that_comes_too_late_is_left;
    Delay:
        is_in_force_before_anyone_asks,
        is_joined_by_who_asks_for_it,
        is_reverted_on_the_stream_that_joined,
        is_not_put_in_force_twice,
        is_reported_when_it_has_just_ended,
        is_put_in_force_when_asked_if_it_came_too_late,
        says_why_it_failed_to_who_asks,
        does_not_come_after_its_own_revert;
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

/// `wait` with that argument.
fn wait_with(pod: &Pod, argument: &str) -> Agent {
    pod.start(&[&agent_path(), "wait", argument])
}

/// `wait` with a plan that is fresh from `from` to `until` seconds from now.
fn carrying(pod: &Pod, plan: &Value, (from, until): (i64, i64)) -> Agent {
    let carried =
        json!({"protocol": 1, "from": now() + from, "until": now() + until, "plan": plan});
    wait_with(pod, &carried.to_string())
}

const FRESH: (i64, i64) = (-2, 9);
const STALE: (i64, i64) = (-60, -1);

/// Nothing happens, and the agent goes on waiting.
fn assert_left(pod: &Pod, mut agent: Agent) {
    thread::sleep(Duration::from_millis(500));
    pod.assert_clean();
    assert!(agent.child.try_wait().unwrap().is_none(), "the agent has gone");
}

fn one_that_cannot_be_read_is_left() {
    let pod = Pod::new();
    assert_left(&pod, wait_with(&pod, "{"));
    assert_left(&pod, wait_with(&pod, "{\"protocol\":1}"));
}

fn one_of_another_protocol_is_left() {
    let pod = Pod::new();
    let plan = plan("0badcafe", "30s", "50ms");
    let carried = json!({"protocol": 2, "from": now() - 2, "until": now() + 9, "plan": plan});
    assert_left(&pod, wait_with(&pod, &carried.to_string()));
}

fn one_that_comes_too_late_is_left() {
    let pod = Pod::new();
    let plan = plan("0badcafe", "30s", "50ms");
    assert_left(&pod, carrying(&pod, &plan, STALE));
    // A clock that is far behind is no better.
    assert_left(&pod, carrying(&pod, &plan, (60, 70)));
}

fn in_force(pod: &Pod, id: &str) {
    until("the fault", || (pod.leftovers() == parts(id)).then_some(()));
}

fn is_in_force_before_anyone_asks() {
    let pod = Pod::new();
    let _agent = carrying(&pod, &plan("0badcafe", "2s", "50ms"), FRESH);
    in_force(&pod, "0badcafe");
    assert!(pod.round_trip() >= 50.0);
    // Nobody ever asks: the kernel ends it, the agent clears it.
    thread::sleep(Duration::from_secs(2));
    assert!(pod.round_trip() < 50.0);
    until("a clean pod", || pod.leftovers().is_empty().then_some(()));
}

fn is_joined_by_who_asks_for_it() {
    let pod = Pod::new();
    let plan = plan("0badcafe", "2s", "50ms");
    let _agent = carrying(&pod, &plan, FRESH);
    in_force(&pod, "0badcafe");
    thread::sleep(Duration::from_millis(300));
    let (mut serve, status) = pod.disrupt(&plan);
    assert!(status.age_ms >= 300 && status.remaining_ms <= 1_700, "{status:?}");
    assert!(pod.ping(PEER4, 3, "0.02").len() == 3);
    let (by, ran_ms, packets) = serve.ended();
    assert_eq!((by, ran_ms), (Ending::Timer, 2_000));
    assert!(packets >= 3, "{packets} packets");
    pod.assert_clean();
}

fn is_reverted_on_the_stream_that_joined() {
    let pod = Pod::new();
    let plan = plan("0badcafe", "60s", "50ms");
    let _agent = carrying(&pod, &plan, FRESH);
    let (mut serve, _) = pod.disrupt(&plan);
    serve.send(&revert());
    assert_eq!(serve.ended().0, Ending::Request);
    pod.assert_clean();
}

fn is_not_put_in_force_twice() {
    let pod = Pod::new();
    let plan = plan("0badcafe", "60s", "50ms");
    let _agent = carrying(&pod, &plan, FRESH);
    in_force(&pod, "0badcafe");
    pod.ask(&revert());
    let events = pod.ask(&apply(&plan));
    assert_eq!(failure(&events).kind, FailureKind::Gone, "{events:?}");
    pod.assert_clean();
}

fn is_reported_when_it_has_just_ended() {
    let pod = Pod::new();
    let plan = plan("0badcafe", "1500ms", "20ms");
    let _agent = carrying(&pod, &plan, FRESH);
    in_force(&pod, "0badcafe");
    pod.ping(PEER4, 2, "0.02");
    thread::sleep(Duration::from_millis(1_700));
    let mut serve = pod.serve(&apply(&plan));
    assert_eq!(serve.in_force().remaining_ms, 0);
    let (by, ran_ms, packets) = serve.ended();
    assert_eq!((by, ran_ms), (Ending::Timer, 1_500));
    assert!(packets >= 2, "{packets} packets");
    pod.assert_clean();
}

fn is_put_in_force_when_asked_if_it_came_too_late() {
    let pod = Pod::new();
    let plan = plan("0badcafe", "500ms", "50ms");
    let _agent = carrying(&pod, &plan, STALE);
    let (mut serve, status) = pod.disrupt(&plan);
    assert!(status.remaining_ms > 300, "{status:?}");
    assert_eq!(serve.ended().0, Ending::Timer);
    pod.assert_clean();
}

fn says_why_it_failed_to_who_asks() {
    let pod = Pod::new();
    let plan = on(plan("0badcafe", "30s", "50ms"), "net7");
    let _agent = carrying(&pod, &plan, FRESH);
    let events = pod.ask(&apply(&plan));
    assert_eq!(failure(&events).kind, FailureKind::NotFound, "{events:?}");
    pod.assert_clean();
}

/// Whoever reverts while the agent is just starting finds the fault, or there is none to come.
fn does_not_come_after_its_own_revert() {
    for _ in 0..10 {
        let pod = Pod::new();
        let agent = carrying(&pod, &plan("0badcafe", "60s", "50ms"), FRESH);
        until("the agent", || {
            // No more what starts it.
            let line = std::fs::read(format!("/proc/{}/cmdline", agent.pid())).ok()?;
            line.starts_with(agent_path().as_bytes()).then_some(())
        });
        let events = pod.ask(&revert());
        if let Some(event @ Event::Ended { .. }) =
            events.iter().find(|event| matches!(event, Event::Ended { .. }))
        {
            clean_end(Some(event.clone()));
        }
        pod.assert_clean();
        thread::sleep(Duration::from_millis(100));
        pod.assert_clean();
    }
}
