//! `wait`: it sleeps, and clears what others could not.

use std::{fs, process::Command, thread, time::Duration};

use nix::sys::signal::Signal;
use pod_chaos_protocol::Event;

use crate::{
    pod::{Agent, Pod, agent_path, parts, parts_without_agent, plan, until},
    requirement::tests,
};

tests! {
    Namespaces:
        sleeps_in_two_mebibytes_without_waking_up,
        exits_at_once_when_told_to,
        exits_as_process_1,
        reaps_orphans_as_process_1,
        stop_ends_it_and_no_other;
    Netem:
        clears_what_a_killed_agent_left;
    Delay:
        sleeps_again_after_a_fault,
        clears_what_it_finds_at_its_start,
        clears_links_that_were_never_used,
        leaves_a_fault_in_force_when_it_exits;
}

/// Resident memory in KiB and context switches so far.
pub fn memory_and_switches(pid: impl std::fmt::Display) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let number = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    (number("VmRSS:"), number("voluntary_ctxt_switches:") + number("nonvoluntary_ctxt_switches:"))
}

fn assert_sleeps(agent: &Agent) {
    // It starts first, which takes a busy machine longer.
    let before = until("an agent that sleeps", || {
        let (_, before) = memory_and_switches(agent.pid());
        thread::sleep(Duration::from_millis(300));
        (memory_and_switches(agent.pid()).1 == before).then_some(before)
    });
    thread::sleep(Duration::from_secs(2));
    let (memory, after) = memory_and_switches(agent.pid());
    println!("memory of `wait`: {memory} KiB, switches in 2 s: {}", after - before);
    assert_eq!(after - before, 0, "context switches while idle");
    // A debug build carries more: only the build that is shipped is held to it.
    if std::env::var_os("POD_CHAOS_AGENT").is_some() {
        assert!(memory <= 2048, "{memory} KiB");
    }
}

fn sleeps_in_two_mebibytes_without_waking_up() {
    let pod = Pod::new();
    assert_sleeps(&pod.agent("wait"));
}

fn exits_at_once_when_told_to() {
    let pod = Pod::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut agent = pod.agent("wait");
        // Until it takes care of signals, they end it as they end any process.
        let status = format!("/proc/{}/status", agent.pid());
        until("a signal that is taken care of", || {
            let text = fs::read_to_string(&status).ok()?;
            let blocked = text.lines().find_map(|line| line.strip_prefix("SigBlk:"))?.trim();
            let blocked = u64::from_str_radix(blocked, 16).ok()?;
            (blocked >> (signal as i32 - 1) & 1 == 1).then_some(())
        });
        agent.signal(signal);
        let status = until("exit", || agent.child.try_wait().unwrap());
        assert!(status.success(), "{signal}: {status}");
    }
}

/// Starts `wait` as process 1 of a process namespace, and returns it with its process id outside.
fn process_1(pod: &Pod, script: &str) -> (Agent, String) {
    let line = format!("exec unshare --pid --fork --kill-child --mount-proc sh -c '{script}'");
    let agent = pod.start(&["sh", "-c", &line]);
    let children = format!("/proc/{0}/task/{0}/children", agent.child.id());
    let pid = until("process 1", || {
        let pid = fs::read_to_string(&children).ok()?.trim().to_owned();
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&line).ends_with("wait\0").then_some(pid)
    });
    thread::sleep(Duration::from_millis(200));
    (agent, pid)
}

fn exits_as_process_1() {
    let pod = Pod::new();
    let (mut agent, pid) = process_1(&pod, &format!("exec {} wait", agent_path()));
    // From inside, where the kernel spares process 1 from signals without a handler.
    let kill = format!("nsenter --target {pid} --pid --mount kill -TERM 1");
    // It ends with the namespace, with or without a status of its own.
    Command::new("sh").args(["-c", &kill]).status().unwrap();
    let status = until("exit", || agent.child.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

fn reaps_orphans_as_process_1() {
    let pod = Pod::new();
    let orphan = "(sleep 60 & ); (sleep 60 & )";
    let (_agent, pid) = process_1(&pod, &format!("{orphan}; exec {} wait", agent_path()));
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    let orphans = until("two orphans", || {
        let orphans = children();
        (orphans.split_whitespace().count() == 2).then_some(orphans)
    });
    assert!(Command::new("kill").args(orphans.split_whitespace()).status().unwrap().success());
    until("end of the orphans", || children().trim().is_empty().then_some(()));
}

fn stop_ends_it_and_no_other() {
    let (pod, other) = (Pod::new(), Pod::new());
    let (mut agent, mut stranger) = (pod.agent("wait"), other.agent("wait"));
    thread::sleep(Duration::from_millis(200));
    let events = pod.ask(&serde_json::json!({ "request": "stop" }));
    assert_eq!(events, [Event::Status { faults: vec![], processes: vec![] }]);
    let status = until("exit", || agent.child.try_wait().unwrap());
    assert!(status.success(), "{status}");
    assert_eq!(stranger.child.try_wait().unwrap(), None);
}

fn sleeps_again_after_a_fault() {
    let pod = Pod::new();
    let waiting = pod.agent("wait");
    let (mut serving, _) = pod.disrupt(&plan("00000001", "500ms", "10ms"));
    // Nor does it wake up while the fault lasts.
    serving.ended();
    thread::sleep(Duration::from_millis(2500));
    assert_sleeps(&waiting);
    pod.assert_clean();
}

fn clears_what_a_killed_agent_left() {
    let pod = Pod::new();
    let _waiting = pod.agent("wait");
    let (mut serving, _) = pod.disrupt(&plan("00000001", "1s", "10ms"));
    serving.sigkill();
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(pod.leftovers(), parts("00000001"), "before the grace is over");
    until("clean pod", || pod.leftovers().is_empty().then_some(()));
}

fn clears_what_it_finds_at_its_start() {
    let pod = Pod::new();
    let (mut serving, _) = pod.disrupt(&plan("00000001", "500ms", "10ms"));
    serving.sigkill();
    thread::sleep(Duration::from_millis(600));
    assert_eq!(pod.leftovers(), parts_without_agent("00000001"));
    let _waiting = pod.agent("wait");
    until("clean pod", || pod.leftovers().is_empty().then_some(()));
}

fn clears_links_that_were_never_used() {
    let pod = Pod::new();
    // As an agent leaves it that is killed between two steps.
    pod.inside.run(
        "ip link add pc-00000001 type veth peer name pc-00000001x
         ip link add pc-00000002 type veth peer name pc-00000002x
         ip link set pc-00000002 alias 'pod-chaos 00000002' up",
    );
    let _waiting = pod.agent("wait");
    until("clean pod", || pod.leftovers().is_empty().then_some(()));
}

fn leaves_a_fault_in_force_when_it_exits() {
    let pod = Pod::new();
    let mut waiting = pod.agent("wait");
    let (_serving, _) = pod.disrupt(&plan("00000001", "20s", "50ms"));
    waiting.signal(Signal::SIGTERM);
    until("exit", || waiting.child.try_wait().unwrap());
    assert!(pod.round_trip() > 49.0);
}
