//! Every option of netem, alone and with others: what it does to packets, and that the kernel holds what
//! `tc` would have told it.

use std::{
    net::UdpSocket,
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use pod_chaos_protocol::{Backend, Event, FailureKind, FaultStatus, Netem};
use serde_json::{Value, json};

use crate::{
    pod::{
        Agent, PEER4, Pod, apply, backend, failure, figures, figures_at_the_end, plan_of, revert,
        status, until,
    },
    requirement::{self, tests},
};

tests! {
    Namespaces:
        what_makes_no_sense_is_refused;
    Netem:
        each_is_what_tc_makes_of_it,
        each_counts_what_that_of_tc_counts,
        combinations_are_what_tc_makes_of_them;
    Netem alone:
        shapes_are_like_those_of_tc;
    Delay:
        every_example_of_the_docs_is_put_in_force,
        a_table_gives_the_delays_it_says,
        the_largest_tables_are_taken,
        loss_takes_its_part,
        chains_of_loss_take_their_part,
        marks_replace_losses,
        duplicates_arrive_twice,
        corruption_is_noticed_by_checksums,
        reordered_packets_are_not_delayed,
        the_limit_loses_what_is_above,
        all_of_them_are_reverted;
    Seeds:
        a_seed_repeats_the_losses;
    Delay measures:
        correlation_ties_a_delay_to_the_one_before,
        a_rate_takes_its_time,
        overheads_and_cells_take_theirs,
        slots_let_packets_out_together;
}

fn plan(netem: &Value) -> Value {
    plan_of("00000001", "60s", netem)
}

/// A pod whose packets are only those of the test: without IPv6, and with neighbours that are known for good.
pub fn quiet_pod() -> Pod {
    let pod = Pod::new();
    let spaces = [&pod.inside, &pod.outside];
    for space in spaces {
        space.run("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
    }
    pod.inside.run(&format!("ping -n -q -c 1 {PEER4}"));
    for space in spaces {
        space.run(
            "ip neigh show dev eth0 | while read -r address _ place _; do
                 ip neigh change $address lladdr $place dev eth0 nud permanent || exit 1
             done",
        );
    }
    pod
}

fn end(mut agent: Agent) {
    agent.send(&revert());
    agent.ended();
}

/// A ping that came back: its number, how long it took in milliseconds, and whether it did before.
struct Echo {
    number: usize,
    time: f64,
    again: bool,
}

/// So many pings at this interval, and this long to wait for the last, both in seconds.
fn echoes(pod: &Pod, (count, interval): (u32, &str), more: &str) -> Vec<Echo> {
    let line = format!("ping -n -c {count} -i {interval} -W 1 {more} {PEER4}");
    let output = pod.inside.try_run(&line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after = |line: &str, word: &str| {
        Some(line.split_once(word)?.1.split_whitespace().next()?.parse::<f64>().unwrap())
    };
    let echo = |line: &str| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let number = after(line, "icmp_seq=")? as usize;
        Some(Echo { number, time: after(line, "time=")?, again: line.contains("DUP!") })
    };
    text.lines().filter_map(echo).collect()
}

/// The part of so many pings that came back.
fn part(echoes: &[Echo], of: u32) -> f64 {
    let first = echoes.iter().filter(|echo| !echo.again).count();
    f64::from(u32::try_from(first).unwrap()) / f64::from(of)
}

fn assert_within(what: &str, found: f64, low: f64, high: f64) {
    println!("{what}: {found}, expected {low} to {high}");
    assert!((low..=high).contains(&found), "{what}: {found} is not within {low} and {high}");
}

fn what_makes_no_sense_is_refused() {
    let pod = Pod::new();
    for netem in [
        json!({}),
        json!({ "limit": 5 }),
        json!({ "jitter": "1ms" }),
        json!({ "delay": "1ms", "ecn": true }),
        json!({ "loss": "1%", "reorder": "1%" }),
        json!({ "delay": "1ms", "jitter": "1ms", "distribution": "table" }),
        json!({ "delay": "1ms", "loss": "101%" }),
        json!({ "delay": "1ms", "speed": "1mbit" }),
    ] {
        let events = pod.ask(&apply(&plan(&netem)));
        assert_eq!(failure(&events).kind, FailureKind::BadRequest, "{netem}");
    }
    pod.assert_clean();
}

/// What `tc` shows of netem on this link, but for what differs from one to another.
fn shown(pod: &Pod, link: &str) -> Value {
    let qdiscs = pod.inside.json(&format!("tc -j -s qdisc show dev {link}"));
    let netem = qdiscs.as_array().unwrap().iter().find(|qdisc| qdisc["kind"] == "netem");
    let mut options =
        netem.unwrap_or_else(|| panic!("no netem on {link}: {qdiscs}"))["options"].clone();
    options.as_object_mut().unwrap().remove("seed");
    options
}

/// Does each by the agent and by hand, and compares.
fn assert_as_tc(cases: &[(Value, &str)]) {
    let pod = Pod::new();
    pod.inside.run("ip link add hand type veth peer name other && ip link set hand up");
    for (netem, words) in cases {
        let (agent, in_force) = pod.disrupt(&plan(netem));
        let ours = shown(&pod, "pc-00000001");
        let limit = &ours["limit"];
        pod.inside.run(&format!("tc qdisc add dev hand root netem limit {limit} {words}"));
        assert_eq!(ours, shown(&pod, "hand"), "{words}");
        pod.inside.run("tc qdisc del dev hand root");
        assert_as_asked(in_force, netem);
        end(agent);
    }
    pod.assert_clean();
}

/// What it says is in force is what was asked for.
fn assert_as_asked(in_force: FaultStatus, netem: &Value) {
    let asked: Netem = serde_json::from_value(netem.clone()).unwrap();
    let said = in_force.netem.unwrap();
    let asked = Netem {
        seed: asked.seed.or(said.seed),
        distribution: asked.distribution.clone().without_numbers(),
        slot: asked.slot.as_ref().map(pod_chaos_protocol::Slot::without_numbers),
        ..asked
    };
    assert_eq!(said, asked, "{netem}");
}

/// The examples of docs/network.md, as the plugin's tests have written down what they ask for.
fn every_example_of_the_docs_is_put_in_force() {
    let examples = include_str!(
        "../../../tests/plugin/snapshots/plugin__docs__every_example_of_a_worse_network_is_a_plan.snap"
    );
    let plans = examples.lines().filter(|line| line.starts_with('{'));
    let plans: Vec<Value> = plans.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(plans.len() > 20, "{examples}");
    let pod = Pod::new();
    let old = backend() != Backend::Userspace && !requirement::has_seeds();
    for netem in plans.iter().filter(|netem| !old || netem["seed"].is_null()) {
        let (agent, in_force) = pod.disrupt(&plan(netem));
        assert_as_asked(in_force, netem);
        end(agent);
    }
    pod.assert_clean();
}

fn each_is_what_tc_makes_of_it() {
    assert_as_tc(&[
        (json!({ "delay": "100ms" }), "delay 100ms"),
        (json!({ "delay": "100ms", "jitter": "10ms" }), "delay 100ms 10ms"),
        (
            json!({ "delay": "100ms", "jitter": "10ms", "correlation": "25%" }),
            "delay 100ms 10ms 25%",
        ),
        (
            json!({ "delay": "100ms", "jitter": "10ms", "distribution": "normal" }),
            "delay 100ms 10ms distribution normal",
        ),
        (json!({ "loss": "1%" }), "loss 1%"),
        (json!({ "loss": "0.3% 25%" }), "loss random 0.3% 25%"),
        (json!({ "loss": "state 1%" }), "loss state 1%"),
        (json!({ "loss": "state 10% 50% 25% 75% 1%" }), "loss state 10% 50% 25% 75% 1%"),
        (json!({ "loss": "gemodel 1%" }), "loss gemodel 1%"),
        (json!({ "loss": "gemodel 1% 10% 70% 0.1%" }), "loss gemodel 1% 10% 70% 0.1%"),
        (json!({ "loss": "1%", "ecn": true }), "loss 1% ecn"),
        (json!({ "duplicate": "1%" }), "duplicate 1%"),
        (json!({ "corrupt": "0.1% 25%" }), "corrupt 0.1% 25%"),
        (json!({ "delay": "10ms", "reorder": "25%" }), "delay 10ms reorder 25%"),
        (
            json!({ "delay": "10ms", "reorder": "25% 50% gap 5" }),
            "delay 10ms reorder 25% 50% gap 5",
        ),
        (json!({ "rate": "1mbit" }), "rate 1mbit"),
        (json!({ "rate": "100gbit" }), "rate 100gbit"),
        (json!({ "rate": "1mbit 20 48 5" }), "rate 1mbit 20 48 5"),
        (json!({ "rate": "1500kbps -14 53 -5" }), "rate 1500kbps -14 53 -5"),
        (json!({ "slot": "800us" }), "slot 800us"),
        (
            json!({ "slot": "800us 1ms packets 20 bytes 6000" }),
            "slot 800us 1ms packets 20 bytes 6000",
        ),
        (
            json!({ "slot": "distribution pareto 1ms 100us packets 3" }),
            "slot distribution pareto 1ms 100us packets 3",
        ),
        (json!({ "delay": "1ms", "limit": 7 }), "delay 1ms limit 7"),
    ]);
}

fn combinations_are_what_tc_makes_of_them() {
    assert_as_tc(&[
        (json!({ "delay": "100ms", "loss": "1%" }), "delay 100ms loss 1%"),
        (
            json!({ "delay": "100ms", "jitter": "10ms", "duplicate": "1%", "corrupt": "2%" }),
            "delay 100ms 10ms duplicate 1% corrupt 2%",
        ),
        (json!({ "loss": "1% 25%", "duplicate": "2% 50%" }), "loss 1% 25% duplicate 2% 50%"),
        (
            json!({ "delay": "20ms", "reorder": "25% 50%", "loss": "gemodel 1% 10%" }),
            "delay 20ms reorder 25% 50% loss gemodel 1% 10%",
        ),
        (json!({ "delay": "300ms", "rate": "1600kbit" }), "delay 300ms rate 1600kbit"),
        (
            json!({ "delay": "300ms", "rate": "1mbit 20", "loss": "5%", "ecn": true }),
            "delay 300ms rate 1mbit 20 loss 5% ecn",
        ),
        (
            json!({ "rate": "1mbit", "slot": "5ms 10ms packets 20" }),
            "rate 1mbit slot 5ms 10ms packets 20",
        ),
        (
            json!({ "delay": "10ms", "jitter": "1ms", "distribution": "pareto", "slot": "1ms" }),
            "delay 10ms 1ms distribution pareto slot 1ms",
        ),
        (
            json!({ "delay": "10ms", "jitter": "1ms", "distribution": "normal",
                "slot": "distribution paretonormal 2ms 1ms bytes 9000" }),
            "delay 10ms 1ms distribution normal slot distribution paretonormal 2ms 1ms bytes 9000",
        ),
        (
            json!({ "corrupt": "1% 5%", "duplicate": "1%", "loss": "state 1% 10%" }),
            "corrupt 1% 5% duplicate 1% loss state 1% 10%",
        ),
        (
            json!({ "delay": "1ms", "reorder": "100% gap 3", "rate": "10gbit", "limit": 50 }),
            "delay 1ms reorder 100% gap 3 rate 10gbit limit 50",
        ),
        (
            json!({ "delay": "100ms", "jitter": "10ms", "correlation": "25%",
                "distribution": "paretonormal", "loss": "gemodel 1% 10% 70% 0.1%", "ecn": true,
                "duplicate": "1%", "corrupt": "0.1% 5%", "reorder": "25% 50% gap 5",
                "rate": "10mbit 20 48 5", "slot": "800us 1ms packets 20 bytes 60000" }),
            "delay 100ms 10ms 25% distribution paretonormal loss gemodel 1% 10% 70% 0.1% ecn \
             duplicate 1% corrupt 0.1% 5% reorder 25% 50% gap 5 rate 10mbit 20 48 5 \
             slot 800us 1ms packets 20 bytes 60000",
        ),
    ]);
}

/// What netem on this link has counted once it has dealt with so many packets, but for those that it is to hold.
fn counted(pod: &Pod, link: &str, packets: u64, held: u64) -> Value {
    until("end of what netem holds", || {
        let qdiscs = pod.inside.json(&format!("tc -j -s qdisc show dev {link}"));
        let netem = qdiscs.as_array()?.iter().find(|qdisc| qdisc["kind"] == "netem")?;
        let count = |what: &str| netem[what].as_u64();
        let dealt_with = count("packets")? + count("drops")? + held;
        let is_over = dealt_with >= packets && count("qlen")? == held;
        let all = ["bytes", "packets", "drops", "overlimits", "requeues", "backlog"];
        is_over
            .then(|| all.map(|what| (what.to_owned(), netem[what].clone())).into_iter().collect())
    })
}

/// Sends so many datagrams to the peer, each longer than the one before.
pub fn send(pod: &Pod, count: u64) {
    let send = move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for number in 0..usize::try_from(count).unwrap() {
            // The other end has nobody who listens there.
            let _ = socket.send_to(&vec![0; 100 + 40 * number], (PEER4, 9));
        }
    };
    pod.inside.spawn(send).join().unwrap();
}

/// The same packets, by the agent and by hand: of what throws no dice. And what the agent says of them: how many
/// were delayed, how many dropped.
fn each_counts_what_that_of_tc_counts() {
    let (pod, all) = (quiet_pod(), 20);
    let send = || send(&pod, all);
    for (netem, words, packets, done) in [
        (json!({ "delay": "10ms" }), "delay 10ms", all, (all, 0)),
        (json!({ "delay": "10ms", "jitter": "5ms" }), "delay 10ms 5ms", all, (all, 0)),
        (json!({ "loss": "100%" }), "loss 100%", all, (0, all)),
        (json!({ "loss": "100%", "ecn": true }), "loss 100% ecn", all, (0, all)),
        (json!({ "duplicate": "100%" }), "duplicate 100%", 2 * all, (0, 0)),
        (
            json!({ "delay": "10ms", "duplicate": "100%" }),
            "delay 10ms duplicate 100%",
            2 * all,
            (2 * all, 0),
        ),
        (json!({ "corrupt": "100%" }), "corrupt 100%", all, (0, 0)),
        // Each third one overtakes the others.
        (
            json!({ "delay": "10ms", "reorder": "100% gap 3" }),
            "delay 10ms reorder 100% gap 3",
            all,
            (all - all / 3, 0),
        ),
        (json!({ "rate": "8mbit 20 48 5" }), "rate 8mbit 20 48 5", all, (all, 0)),
        (json!({ "slot": "5ms packets 6" }), "slot 5ms packets 6", all, (all, 0)),
        // Those that it takes it holds to the end.
        (json!({ "delay": "60s", "limit": 5 }), "delay 60s", all, (5, all - 5)),
    ] {
        let (mut agent, _) = pod.disrupt(&plan(&netem));
        let limit = &shown(&pod, "pc-00000001")["limit"];
        let held = if netem["limit"].is_null() { 0 } else { 5 };
        send();
        let ours = counted(&pod, "pc-00000001", packets, held);
        assert_eq!(figures(&pod), (all, Some(done.0), Some(done.1)), "{words}");
        agent.send(&revert());
        assert_eq!(figures_at_the_end(&mut agent), (all, Some(done.0), Some(done.1)), "{words}");
        pod.inside.run(&format!("tc qdisc add dev eth0 root netem limit {limit} {words}"));
        send();
        let theirs = counted(&pod, "eth0", packets, held);
        pod.inside.run("tc qdisc del dev eth0 root");
        println!("{words}: {ours}");
        assert_eq!(ours, theirs, "{words}");
        assert_eq!(theirs["drops"].as_u64(), Some(done.1), "{words}");
    }
    pod.assert_clean();
}

/// The time that this part of all do not exceed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn quantile(echoes: &[Echo], part: f64) -> f64 {
    let mut sorted: Vec<_> = echoes.iter().map(|echo| echo.time).collect();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

fn shapes_are_like_those_of_tc() {
    let pod = quiet_pod();
    let measure = || {
        let echoes = echoes(&pod, (400, "0.004"), "");
        assert_eq!(echoes.len(), 400);
        echoes
    };
    for shape in ["normal", "pareto", "paretonormal"] {
        let netem = json!({ "delay": "60ms", "jitter": "12ms", "distribution": shape });
        let (agent, in_force) = pod.disrupt(&plan(&netem));
        assert_eq!(in_force.netem.unwrap().distribution.name(), shape);
        let ours = measure();
        end(agent);
        let words = format!("delay 60ms 12ms distribution {shape}");
        pod.inside.run(&format!("tc qdisc add dev eth0 root netem {words}"));
        let theirs = measure();
        pod.inside.run("tc qdisc del dev eth0 root");
        // Of 400, these quantiles are within a sixth of the jitter of theirs in two of three runs, the
        // last one of the long tails within half.
        for (part, within) in [(0.02, 6.0), (0.25, 4.0), (0.5, 4.0), (0.75, 5.0), (0.95, 14.0)] {
            let (found, want) = (quantile(&ours, part), quantile(&theirs, part));
            assert_within(&format!("{shape} {part}"), found, want - within, want + within);
        }
    }
}

fn a_table_gives_the_delays_it_says() {
    let pod = quiet_pod();
    let netem =
        json!({ "delay": "60ms", "jitter": "10ms", "distribution": "table:-24576,0,24576" });
    let (_agent, in_force) = pod.disrupt(&plan(&netem));
    assert_eq!(
        in_force.netem.unwrap().to_string().split(" seed").next().unwrap(),
        "delay 60ms 10ms distribution table"
    );
    let echoes = echoes(&pod, (300, "0.005"), "");
    for at in [30.0, 60.0, 90.0] {
        let near = echoes.iter().filter(|echo| (at - 0.1..at + 12.0).contains(&echo.time)).count();
        // A third of 300, ± 4 standard deviations.
        assert_within(
            &format!("near {at} ms"),
            f64::from(u32::try_from(near).unwrap()),
            67.0,
            133.0,
        );
    }
}

fn the_largest_tables_are_taken() {
    let pod = quiet_pod();
    let table = |entries: usize| format!("table:{}", vec!["-8192"; entries].join(","));
    // As many as fit into a message.
    let slot = format!("distribution {} 2ms 1ms", table(Netem::ENTRIES_MAX - 16384));
    let mut netem = json!({
        "delay": "60ms", "jitter": "10ms", "distribution": table(16384), "slot": slot,
        "loss": "state 1%", "duplicate": "1% 1%", "corrupt": "1% 1%", "reorder": "1% 1%",
        "rate": "100gbit 1 48 5",
    });
    if requirement::has_seeds() {
        netem["seed"] = 1.into();
    }
    let (agent, _) = pod.disrupt(&plan(&netem));
    end(agent);
    let (_agent, _) = pod.disrupt(&plan(&json!({
        "delay": "60ms", "jitter": "10ms", "distribution": table(16384),
    })));
    // One jitter less, always.
    assert_within("shortest", pod.round_trip(), 49.9, 56.0);
}

fn correlation_ties_a_delay_to_the_one_before() {
    let pod = quiet_pod();
    let step = |correlation: &str| {
        let netem = json!({ "delay": "60ms", "jitter": "50ms", "correlation": correlation });
        let (agent, _) = pod.disrupt(&plan(&netem));
        let mut echoes = echoes(&pod, (200, "0.005"), "");
        end(agent);
        echoes.sort_by_key(|echo| echo.number);
        let mut steps: Vec<_> =
            echoes.windows(2).map(|two| (two[1].time - two[0].time).abs()).collect();
        steps.sort_by(f64::total_cmp);
        steps[steps.len() / 2]
    };
    // Two even numbers from 10 to 110 are 29 apart in the median. With less than all of it the kernel
    // takes the lower bits of its dice (`tabledist()`), in which hardly anything of a correlation is left.
    assert_within("without", step("0%"), 20.0, 40.0);
    assert_within("with 100%", step("100%"), 0.0, 2.0);
}

fn loss_takes_its_part() {
    let pod = quiet_pod();
    for (loss, low, high) in [("30%", 0.61, 0.79), ("100%", 0.0, 0.0), ("0.000001%", 0.99, 1.0)] {
        let (agent, _) = pod.disrupt(&plan(&json!({ "loss": loss })));
        let echoes = echoes(&pod, (400, "0.003"), "");
        end(agent);
        assert_within(&format!("loss {loss}"), part(&echoes, 400), low, high);
    }
}

fn chains_of_loss_take_their_part() {
    let pod = quiet_pod();
    // Both are in a state of loss for 10 of 10 + 30 packets, in bursts of about three.
    for loss in ["gemodel 10% 30%", "state 10% 30%"] {
        let (agent, _) = pod.disrupt(&plan(&json!({ "loss": loss })));
        let echoes = echoes(&pod, (1000, "0.002"), "");
        end(agent);
        assert_within(loss, part(&echoes, 1000), 0.63, 0.87);
        let gaps = echoes.windows(2).filter(|two| two[1].number > two[0].number + 1).count();
        let lost = 1000.0 - part(&echoes, 1000) * 1000.0;
        let burst = lost / f64::from(u32::try_from(gaps).unwrap());
        // By themselves they would be 4/3.
        assert_within("length of a burst", burst, 1.8, 4.5);
    }
}

fn marks_replace_losses() {
    let pod = quiet_pod();
    pod.outside.run(
        "nft 'add table netdev node
              add chain netdev node in { type filter hook ingress device eth0 priority 0; }
              add rule netdev node in ip ecn ce counter'",
    );
    let (_agent, _) = pod.disrupt(&plan(&json!({ "loss": "100%", "ecn": true })));
    // ECN-capable, and not.
    assert_eq!(echoes(&pod, (20, "0.01"), "-Q 2").len(), 20);
    assert_eq!(echoes(&pod, (5, "0.01"), "").len(), 0);
    assert_eq!(figures(&pod), (25, Some(0), Some(5)));
    let table = pod.outside.run("nft list table netdev node");
    assert!(table.contains("counter packets 20 "), "{table}");
}

fn duplicates_arrive_twice() {
    let pod = quiet_pod();
    let (_agent, _) = pod.disrupt(&plan(&json!({ "duplicate": "30%" })));
    // The last one's double comes too late for ping.
    let echoes = echoes(&pod, (300, "0.003"), "");
    assert_within("once", part(&echoes, 300), 1.0, 1.0);
    let again = echoes.iter().filter(|echo| echo.again).count();
    assert_within("twice", f64::from(u32::try_from(again).unwrap()), 55.0, 125.0);
}

fn corruption_is_noticed_by_checksums() {
    let pod = quiet_pod();
    let (_agent, _) = pod.disrupt(&plan(&json!({ "corrupt": "50%" })));
    // A bit of the Ethernet source address makes no difference: 6 of 1042 bytes.
    let arrived = part(&echoes(&pod, (300, "0.003"), "-s 1000"), 300);
    assert_within("corrupt 50%", arrived, 0.37, 0.63);
    if backend() == Backend::NetdevEgress {
        let shown = pod.inside.run("tc -s qdisc show dev pc-00000001");
        assert!(shown.contains("corrupt 50%") && !shown.contains("dropped 1"), "{shown}");
    }
}

fn reordered_packets_are_not_delayed() {
    let pod = quiet_pod();
    for (reorder, low, high) in [("25%", 0.14, 0.36), ("100% gap 5", 0.19, 0.21)] {
        let (agent, _) = pod.disrupt(&plan(&json!({ "delay": "60ms", "reorder": reorder })));
        let echoes = echoes(&pod, (200, "0.005"), "");
        end(agent);
        assert_eq!(echoes.len(), 200);
        let at_once = echoes.iter().filter(|echo| echo.time < 50.0).count();
        assert_within(reorder, f64::from(u32::try_from(at_once).unwrap()) / 200.0, low, high);
    }
}

/// Sends so many datagrams of 1000 bytes at once, 1042 with their headers, and returns when each arrived, in
/// milliseconds after the first.
fn arrivals(pod: &Pod, count: u32) -> Vec<f64> {
    let (ready, wait) = channel();
    let receiver = pod.outside.spawn(move || {
        let socket = UdpSocket::bind((PEER4, 9)).unwrap();
        ready.send(()).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        let (mut times, mut buffer) = (Vec::new(), [0; 1000]);
        while socket.recv(&mut buffer).is_ok() {
            times.push(Instant::now());
        }
        times
    });
    wait.recv().unwrap();
    let send = move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..count {
            socket.send_to(&[0; 1000], (PEER4, 9)).unwrap();
        }
    };
    pod.inside.spawn(send).join().unwrap();
    let times = receiver.join().unwrap();
    times.iter().map(|time| (*time - times[0]).as_secs_f64() * 1e3).collect()
}

