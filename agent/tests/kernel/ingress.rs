//! Delays of what reaches the pod, and of some of what leaves it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use pod_chaos_protocol::{Backend, Direction};
use serde_json::{Value, json};

use crate::{
    delay::{assert_times, transfer},
    pod::{PATIENCE, PEER4, PEER6, Pod, backend, figures_at_the_end, plan, revert, targets, with},
    requirement::{LACKS, tests},
};

tests! {
    Netem:
        ends_by_the_timer_when_all_agents_are_killed;
    Delay:
        delays_what_reaches_the_pod,
        delays_both_directions,
        delays_only_its_targets,
        packets_on_their_way_in_arrive_after_a_revert,
        delays_only_its_targets_on_the_way_out;
    Netem alone:
        carries_a_bulk_transfer_into_the_pod_unharmed;
    Delay measures:
        every_other_packet_is_late;
    Delay alone:
        leaves_what_is_not_hit_its_throughput;
}

/// The backend for these directions.
fn of_directions(directions: &[Direction]) -> Backend {
    match backend() {
        Backend::Userspace => Backend::Userspace,
        _ => Backend::by_netem(directions),
    }
}

fn ingress(delay: &str, from: &[&str]) -> Value {
    with(plan("00000001", "60s", delay), &json!({ "egress": null, "ingress": targets(from) }))
}

fn delays_what_reaches_the_pod() {
    let pod = Pod::new();
    pod.settle_ipv6("eth0", PEER6);
    let (mut agent, status) = pod.disrupt(&ingress("100ms", &[]));
    assert_eq!(status.backend, of_directions(&[Direction::Ingress]));
    assert_times(&pod.ping(PEER4, 5, "0.05"), 5, 99.9, 106.0);
    assert_times(&pod.ping(PEER6, 5, "0.05"), 5, 99.9, 106.0);
    // Its own program sees each packet once.
    let before =
        pod.inside.json("ip -s -j link show dev eth0")[0]["stats64"]["rx"]["packets"].clone();
    pod.ping(PEER4, 5, "0.02");
    let after =
        pod.inside.json("ip -s -j link show dev eth0")[0]["stats64"]["rx"]["packets"].clone();
    let count = after.as_u64().unwrap() - before.as_u64().unwrap();
    assert!((5..10).contains(&count), "{count}");
    agent.send(&revert());
    agent.ended();
    assert_times(&pod.ping(PEER4, 3, "0.05"), 3, 0.0, 5.0);
    pod.assert_clean();
}

fn delays_both_directions() {
    let pod = Pod::new();
    pod.settle_ipv6("eth0", PEER6);
    let both = json!({ "ingress": [] });
    let (mut agent, status) = pod.disrupt(&with(plan("00000001", "60s", "50ms"), &both));
    assert_eq!(status.backend, of_directions(&Direction::BOTH));
    assert!(
        Direction::BOTH.iter().all(|side| status.traffic.as_ref().unwrap().peers(*side).is_some())
    );
    assert_times(&pod.ping(PEER4, 5, "0.05"), 5, 99.8, 150.0);
    assert_times(&pod.ping(PEER6, 5, "0.05"), 5, 99.8, 150.0);
    agent.send(&revert());
    // On both ways; and perhaps what the kernel says of its groups (MLD).
    let (_, delayed, dropped) = figures_at_the_end(&mut agent);
    assert!(delayed >= Some(20) && dropped == Some(0), "{delayed:?}, {dropped:?}");
    pod.assert_clean();
}

fn delays_only_its_targets() {
    let pod = Pod::new();
    pod.outside.run("ip addr add 10.9.0.3/24 dev eth0; ip addr add fd00:9::3/64 dev eth0 nodad");
    pod.settle_ipv6("eth0", PEER6);
    for (traffic, delay) in [
        (json!({ "egress": null, "ingress": targets(&["10.9.0.2", "fd00:9::2"]) }), 50.0),
        (json!({ "ingress": [], "exclude": targets(&["10.9.0.3", "fd00:9::3"]) }), 100.0),
    ] {
        let (mut agent, _) = pod.disrupt(&with(plan("00000001", "60s", "50ms"), &traffic));
        for peer in [PEER4, PEER6] {
            assert_times(&pod.ping(peer, 5, "0.05"), 5, delay - 0.2, delay * 1.5);
        }
        for bystander in ["10.9.0.3", "fd00:9::3"] {
            assert_times(&pod.ping(bystander, 5, "0.02"), 5, 0.0, 5.0);
        }
        agent.send(&revert());
        agent.ended();
    }
}

fn delays_only_its_targets_on_the_way_out() {
    let pod = Pod::new();
    for number in [3, 4] {
        pod.outside.run(&format!(
            "ip addr add 10.9.0.{number}/24 dev eth0; ip addr add fd00:9::{number}/64 dev eth0 nodad"
        ));
    }
    let others = ["10.9.0.4", "fd00:9::4"];
    pod.settle_ipv6("eth0", PEER6);
    pod.settle_ipv6("eth0", others[1]);
    let gateways = [PEER4, PEER6];
    for (traffic, spared) in [
        (json!({ "egress": targets(&others) }), &gateways[..]),
        (
            json!({ "egress": targets(&["/icmp"]), "exclude": targets(&["10.9.0.3", "fd00:9::3"]) }),
            &[],
        ),
        // Who spares the node spares it under the address that its packets come from.
        (json!({ "protocol": "icmp", "spare-node": ["10.9.0.3", "fd00:9::3"] }), &gateways),
    ] {
        let (mut agent, status) = pod.disrupt(&with(plan("00000001", "60s", "50ms"), &traffic));
        assert_eq!(status.backend, backend());
        for peer in others {
            assert_times(&pod.ping(peer, 5, "0.05"), 5, 49.9, 75.0);
        }
        for bystander in [&["10.9.0.3", "fd00:9::3"], spared].concat() {
            assert_times(&pod.ping(bystander, 5, "0.02"), 5, 0.0, 5.0);
        }
        agent.send(&revert());
        let (_, _, packets) = agent.ended();
        // And perhaps what the kernel says of its groups (MLD).
        assert!((10..=12).contains(&packets), "{packets}");
    }
    pod.assert_clean();
}

