//! What a delay does while it is in force, and what it leaves alone.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use pod_chaos_protocol::{Backend, Event, FaultState};
use serde_json::Value;

use crate::{
    pod::{PATIENCE, PEER4, PEER6, Pod, backend, on, plan, revert, round_trips, status},
    requirement::tests,
};

tests! {
    Delay:
        delays_ipv4_by_what_was_asked,
        delays_ipv6_and_spares_neighbour_discovery,
        leaves_other_interfaces_alone,
        leaves_tables_and_links_of_others_alone,
        hits_the_interface_that_was_asked_for,
        finds_the_interface_of_an_ipv6_only_pod,
        lets_jumbo_frames_through,
        sends_nothing_of_its_own,
        gives_its_links_no_addresses;
    Delay measures:
        spreads_the_delay_by_the_jitter;
    Delay alone:
        carries_a_bulk_transfer_unharmed;
    Netem:
        takes_less_than_a_millisecond,
        leaves_the_interfaces_own_qdisc_alone,
        reports_what_tc_and_nft_show,
        loses_nothing_of_a_burst,
        splits_super_packets,
        the_node_sees_what_is_hit,
        keeps_the_mark_of_a_packet;
}

/// All arrived, none of them took less than `low`, and one of them no more than `high`: a busy machine may
/// make any of them late, but none early.
pub fn assert_times(times: &[f64], count: usize, low: f64, high: f64) {
    assert_eq!(times.len(), count, "{times:?}");
    let shortest = times.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(shortest >= low && shortest <= high, "{low} to {high} instead of {times:?}");
}

/// The time that this part of all do not exceed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn quantile(times: &[f64], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((times.len() - 1) as f64 * part) as usize]
}

fn delays_ipv4_by_what_was_asked() {
    let pod = Pod::new();
    assert_times(&pod.ping(PEER4, 3, "0.05"), 3, 0.0, 5.0);
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "100ms"));
    assert_times(&pod.ping(PEER4, 10, "0.05"), 10, 99.9, 106.0);
    agent.send(&revert());
    agent.ended();
    assert_times(&pod.ping(PEER4, 3, "0.05"), 3, 0.0, 5.0);
}

fn delays_ipv6_and_spares_neighbour_discovery() {
    let pod = Pod::new();
    pod.settle_ipv6("eth0", PEER6);
    let (_agent, _) = pod.disrupt(&plan("00000001", "20s", "100ms"));
    assert_times(&pod.ping(PEER6, 5, "0.05"), 5, 99.9, 106.0);
    // When nobody knows the neighbour, a question for it goes first: were it delayed too, none of these
    // would take less than 200 ms.
    let first = |_| {
        pod.inside.run("ip -6 neigh flush dev eth0");
        pod.ping(PEER6, 1, "1")[0]
    };
    let shortest = (0..5).map(first).reduce(f64::min).unwrap();
    assert!((99.9..190.0).contains(&shortest), "{shortest}");
}

fn spreads_the_delay_by_the_jitter() {
    let pod = Pod::new();
    let mut plan = plan("00000001", "20s", "50ms");
    plan["fault"]["netem"]["netem"]["jitter"] = "20ms".into();
    let (_agent, _) = pod.disrupt(&plan);
    let times = pod.ping(PEER4, 300, "0.01");
    assert_times(&times, 300, 29.9, 55.0);
    // Even from 30 to 70 ms. The quartiles of 300 are within 4 ms of theirs in 999 of 1000 runs.
    for (part, want) in [(0.25, 40.0), (0.5, 50.0), (0.75, 60.0)] {
        let found = quantile(&times, part);
        assert!((want - 5.0..want + 7.0).contains(&found), "{found} instead of {want}");
    }
}

fn takes_less_than_a_millisecond() {
    let pod = Pod::new();
    let (_agent, status) = pod.disrupt(&plan("00000001", "20s", "0.3ms"));
    assert_eq!(status.netem.unwrap().delay.to_string(), "300us");
    // tc rounds down to ticks of 64 ns, and then to microseconds.
    assert_eq!(netem(&pod)["options"]["delay"]["delay"], 0.000_299);
}

/// What `tc` shows of netem on the fault's link.
fn netem(pod: &Pod) -> Value {
    let qdiscs = pod.inside.json("tc -j -s qdisc show dev pc-00000001");
    let found = qdiscs.as_array().unwrap().iter().find(|qdisc| qdisc["kind"] == "netem").cloned();
    found.unwrap_or_else(|| panic!("no netem in {qdiscs}"))
}