fn assert_rate(pod: &Pod, rate: &str, milliseconds_each: f64) {
    let (agent, _) = pod.disrupt(&plan(&json!({ "rate": rate })));
    let times = arrivals(pod, 50);
    end(agent);
    assert_eq!(times.len(), 50, "{rate}");
    let each = times.last().unwrap() / 49.0;
    assert_within(rate, each, milliseconds_each * 0.97, milliseconds_each * 1.05);
}

fn a_rate_takes_its_time() {
    let pod = quiet_pod();
    assert_rate(&pod, "1mbit", 8.336);
    assert_rate(&pod, "250kbps", 4.168);
}

fn overheads_and_cells_take_theirs() {
    let pod = quiet_pod();
    assert_rate(&pod, "1mbit 208", 10.0);
    assert_rate(&pod, "1mbit -14", 8.224);
    // 22 cells of 48 bytes, 53 with theirs.
    assert_rate(&pod, "1mbit 0 48 5", 9.328);
}

fn slots_let_packets_out_together() {
    let pod = quiet_pod();
    for slot in ["40ms packets 5", "40ms bytes 4800", "distribution normal 40ms 1ms packets 5"] {
        let (agent, _) = pod.disrupt(&plan(&json!({ "slot": slot })));
        let times = arrivals(&pod, 20);
        end(agent);
        assert_eq!(times.len(), 20, "{slot}");
        // Five of 1042 bytes are the first that are more than 4800.
        // Those of one slot come together; a busy machine may be late for a slot, but not for the next one.
        let starts = times.windows(2).filter(|two| two[1] - two[0] > 8.0).count();
        assert!((3..=4).contains(&starts), "{slot}: {times:.0?}");
        assert_within(slot, *times.last().unwrap(), 105.0, 190.0);
    }
}

