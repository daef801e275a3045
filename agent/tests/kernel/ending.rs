//! How a fault ends: by the kernel's timer at its deadline, whoever is still alive, or before, on request.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use pod_chaos_protocol::{Ending, Event, FaultState};

use crate::{
    pod::{Agent, PEER4, Pod, apply, clean_end, parts, plan, revert, status, until},
    probe::{Probe, end_of_delay},
    requirement::tests,
};

tests! {
    Namespaces:
        reverting_what_is_not_there_is_harmless;
    Netem measures:
        by_the_timer_when_the_serving_agent_is_killed,
        by_the_timer_when_all_agents_are_killed;
    Delay measures:
        by_the_timer,
        by_the_timer_when_input_ends,
        by_the_timer_when_the_terminal_goes_away;
    Delay:
        by_the_timer_when_nobody_reads_any_more,
        by_request_on_the_same_stream,
        by_request_of_another_agent,
        by_someone_who_deletes_the_table,
        by_someone_who_empties_the_set,
        by_signal,
        packets_on_their_way_arrive_after_a_revert,
        a_revert_counts_at_once_while_packets_are_let_out,
        requests_while_it_runs,
        reverting_twice_is_harmless,
        a_fault_clears_what_another_left,
        stop_ends_it;
}

/// When the kernel is to end the fault, by what its table says, in milliseconds of the monotonic clock.
fn deadline_ms(pod: &Pod) -> f64 {
    let table = pod.inside.run("nft list table netdev pod-chaos-00000001");
    let line = table.lines().find(|line| line.contains("comment")).unwrap();
    line.trim().trim_end_matches('"').rsplit(' ').next().unwrap().parse().unwrap()
}

const DELAY_MS: f64 = 100.0;

/// Runs a fault of 1.5 s beside a stream of packets, does something to its agent after 0.3 s, and sees the
/// delay end at its deadline by the packets.
fn assert_ends_on_time(what: impl FnOnce(&Pod, &mut Agent)) -> (Pod, Agent) {
    let pod = Pod::new();
    let probe = Probe::start(&pod);
    thread::sleep(Duration::from_millis(200));
    let (mut agent, _) = pod.disrupt(&plan("00000001", "1500ms", "100ms"));
    let deadline = deadline_ms(&pod);
    thread::sleep(Duration::from_millis(300));
    what(&pod, &mut agent);
    thread::sleep(Duration::from_secs(2));
    let seen = probe.stop();
    let (last, next) = end_of_delay(&seen.packets, DELAY_MS, deadline - 1000.0);
    println!("delay ended {:+.1} to {:+.1} ms from its deadline", last - deadline, next - deadline);
    // The kernel counts whole ticks, from the transaction, which comes a little after the deadline was
    // written down.
    assert!(last <= deadline + 20.0, "packets were delayed up to {:+.1} ms", last - deadline);
    assert!(next >= deadline - 20.0, "packets were not delayed from {:+.1} ms on", next - deadline);
    seen.assert_none_lost();
    (pod, agent)
}

fn by_the_timer() {
    let (pod, mut agent) = assert_ends_on_time(|_, _| {});
    let (by, ran_ms, packets) = agent.ended();
    assert_eq!((by, ran_ms), (Ending::Timer, 1500));
    assert!(packets > 100, "{packets}");
    assert!(agent.child.wait().unwrap().success());
    pod.assert_clean();
}

fn by_the_timer_when_the_serving_agent_is_killed() {
    let (pod, _agent) = assert_ends_on_time(|_, agent| agent.sigkill());
    assert_eq!(pod.leftovers(), parts("00000001"), "nobody is there to clear it");
    let Some(Event::Status { faults, .. }) = pod.ask(&status()).pop() else { panic!("no status") };
    assert_eq!(faults[0].state, FaultState::Expired);
    assert_eq!((faults[0].remaining_ms, faults[0].age_ms), (0, 1500));
    let events = pod.ask(&revert());
    assert_eq!(clean_end(events.first().cloned()).0, Ending::Timer, "{events:?}");
    pod.assert_clean();
}

fn by_the_timer_when_all_agents_are_killed() {
    let mut waiting = None;
    let (pod, _agent) = assert_ends_on_time(|pod, agent| {
        let mut janitor = pod.agent("wait");
        thread::sleep(Duration::from_millis(100));
        janitor.sigkill();
        agent.sigkill();
        waiting = Some(janitor);
    });
    // The next agent clears it, and has its own fault in force.
    let (mut agent, _) = pod.disrupt(&plan("00000002", "20s", "50ms"));
    assert_eq!(pod.leftovers(), parts("00000002"));
    agent.send(&revert());
    agent.ended();
    pod.assert_clean();
}

fn by_the_timer_when_input_ends() {
    let (pod, mut agent) = assert_ends_on_time(|_, agent| drop(agent.input.take()));
    assert_eq!(agent.ended().0, Ending::Timer);
    pod.assert_clean();
}

fn by_the_timer_when_nobody_reads_any_more() {
    // The reader of `head` goes away after the third line: hello, probed, in-force.
    let pod = Pod::new();
    let agent = crate::pod::agent_path();
    let request = apply(&plan("00000001", "500ms", "50ms"));
    pod.inside.run(&format!("(echo '{request}'; sleep 0.1) | {agent} serve | head -n 3"));
    until("clean pod", || pod.leftovers().is_empty().then_some(()));
}

fn by_the_timer_when_the_terminal_goes_away() {
    let (pod, mut agent) = assert_ends_on_time(|_, agent| agent.signal(Signal::SIGHUP));
    assert_eq!(agent.ended().0, Ending::Timer);
    pod.assert_clean();
}

