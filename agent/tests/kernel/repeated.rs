//! A hundred faults one after another on one pod, by each backend: they leave what none leaves. Each by a
//! process of its own, as the plugin asks for them, beside the agent that waits.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use pod_chaos_protocol::{Backend, Ending};
use serde_json::{Value, json};

use crate::{
    plans::{agents, rest_of_state, state},
    pod::{Agent, Pod, by, partition, plan, revert, until, with},
    requirement::tests,
    waiting::memory_and_switches,
};

tests! {
    Namespaces:
        a_hundred_partitions;
    Netem:
        a_hundred_by_netem,
        a_hundred_in_a_queue;
    Emulator:
        a_hundred_by_the_agent;
}

const COUNT: u32 = 100;
/// One in so many ends by its timer, and all others on request.
const BY_TIMER: u32 = 25;
/// After so many the agent that waits has all the memory that it needs.
const WARM: u32 = 10;
/// By how much its memory may differ then, in KiB: some pages of what the kernel maps when it likes.
const MEMORY_SLACK: u64 = 64;

/// The same plan on what leaves, on what comes in, and on both, by turns.
fn by_turns(plan: Value, number: u32) -> Value {
    let [egress, ingress] = match number % 3 {
        0 => [json!([]), Value::Null],
        1 => [Value::Null, json!([])],
        _ => [json!([]), json!([])],
    };
    with(plan, &json!({ "egress": egress, "ingress": ingress }))
}

fn a_hundred_partitions() {
    assert_nothing_piles_up(|id, time, number| {
        let mode = if number % 2 == 0 { "drop" } else { "reject" };
        by_turns(partition(id, time, mode), number)
    });
}

fn a_hundred_by_netem() {
    assert_nothing_piles_up(|id, time, number| by_turns(plan(id, time, "10ms"), number));
}

fn a_hundred_in_a_queue() {
    assert_nothing_piles_up(|id, time, _| by(plan(id, time, "10ms"), Backend::Prio));
}

fn a_hundred_by_the_agent() {
    assert_nothing_piles_up(|id, time, number| {
        by_turns(by(plan(id, time, "10ms"), Backend::Userspace), number)
    });
}

/// What a process holds that others could run out of: its files, by what they are, and how many threads.
fn held(agent: &Agent) -> (Vec<String>, usize) {
    let place = format!("/proc/{}", agent.pid());
    let files = fs::read_dir(format!("{place}/fd")).unwrap().flatten();
    let mut files: Vec<_> = files
        .filter_map(|file| Some(fs::read_link(file.path()).ok()?.display().to_string()))
        .collect();
    files.sort();
    (files, fs::read_dir(format!("{place}/task")).unwrap().count())
}

/// What it holds once it listens to the kernel and has nothing to do.
fn held_while_idle(agent: &Agent) -> (Vec<String>, usize) {
    until("an agent that sleeps", || {
        let (before, (_, switches)) = (held(agent), memory_and_switches(agent.pid()));
        thread::sleep(Duration::from_millis(100));
        let sleeps = memory_and_switches(agent.pid()).1 == switches;
        let listens = before.0.iter().any(|file| file.starts_with("socket:"));
        (sleeps && listens && held(agent) == before).then_some(before)
    })
}

/// One after another, each with its id, running time and number.
fn assert_nothing_piles_up(make: impl Fn(&str, &str, u32) -> Value) {
    let pod = Pod::new();
    // It settles in its own time, and would change what is compared.
    pod.inside.run("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
    let waiting = pod.agent("wait");
    let idle = held_while_idle(&waiting);
    let before = [state(&pod), rest_of_state(&pod)];
    let mut warm = 0;
    let start = Instant::now();
    for number in 0..COUNT {
        let by_timer = number % BY_TIMER == 0;
        let time = if by_timer { "300ms" } else { "60s" };
        let (mut agent, _) = pod.disrupt(&make(&format!("{number:08x}"), time, number));
        if by_timer {
            assert_eq!(agent.ended().0, Ending::Timer, "{number}");
        } else {
            agent.send(&revert());
            assert_eq!(agent.ended().0, Ending::Request, "{number}");
        }
        assert!(agent.child.wait().unwrap().success(), "{number}");
        if number == WARM {
            warm = memory_and_switches(waiting.pid()).0;
        }
    }
    println!("{COUNT} faults in {:?}", start.elapsed());
    // It may have woken up to see whether the last one left something.
    assert_eq!(held_while_idle(&waiting), idle);
    let now = memory_and_switches(waiting.pid()).0;
    println!("memory of `wait`: {warm} KiB after {WARM}, {now} KiB after {COUNT}");
    assert!(now <= warm + MEMORY_SLACK, "memory of `wait` grew from {warm} KiB to {now} KiB");
    assert_eq!([state(&pod), rest_of_state(&pod)], before);
    assert_eq!(agents(&pod.inside), [format!("/proc/{}", waiting.pid())]);
}