fn ends_by_the_timer_when_all_agents_are_killed() {
    let pod = Pod::new();
    let mut plan = ingress("100ms", &[]);
    plan["running-time"] = "1500ms".into();
    let (mut agent, _) = pod.disrupt(&plan);
    let start = Instant::now();
    agent.sigkill();
    let mut last = Duration::ZERO;
    while start.elapsed() < Duration::from_secs(3) {
        if pod.ping(PEER4, 1, "1")[0] > 50.0 {
            last = start.elapsed();
        }
    }
    println!("the last late packet was sent {last:?} after the start");
    assert!(last > Duration::from_secs(1) && last < Duration::from_millis(1800), "{last:?}");
    let rest = pod.leftovers();
    assert_eq!(rest, ["pc-00000001i", "pod-chaos-00000001"]);
    pod.ask(&revert());
    pod.assert_clean();
}

/// Sends so many bytes over TCP into the pod.
pub fn transfer_in(pod: &Pod, length: usize) -> Duration {
    let (ready, wait) = channel();
    let (finished, arrival) = channel();
    pod.inside.spawn(move || {
        let listener = TcpListener::bind("10.9.0.1:9").unwrap();
        ready.send(()).unwrap();
        let mut received = Vec::with_capacity(length);
        listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
        finished.send((received, Instant::now()))
    });
    wait.recv().unwrap();
    let bytes: Vec<u8> = (0..=250).cycle().take(length).collect();
    let sent = bytes.clone();
    let start = Instant::now();
    pod.outside.spawn(move || TcpStream::connect("10.9.0.1:9").unwrap().write_all(&bytes).unwrap());
    let (arrived, end) = arrival.recv_timeout(3 * PATIENCE).expect("all bytes");
    assert!(arrived == sent, "other bytes arrived");
    end - start
}

fn carries_a_bulk_transfer_into_the_pod_unharmed() {
    const BYTES: usize = 20_000_000;
    let pod = Pod::new();
    let plain = transfer_in(&pod, BYTES);
    let (mut agent, _) = pod.disrupt(&ingress("1ms", &[]));
    let delayed = transfer_in(&pod, BYTES);
    let qdiscs = pod.inside.json("tc -j -s qdisc show dev pc-00000001i");
    let netem = qdiscs.as_array().unwrap().iter().find(|qdisc| qdisc["kind"] == "netem").unwrap();
    assert_eq!(netem["drops"], 0, "{netem}");
    assert!(netem["packets"].as_u64().unwrap() > BYTES as u64 / 1500, "{netem}");
    agent.send(&revert());
    agent.ended();
    let after = transfer_in(&pod, BYTES);
    println!("plain {plain:?}, delayed {delayed:?}, after {after:?}");
    assert!(delayed < plain * 10 + Duration::from_secs(1), "{delayed:?} instead of {plain:?}");
}

fn packets_on_their_way_in_arrive_after_a_revert() {
    let pod = Pod::new();
    let (mut agent, _) = pod.disrupt(&ingress("500ms", &[]));
    let mut ping = Command::new("ping");
    ping.args(["-n", "-c", "5", "-i", "0.02", "-W", "3", PEER4]).stdout(Stdio::piped());
    let ping = pod.inside.start(ping);
    thread::sleep(Duration::from_millis(250));
    agent.send(&revert());
    agent.ended();
    let output = ping.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("5 received"), "{text}");
    pod.assert_clean();
}

fn every_other_packet_is_late() {
    let pod = Pod::new();
    let traffic = json!({ "egress": targets(&["10.9.0.2/icmp"]), "sample": { "every": 2 } });
    let (_agent, _) = pod.disrupt(&with(plan("00000001", "60s", "30ms"), &traffic));
    let times = pod.ping(PEER4, 20, "0.05");
    let late = times.iter().filter(|time| **time > 29.9).count();
    assert_eq!((times.len(), late), (20, 10), "{times:?}");
}

fn leaves_what_is_not_hit_its_throughput() {
    // Fewer on a kernel that runs as a program.
    let bytes = if LACKS.is_some() { 20_000_000 } else { 10_000_000 };
    let pod = Pod::new();
    let best = |pod: &Pod| (0..3).map(|_| transfer(pod, bytes)).min().unwrap();
    let plain = best(&pod);
    let blocks: Vec<String> =
        (0..10_000).map(|n| format!("20.{}.{}.0/25", n / 200, n % 200)).collect();
    let traffic = json!({ "egress": [{ "name": "all", "endpoints": blocks }] });
    let (_agent, _) = pod.disrupt(&with(plan("00000001", "60s", "30ms"), &traffic));
    let beside = best(&pod);
    println!("plain {plain:?}, beside 10,000 blocks {beside:?}");
    assert!(beside < plain * 2 + Duration::from_millis(100), "{beside:?} instead of {plain:?}");
}