fn the_limit_loses_what_is_above() {
    let pod = quiet_pod();
    let (_agent, _) = pod.disrupt(&plan(&json!({ "delay": "300ms", "limit": 10 })));
    assert_eq!(arrivals(&pod, 50).len(), 10);
    if backend() != Backend::NetdevEgress {
        return;
    }
    let qdiscs = pod.inside.json("tc -j -s qdisc show dev pc-00000001");
    let netem = qdiscs.as_array().unwrap().iter().find(|qdisc| qdisc["kind"] == "netem").unwrap();
    assert_eq!(netem["drops"], 40, "{netem}");
}

fn a_seed_repeats_the_losses() {
    let pod = quiet_pod();
    let lost = |netem: &Value| {
        let (agent, in_force) = pod.disrupt(&plan(netem));
        let echoes = echoes(&pod, (100, "0.005"), "");
        end(agent);
        assert_eq!(
            netem["seed"].as_u64().or(in_force.netem.as_ref().unwrap().seed),
            in_force.netem.unwrap().seed
        );
        echoes.iter().map(|echo| echo.number).collect::<Vec<_>>()
    };
    let netem = |seed: u64| json!({ "loss": "40%", "seed": seed });
    let first = lost(&netem(u64::MAX));
    assert_eq!(lost(&netem(u64::MAX)), first);
    assert_ne!(lost(&netem(7)), first);
    assert_ne!(lost(&json!({ "loss": "40%" })), first);
}

fn all_of_them_are_reverted() {
    let pod = quiet_pod();
    let before = pod.inside.json("tc -j qdisc show");
    let netem = json!({
        "delay": "20ms", "jitter": "5ms", "distribution": "normal", "loss": "5%",
        "duplicate": "5%", "corrupt": "1%", "reorder": "5%", "rate": "10mbit",
        "slot": "distribution pareto 1ms 500us",
    });
    let (agent, _) = pod.disrupt(&plan(&netem));
    let Some(Event::Status { faults, .. }) = pod.ask(&status()).pop() else { panic!("no status") };
    let told = faults[0].netem.as_ref().unwrap().to_string();
    assert!(
        told.starts_with(
            "delay 20ms 5ms distribution normal loss 5% duplicate 5% corrupt 1% reorder 5% \
             rate 10mbit slot distribution pareto 1ms 500us"
        ),
        "{told}"
    );
    assert!(part(&echoes(&pod, (50, "0.005"), ""), 50) > 0.5);
    end(agent);
    pod.assert_clean();
    assert_eq!(pod.inside.json("tc -j qdisc show"), before);
    assert_eq!(echoes(&pod, (20, "0.005"), "").len(), 20);
}