fn by_request_on_the_same_stream() {
    let pod = Pod::new();
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "100ms"));
    assert!(pod.round_trip() > 99.0);
    agent.send(&revert());
    let (by, ran_ms, _) = agent.ended();
    assert_eq!(by, Ending::Request);
    assert!((100..5000).contains(&ran_ms), "{ran_ms}");
    assert!(pod.round_trip() < 5.0);
    pod.assert_clean();
}

fn by_request_of_another_agent() {
    let pod = Pod::new();
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "50ms"));
    let events = pod.ask(&serde_json::json!({ "request": "revert", "fault": "00000001" }));
    assert_eq!(clean_end(events.first().cloned()).0, Ending::Request);
    assert_eq!(events.last(), Some(&Event::Status { faults: vec![], processes: vec![] }));
    assert_eq!(agent.ended().0, Ending::Elsewhere);
    assert!(pod.round_trip() < 5.0);
    pod.assert_clean();
}

fn by_someone_who_deletes_the_table() {
    let pod = Pod::new();
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "50ms"));
    // What happens to other tables is not taken for it.
    pod.inside.run("nft add table netdev other; nft delete table netdev other");
    assert!(pod.round_trip() > 49.0);
    pod.inside.run("nft delete table netdev pod-chaos-00000001");
    assert_eq!(agent.ended().0, Ending::Elsewhere);
    pod.assert_clean();
}

fn by_someone_who_empties_the_set() {
    let pod = Pod::new();
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "50ms"));
    pod.inside.run("nft flush set netdev pod-chaos-00000001 live");
    assert_eq!(agent.ended().0, Ending::Elsewhere);
    assert!(pod.round_trip() < 5.0);
    pod.assert_clean();
}

fn by_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let pod = Pod::new();
        let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "50ms"));
        agent.signal(signal);
        assert_eq!(agent.ended().0, Ending::Request);
        pod.assert_clean();
    }
}

fn packets_on_their_way_arrive_after_a_revert() {
    let pod = Pod::new();
    let probe = Probe::start(&pod);
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "300ms"));
    thread::sleep(Duration::from_millis(600));
    agent.send(&revert());
    agent.ended();
    let seen = probe.stop();
    assert!(seen.packets.iter().any(|packet| packet.travelled_ms > 299.0));
    seen.assert_none_lost();
}

fn a_revert_counts_at_once_while_packets_are_let_out() {
    let pod = Pod::new();
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "20s"));
    // Held for longer than anyone waits for it.
    pod.inside.try_run(&format!("ping -n -c 1 -W 0.05 {PEER4}"));
    let start = Instant::now();
    agent.send(&revert());
    thread::sleep(Duration::from_millis(100));
    assert!(pod.round_trip() < 50.0);
    let rest = pod.leftovers();
    // A busy machine may be too late to see it.
    if start.elapsed() < Duration::from_secs(1) {
        assert_eq!(rest, parts("00000001"), "still letting out");
    }
    agent.ended();
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    pod.assert_clean();
}

fn requests_while_it_runs() {
    let pod = Pod::new();
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "50ms"));
    agent.send(&status());
    assert!(matches!(agent.next(), Some(Event::Status { faults, .. }) if faults.len() == 1));
    for line in [
        "garbage".to_owned(),
        apply(&plan("00000002", "1s", "1ms")).to_string(),
        serde_json::json!({ "request": "revert", "fault": "00000002" }).to_string(),
    ] {
        agent.send_text(&line);
        assert!(matches!(agent.next(), Some(Event::Failed { .. })), "{line}");
    }
    assert!(pod.round_trip() > 49.0, "the fault goes on");
    agent.send(&serde_json::json!({ "request": "revert", "fault": "00000001" }));
    assert_eq!(agent.ended().0, Ending::Request);
}

fn reverting_twice_is_harmless() {
    let pod = Pod::new();
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "50ms"));
    // Both at once: one does it, the other waits for its turn and finds nothing or the same.
    let (first, second) = (pod.serve(&revert()), pod.serve(&revert()));
    for events in [first.rest(), second.rest()] {
        assert_eq!(
            events.last(),
            Some(&Event::Status { faults: vec![], processes: vec![] }),
            "{events:?}"
        );
        for event in &events[..events.len() - 1] {
            clean_end(Some(event.clone()));
        }
    }
    assert_eq!(agent.ended().0, Ending::Elsewhere);
    assert_eq!(pod.ask(&revert()), [Event::Status { faults: vec![], processes: vec![] }]);
    assert!(pod.round_trip() < 5.0);
    pod.assert_clean();
}

fn reverting_what_is_not_there_is_harmless() {
    let pod = Pod::new();
    for request in [revert(), serde_json::json!({ "request": "revert", "fault": "00000001" })] {
        assert_eq!(pod.ask(&request), [Event::Status { faults: vec![], processes: vec![] }]);
    }
}

fn a_fault_clears_what_another_left() {
    let pod = Pod::new();
    let (mut first, _) = pod.disrupt(&plan("00000001", "300ms", "10ms"));
    first.sigkill();
    pod.inside.run("ip link add pc-00000002 type veth peer name pc-00000002x");
    thread::sleep(Duration::from_millis(400));
    let (_third, _) = pod.disrupt(&plan("00000003", "20s", "10ms"));
    assert_eq!(pod.leftovers(), parts("00000003"));
}

fn stop_ends_it() {
    let pod = Pod::new();
    let mut waiting = pod.agent("wait");
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "50ms"));
    let events = pod.ask(&serde_json::json!({ "request": "stop" }));
    assert_eq!(clean_end(events.first().cloned()).0, Ending::Request);
    assert_eq!(agent.ended().0, Ending::Elsewhere);
    assert!(until("exit", || waiting.child.try_wait().unwrap()).success());
    pod.assert_clean();
}
