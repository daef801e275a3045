//! Who may die while a fault is in force, for each way of doing it: the kernel ends it at its deadline, and
//! the interface is as it was. Where packets need a living process, they pass as soon as it dies.

use std::{
    thread,
    time::{Duration, Instant},
};

use pod_chaos_protocol::{Backend, Direction, Event};
use serde_json::{Value, json};

use crate::{
    pod::{PEER4, Pod, by, partition, plan, revert, round_trips, until, with},
    requirement::tests,
};

tests! {
    Namespaces:
        deaths_during_a_drop,
        deaths_during_a_reject;
    Netem:
        deaths_during_netem_on_the_way_out,
        deaths_during_netem_on_the_way_in,
        deaths_during_netem_in_a_queue;
    Emulator:
        deaths_of_the_one_that_does_it_on_the_way_out,
        deaths_of_the_one_that_does_it_on_the_way_in;
}

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// The agent that has put it in force, by SIGKILL; the one that waits is there.
    ItsAgent,
    /// The one that waits as well.
    AllAgents,
    /// The plugin, or the way to it: nobody speaks to the agent any more.
    ThePlugin,
}

const RUNNING_TIME: Duration = Duration::from_millis(1500);
const DELAY_MS: f64 = 100.0;

fn delay(backend: Backend, direction: Direction) -> Value {
    let plan = by(plan("00000001", "1500ms", "100ms"), backend);
    let traffic = match direction {
        Direction::Egress => json!({}),
        Direction::Ingress => json!({ "egress": null, "ingress": [] }),
    };
    with(plan, &traffic)
}

fn deaths_during_a_drop() {
    assert_each_ends(&partition("00000001", "1500ms", "drop"), true);
}

fn deaths_during_a_reject() {
    assert_each_ends(&partition("00000001", "1500ms", "reject"), true);
}

fn deaths_during_netem_on_the_way_out() {
    assert_each_ends(&delay(Backend::NetdevEgress, Direction::Egress), true);
}

fn deaths_during_netem_on_the_way_in() {
    assert_each_ends(&delay(Backend::NetdevIngress, Direction::Ingress), true);
}

fn deaths_during_netem_in_a_queue() {
    assert_each_ends(&delay(Backend::Prio, Direction::Egress), true);
}

fn deaths_of_the_one_that_does_it_on_the_way_out() {
    assert_each_ends(&delay(Backend::Userspace, Direction::Egress), false);
}

fn deaths_of_the_one_that_does_it_on_the_way_in() {
    assert_each_ends(&delay(Backend::Userspace, Direction::Ingress), false);
}

/// Each death, on a pod of its own; the fault goes on without its agent or not.
fn assert_each_ends(plan: &Value, without_agent: bool) {
    thread::scope(|scope| {
        for death in [Death::ItsAgent, Death::AllAgents, Death::ThePlugin] {
            let goes_on = without_agent || death == Death::ThePlugin;
            scope.spawn(move || assert_ends(plan, death, goes_on));
        }
    });
}

/// Whether packets get through, without the delay: on a busy machine not every one does at once, but one that
/// is hit never. The kernel says when they came, however late `ping` looks.
fn passes(pod: &Pod) -> bool {
    (0..3).any(|_| {
        let output = pod.inside.try_run(&format!("ping -n -c 1 -W 0.05 {PEER4}"));
        let times = round_trips(&String::from_utf8_lossy(&output.stdout));
        times.iter().any(|time| *time < DELAY_MS)
    })
}

fn assert_ends(plan: &Value, death: Death, goes_on: bool) {
    let pod = Pod::new();
    assert!(until("a way to the peer", || passes(&pod).then_some(true)));
    let before = pod.inside.run("tc -j qdisc");
    let mut waiting = pod.agent("wait");
    // In force later than this, so that it ends later as well.
    let start = Instant::now();
    let (mut agent, _) = pod.disrupt(plan);
    let latest = Instant::now() + RUNNING_TIME + Duration::from_secs(5);
    assert!(!passes(&pod) || start.elapsed() >= RUNNING_TIME, "{death:?}: not in force");
    match death {
        Death::ItsAgent => agent.sigkill(),
        Death::AllAgents => {
            waiting.sigkill();
            agent.sigkill();
        }
        Death::ThePlugin => drop(agent.input.take()),
    }
    if goes_on {
        while !passes(&pod) {
            assert!(Instant::now() < latest, "{death:?}: goes on");
        }
        assert!(start.elapsed() >= RUNNING_TIME, "{death:?}: over after {:?}", start.elapsed());
    } else {
        until("way for packets", || passes(&pod).then_some(()));
    }
    if death != Death::ThePlugin {
        // The one that waits, if it lives, would clear it as well, but takes its time.
        let events = pod.ask(&revert());
        assert!(events.iter().all(|event| !matches!(event, Event::Failed { .. })), "{events:?}");
    }
    until("clean pod", || pod.leftovers().is_empty().then_some(()));
    assert_eq!(pod.inside.run("tc -j qdisc"), before, "{death:?}");
}