fn leaves_the_interfaces_own_qdisc_alone() {
    let pod = Pod::new();
    pod.inside.run("tc qdisc replace dev eth0 root handle 5: prio bands 5");
    let show = || pod.inside.json("tc -j qdisc show dev eth0");
    let before = show();
    assert_eq!(before[0]["bands"].as_u64().or(before[0]["options"]["bands"].as_u64()), Some(5));
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "100ms"));
    assert!(pod.round_trip() > 99.0);
    assert_eq!(show(), before);
    agent.send(&revert());
    agent.ended();
    assert_eq!(show(), before);
}

fn leaves_other_interfaces_alone() {
    let pod = Pod::new();
    pod.connect("net1", "10.9.1", "fd00:9:1:");
    pod.settle_ipv6("net1", "fd00:9:1::2");
    let show = || pod.inside.json("tc -j qdisc show dev net1");
    let before = show();
    let (_agent, status) = pod.disrupt(&plan("00000001", "20s", "100ms"));
    assert_eq!(status.interfaces[0].as_str(), "eth0");
    assert!(pod.round_trip() > 99.0);
    assert_times(&pod.ping("10.9.1.2", 5, "0.02"), 5, 0.0, 5.0);
    assert_times(&pod.ping("fd00:9:1::2", 5, "0.02"), 5, 0.0, 5.0);
    assert_eq!(show(), before);
}

fn leaves_tables_and_links_of_others_alone() {
    let pod = Pod::new();
    pod.inside.run(
        "nft add table netdev mesh; nft add table inet pod-chaos-mine; nft add table netdev pod-chaos-12
         ip link add pc-printer type veth peer name pc-scanner
         ip link add pc-12345678 type veth peer name pc-12345678x
         ip link set pc-12345678 up; ip link set pc-12345678x up",
    );
    let before = pod.leftovers();
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "100ms"));
    agent.send(&revert());
    agent.ended();
    pod.ask(&revert());
    assert_eq!(pod.leftovers(), before);
}

fn hits_the_interface_that_was_asked_for() {
    let pod = Pod::new();
    pod.connect("net1", "10.9.1", "fd00:9:1:");
    let (_agent, status) = pod.disrupt(&on(plan("00000001", "20s", "100ms"), "net1"));
    assert_eq!(status.interfaces[0].as_str(), "net1");
    assert_times(&pod.ping("10.9.1.2", 3, "0.05"), 3, 99.9, 106.0);
    assert_times(&pod.ping(PEER4, 3, "0.05"), 3, 0.0, 5.0);
}

fn finds_the_interface_of_an_ipv6_only_pod() {
    let pod = Pod::new();
    pod.inside.run("ip route del default");
    let (_agent, status) = pod.disrupt(&plan("00000001", "20s", "100ms"));
    assert_eq!(status.interfaces[0].as_str(), "eth0");
}

fn reports_what_tc_and_nft_show() {
    let pod = Pod::new();
    let mut plan = plan("00000001", "20s", "123.456ms");
    plan["fault"]["netem"]["netem"]["jitter"] = "7ms".into();
    let (_agent, at_start) = pod.disrupt(&plan);
    pod.ping(PEER4, 5, "0.02");
    let Some(Event::Status { faults, .. }) = pod.ask(&status()).pop() else { panic!("no status") };
    let [fault] = &faults[..] else { panic!("{faults:?}") };
    assert_eq!(fault.state, FaultState::InForce);
    assert_eq!(fault.interfaces[0].as_str(), "eth0");
    assert_eq!(fault.backend, Backend::NetdevEgress);
    assert_eq!(fault.netem, at_start.netem);
    let asked = fault.netem.as_ref().unwrap();
    assert_eq!(
        (asked.delay.to_string(), asked.jitter.to_string()),
        ("123.456ms".into(), "7ms".into())
    );
    // Two clocks, read one after the other on a machine that may be busy.
    assert!((fault.age_ms + fault.remaining_ms).abs_diff(20_000) <= 500, "{fault:?}");
    assert!(fault.age_ms > at_start.age_ms && fault.remaining_ms < at_start.remaining_ms);

    let netem = netem(&pod);
    assert_eq!(netem["options"]["delay"]["delay"], 0.123_456);
    assert_eq!(netem["options"]["delay"]["jitter"], 0.007);
    assert_eq!(netem["options"]["limit"], 130_456);
    let table = pod.inside.run("nft list table netdev pod-chaos-00000001");
    let Some(Event::Status { faults: later, .. }) = pod.ask(&status()).pop() else {
        panic!("no status")
    };
    let counter = table.split_once("counter packets ").unwrap().1.split(' ').next().unwrap();
    // The kernel says something on its own now and then.
    let seen = fault.packets..=later[0].packets;
    assert!(seen.contains(&counter.parse().unwrap()), "{counter} is not within {seen:?}");
    assert!(fault.packets >= 5);
    let back = table.split_once("chain exit").unwrap().1;
    assert!(table.contains(" fwd to \"pc-00000001\""), "{table}");
    assert!(back.contains("hook ingress device \"pc-00000001x\""), "{table}");
    assert!(back.contains(" fwd to \"eth0\""), "{table}");
    assert!(table.contains("comment \"v1 netem eth0 from "), "{table}");
}

fn loses_nothing_of_a_burst() {
    let pod = Pod::new();
    let (_agent, _) = pod.disrupt(&plan("00000001", "20s", "2s"));
    // Ten times as many as tc's own limit, within the delay.
    send_datagrams(&pod, 10_000);
    let netem = netem(&pod);
    assert_eq!(netem["drops"], 0, "{netem}");
    assert!(netem["qlen"].as_u64() > Some(1000), "never held more than tc would: {netem}");
}

/// From the pod to its peer, on port 9.
fn send_datagrams(pod: &Pod, count: u32) {
    let send = move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for _ in 0..count {
            socket.send_to(&[0; 64], (PEER4, 9)).unwrap();
        }
    };
    pod.inside.spawn(send).join().unwrap();
}

/// Bytes in which a piece that is missing, doubled or misplaced shows.
fn payload(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Sends so many bytes over TCP to the peer, and returns how long it took. They must arrive as they were.
pub fn transfer(pod: &Pod, length: usize) -> Duration {
    let (ready, wait) = channel();
    let (finished, arrival) = channel();
    pod.outside.spawn(move || {
        let listener = TcpListener::bind((PEER4, 9)).unwrap();
        ready.send(()).unwrap();
        let mut received = Vec::with_capacity(length);
        listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
        finished.send((received, Instant::now()))
    });
    wait.recv().unwrap();
    let sent = payload(length);
    let bytes = sent.clone();
    let start = Instant::now();
    pod.inside.spawn(move || TcpStream::connect((PEER4, 9)).unwrap().write_all(&bytes).unwrap());
    let (arrived, end) = arrival.recv_timeout(3 * PATIENCE).expect("all bytes");
    assert_eq!(arrived.len(), length);
    assert!(arrived == sent, "other bytes arrived");
    end - start
}

fn splits_super_packets() {
    let pod = Pod::new();
    let (_agent, _) = pod.disrupt(&plan("00000001", "20s", "5ms"));
    transfer(&pod, 5_000_000);
    let netem = netem(&pod);
    assert_eq!(netem["drops"], 0, "{netem}");
    // The statistics of qdiscs count what a super-packet will be split into; a link counts it as one.
    let link = pod.outside.json("ip -s -j link show eth0");
    let count = |what: &str| link[0]["stats64"]["rx"][what].as_f64().unwrap();
    let (packets, bytes) = (count("packets"), count("bytes"));
    assert!(bytes > 5e6 && bytes / packets <= 1514.0, "{bytes} bytes in {packets} packets");
    let hit = hit(&pod);
    assert!(bytes / hit > 3000.0, "no super-packets in the first place: {bytes} bytes in {hit}");
}

/// How many packets the fault says it has hit.
fn hit(pod: &Pod) -> f64 {
    let table = pod.inside.run("nft list table netdev pod-chaos-00000001");
    table.split_once("counter packets ").unwrap().1.split(' ').next().unwrap().parse().unwrap()
}

fn carries_a_bulk_transfer_unharmed() {
    const BYTES: usize = 30_000_000;
    let pod = Pod::new();
    let plain = transfer(&pod, BYTES);
    let (mut agent, _) = pod.disrupt(&plan("00000001", "60s", "1ms"));
    let delayed = transfer(&pod, BYTES);
    let drops = (backend() == Backend::NetdevEgress).then(|| netem(&pod)["drops"].clone());
    agent.send(&revert());
    agent.ended();
    let after = transfer(&pod, BYTES);
    println!("plain {plain:?}, delayed {delayed:?}, after {after:?}");
    assert!(drops.is_none_or(|drops| drops == 0), "packets were dropped");
    // Retransmission timeouts, of 200 ms each, would take far longer than this.
    assert!(delayed < plain * 8 + Duration::from_secs(1), "{delayed:?} instead of {plain:?}");
    assert!(after < plain * 4 + Duration::from_millis(500), "{after:?} instead of {plain:?}");
}

fn the_node_sees_what_is_hit() {
    const COUNT: u32 = 50;
    let pod = Pod::new();
    // What a node's network may be made of: a program, here in form of a filter, and nf_tables.
    pod.outside.run(
        "tc qdisc add dev eth0 clsact
         tc filter add dev eth0 ingress protocol ip \
             u32 match ip protocol 17 0xff match ip dport 9 0xffff action pass
         nft 'add table netdev node
              add chain netdev node in { type filter hook ingress device eth0 priority 0; }
              add rule netdev node in udp dport 9 counter'",
    );
    let seen = || {
        let after = |text: &str, word: &str| -> u32 {
            let (_, rest) = text.split_once(word).unwrap_or_else(|| panic!("no {word} in {text}"));
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        let filter = pod.outside.run("tc -s filter show dev eth0 ingress");
        let table = pod.outside.run("nft list table netdev node");
        (after(&filter, " bytes "), after(&table, "counter packets "))
    };
    send_datagrams(&pod, COUNT);
    assert_eq!(seen(), (COUNT, COUNT), "without a fault");
    let (mut agent, _) = pod.disrupt(&plan("00000001", "20s", "20ms"));
    send_datagrams(&pod, COUNT);
    agent.send(&revert());
    agent.ended();
    assert_eq!(seen(), (2 * COUNT, 2 * COUNT), "with a fault");
}

fn keeps_the_mark_of_a_packet() {
    let pod = Pod::new();
    // A program of the pod's own that goes by the mark, behind the fault.
    pod.inside.run(
        "tc qdisc add dev eth0 clsact
         tc filter add dev eth0 egress protocol ip handle 77 fw action pass",
    );
    let (_agent, _) = pod.disrupt(&plan("00000001", "20s", "50ms"));
    let output = pod.inside.run(&format!("ping -n -m 77 -c 3 -i 0.05 {PEER4}"));
    assert_times(&round_trips(&output), 3, 49.9, 56.0);
    let filter = pod.inside.run("tc -s filter show dev eth0 egress");
    assert!(filter.contains(" 3 pkt "), "{filter}");
}

fn sends_nothing_of_its_own() {
    let pod = Pod::new();
    // In a pod that routes, the kernel reports its multicast groups on each link that is set up.
    pod.inside.run(
        "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
         echo 1 >/proc/sys/net/ipv6/conf/default/forwarding",
    );
    let link = pod.inside.json("ip -j link show dev eth0");
    let address = link[0]["address"].as_str().unwrap();
    pod.outside.run(&format!(
        "nft 'add table netdev node
              add chain netdev node in {{ type filter hook ingress device eth0 priority 0; }}
              add rule netdev node in ether saddr != {address} counter'"
    ));
    let (_agent, _) = pod.disrupt(&plan("00000001", "20s", "20ms"));
    thread::sleep(Duration::from_secs(3));
    let links = pod.inside.json("ip -s -j link show dev pc-00000001");
    let reports = &links[0]["stats64"]["tx"]["packets"];
    assert!(reports.as_u64() > Some(0), "the kernel has said nothing: {links}");
    let table = pod.outside.run("nft list table netdev node");
    assert!(table.contains("counter packets 0 "), "{table}");
}

fn lets_jumbo_frames_through() {
    let pod = Pod::new();
    pod.inside.run("ip link set eth0 mtu 9000");
    pod.outside.run("ip link set eth0 mtu 9000");
    let (_agent, _) = pod.disrupt(&plan("00000001", "20s", "20ms"));
    let times = pod.inside.run(&format!("ping -n -c 3 -i 0.05 -M do -s 8900 {PEER4}"));
    assert!(times.contains(" 0% packet loss"), "{times}");
    transfer(&pod, 2_000_000);
}

fn gives_its_links_no_addresses() {
    let pod = Pod::new();
    let (_agent, _) = pod.disrupt(&plan("00000001", "20s", "1ms"));
    for link in ["pc-00000001", "pc-00000001x"] {
        let addresses = pod.inside.json(&format!("ip -j addr show dev {link}"));
        assert_eq!(addresses[0]["addr_info"], serde_json::json!([]), "{addresses}");
    }
}
