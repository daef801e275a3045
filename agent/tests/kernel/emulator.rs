//! What the agent does to packets by itself, where the kernel has no netem: what was asked for, by counting
//! and timing packets; nothing else to them; and the end when the agent dies.
//!
//! Figures are printed, with `--nocapture`: docs/backends.md has them from there.
#![expect(clippy::cast_precision_loss, reason = "of small numbers")]

use std::{
    fs,
    net::UdpSocket,
    sync::mpsc::channel,
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::Signal,
    socket::{setsockopt, sockopt},
};
use pod_chaos_protocol::{Backend, Ending, Event, FailureKind, FaultState};
use serde_json::{Value, json};

use crate::{
    delay::{assert_times, transfer},
    ingress::transfer_in,
    options::{self, quiet_pod},
    pod::{
        Agent, PEER4, PEER6, Pod, apply, by, clean_end, failure, figures, figures_at_the_end,
        parts_without_agent, plan_of, revert, status, targets, until, with,
    },
    probe::{Packet, Probe, now_ms},
    requirement::{LACKS, tests},
    services::{Services, assert_only_hit, connect, echo},
};

tests! {
    NoNetem:
        is_chosen_where_the_kernel_has_no_netem;
    Emulator:
        carries_a_stream_into_the_pod,
        refuses_what_could_not_be_told_apart,
        hits_some_ports_and_spares_others,
        marks_instead_of_losing,
        repeats_itself_with_a_seed,
        carries_fragments,
        carries_super_packets_of_udp,
        carries_a_stream_through_everything,
        cuts_super_packets_that_something_is_done_to,
        is_cleared_by_who_waits_when_its_agent_is_killed,
        ends_on_time_when_its_agent_hangs,
        loses_nothing_when_it_is_late_at_its_end,
        counts_what_it_delays_and_drops,
        is_reported_with_all_it_was_told;
    Emulator measures:
        hits_both_directions_of_two_interfaces,
        hits_a_share_of_connections,
        holds_packets_for_the_delay,
        opens_when_its_agent_is_killed,
        loses_what_was_asked,
        loses_in_bursts,
        loses_ipv6_as_well,
        doubles_what_was_asked,
        corrupts_what_was_asked,
        reorders_what_was_asked,
        spreads_delays_in_a_bell_curve,
        sends_at_the_rate,
        sends_in_slots;
    Emulator alone:
        passes_many_packets,
        passes_much_of_a_stream;
    Vlan:
        lets_packets_of_vlans_pass;
}

/// A fault by the agent itself.
fn disrupt(pod: &Pod, running_time: &str, netem: &Value) -> Agent {
    let asked = by(plan_of("00000001", running_time, netem), Backend::Userspace);
    let (agent, status) = pod.disrupt(&asked);
    assert_eq!(status.backend, Backend::Userspace);
    agent
}

/// Ends it.
fn end(mut agent: Agent) {
    agent.send(&revert());
    assert_eq!(agent.ended().0, Ending::Request);
}

fn is_chosen_where_the_kernel_has_no_netem() {
    let pod = Pod::new();
    let (_agent, status) = pod.disrupt(&plan_of("00000001", "20s", &json!({ "delay": "20ms" })));
    assert_eq!(status.backend, Backend::Userspace);
}

fn refuses_what_could_not_be_told_apart() {
    let pod = Pod::new();
    let asked = |id: &str, to: &str| {
        let asked = by(plan_of(id, "20s", &json!({ "delay": "20ms" })), Backend::Userspace);
        with(asked, &json!({ "egress": targets(&[to]) }))
    };
    let (agent, _) = pod.disrupt(&asked("00000001", PEER4));
    // The mark has 26 bits of the id: of these two the same ones.
    let events = pod.ask(&apply(&asked("04000000", "10.9.0.3")));
    let refused = failure(&events);
    assert_eq!(refused.kind, FailureKind::Conflict, "{refused}");
    assert!(refused.message.contains("could not be told from those of 00000001"), "{refused}");
    let (other, _) = pod.disrupt(&asked("04000001", "10.9.0.3"));
    end(other);
    end(agent);
    pod.assert_clean();
}

fn hits_some_ports_and_spares_others() {
    let pod = Pod::new();
    pod.settle_ipv6("eth0", PEER6);
    let _services = Services::start(&pod.outside, &[80, 81]);
    let asked = by(plan_of("00000001", "60s", &json!({ "loss": "100%" })), Backend::Userspace);
    let traffic = json!({ "egress": targets(&["10.9.0.2:80", "[fd00:9::2]:80/tcp"]) });
    let (agent, status) = pod.disrupt(&with(asked, &traffic));
    assert_eq!(status.backend, Backend::Userspace);
    assert_eq!(status.traffic.unwrap().to_string(), "egress to 10.9.0.2:80, [fd00:9::2]:80/tcp");
    let hit = ["tcp 10.9.0.2:80", "udp 10.9.0.2:80", "tcp [fd00:9::2]:80"];
    let spared = [
        "udp [fd00:9::2]:80",
        "tcp 10.9.0.2:81",
        "tcp [fd00:9::2]:81",
        "ping 10.9.0.2",
        "ping fd00:9::2",
    ];
    let all = [&hit[..], &spared].concat();
    assert_only_hit(&pod.inside, &all, &hit, "in force");
    end(agent);
    assert_only_hit(&pod.inside, &all, &[], "after it");
    pod.assert_clean();
}

fn hits_a_share_of_connections() {
    let pod = Pod::new();
    let _services = Services::start(&pod.outside, &[80]);
    let asked = by(plan_of("00000001", "60s", &json!({ "delay": "30ms" })), Backend::Userspace);
    let traffic = json!({ "protocol": "tcp", "sample": { "connections": "50%" } });
    let (agent, _) = pod.disrupt(&with(asked, &traffic));
    let mut late = 0;
    for _ in 0..60 {
        let start = Instant::now();
        let mut stream = connect(&pod.inside, "10.9.0.2:80").unwrap();
        let is_late = start.elapsed() >= Duration::from_millis(30);
        late += u32::from(is_late);
        // All of it, or nothing.
        for _ in 0..3 {
            let start = Instant::now();
            echo(&mut stream).unwrap();
            assert_eq!(start.elapsed() >= Duration::from_millis(30), is_late);
        }
    }
    println!("{late} of 60 connections were late");
    // Four standard deviations.
    assert!((15..=45).contains(&late), "{late}");
    end(agent);
}

/// The time that this part of all do not exceed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn quantile(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

fn holds_packets_for_the_delay() {
    for (delay, want) in [("1ms", 1.0), ("10ms", 10.0), ("100ms", 100.0)] {
        let pod = Pod::new();
        let agent = disrupt(&pod, "20s", &json!({ "delay": delay }));
        let probe = Probe::start(&pod);
        thread::sleep(Duration::from_secs(1));
        let seen = probe.stop();
        end(agent);
        seen.assert_none_lost();
        let mut times: Vec<_> = seen.packets.iter().map(|packet| packet.travelled_ms).collect();
        times.sort_by(f64::total_cmp);
        let [least, half, most] = [0.0, 0.5, 0.99].map(|part| quantile(&times, part));
        println!(
            "delay {delay}: {least:.2} at least, {half:.2} in the middle, 99 in 100 within {most:.2} ms, of {}",
            times.len()
        );
        assert!(least >= want && half < want + 1.0, "{least} to {half}");
    }
}

/// What came of some packets.
struct Came {
    sent: u32,
    /// Their numbers, in the order in which they came.
    numbers: Vec<u32>,
    /// And when, in milliseconds from when the first one left.
    times: Vec<f64>,
}

impl Came {
    fn share(&self) -> f64 {
        f64::from(u32::try_from(self.numbers.len()).unwrap()) / f64::from(self.sent)
    }
}

/// Sends numbered datagrams of so many bytes from the pod to its peer, so many each millisecond.
fn send(
    pod: &Pod,
    (from, to): (&'static str, &'static str),
    count: u32,
    size: usize,
    each_ms: u32,
) -> Came {
    const PORT: u16 = 7001;
    let (ready, wait) = channel();
    let (sent, all_sent) = channel();
    let receive = pod.outside.spawn(move || {
        let socket = UdpSocket::bind((to, PORT)).unwrap();
        setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        ready.send(()).unwrap();
        let (mut numbers, mut times, mut buffer) = (Vec::new(), Vec::new(), vec![0; 2048]);
        let mut over = None;
        loop {
            if let Ok(length) = socket.recv(&mut buffer) {
                assert_eq!(length, size);
                numbers.push(u32::from_ne_bytes(buffer[..4].try_into().unwrap()));
                times.push(now_ms());
            } else {
                // What comes first may wait until a busy machine lets the emulator run.
                over = over.or(all_sent.try_recv().ok());
                let patience = if numbers.is_empty() { 2 } else { 0 };
                if over.is_some_and(|over: Instant| over.elapsed().as_secs() >= patience) {
                    return (numbers, times);
                }
            }
        }
    });
    wait.recv().unwrap();
    let start = pod.inside.spawn(move || {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        let (start, mut packet) = (Instant::now(), vec![7; size]);
        let start_ms = now_ms();
        for number in 0..count {
            packet[..4].copy_from_slice(&number.to_ne_bytes());
            let _ = socket.send_to(&packet, (to, PORT));
            if number % each_ms == each_ms - 1 {
                let next = Duration::from_millis(u64::from(number / each_ms + 1));
                thread::sleep(next.saturating_sub(start.elapsed()));
            }
        }
        sent.send(Instant::now()).unwrap();
        start_ms
    });
    let start = start.join().unwrap();
    let (numbers, times) = receive.join().unwrap();
    Came { sent: count, numbers, times: times.iter().map(|time| time - start).collect() }
}

const V4: (&str, &str) = ("0.0.0.0", PEER4);
const V6: (&str, &str) = ("::", PEER6);
const COUNT: u32 = 20_000;

/// Packets that came, as a share of those that were sent, is what it should be within two parts in a hundred.
fn assert_share(what: &str, found: f64, want: f64) {
    println!("{what}: {:.3} % instead of {:.3} %", found * 100.0, want * 100.0);
    assert!((found - want).abs() < 0.02, "{what}: {found} instead of {want}");
}

fn loses_what_was_asked() {
    let pod = Pod::new();
    for (loss, want) in [("1%", 0.01), ("10%", 0.1), ("30% 25%", 0.3), ("100%", 1.0)] {
        let agent = disrupt(&pod, "60s", &json!({ "loss": loss }));
        let came = send(&pod, V4, COUNT, 100, 20);
        end(agent);
        assert_share(&format!("loss {loss}"), 1.0 - came.share(), want);
    }
}

fn loses_in_bursts() {
    let pod = Pod::new();
    for (loss, want, length) in
        [("gemodel 1% 10%", 0.01 / 0.11, 10.0), ("state 2% 20%", 0.02 / 0.22, 5.0)]
    {
        let agent = disrupt(&pod, "60s", &json!({ "loss": loss }));
        // Many packets make few bursts.
        let came = send(&pod, V4, 2 * COUNT, 100, 20);
        end(agent);
        assert_share(&format!("loss {loss}"), 1.0 - came.share(), want);
        let gaps: Vec<_> =
            came.numbers.windows(2).map(|pair| f64::from(pair[1] - pair[0] - 1)).collect();
        let bursts: Vec<_> = gaps.into_iter().filter(|gap| *gap > 0.0).collect();
        let mean = bursts.iter().sum::<f64>() / bursts.len() as f64;
        println!("loss {loss}: bursts of {mean:.2} instead of {length:.2} packets");
        assert!((mean - length).abs() < 0.15 * length, "{mean} instead of {length}");
    }
}

fn loses_ipv6_as_well() {
    let pod = Pod::new();
    pod.settle_ipv6("eth0", PEER6);
    let agent = disrupt(&pod, "60s", &json!({ "loss": "10%" }));
    let came = send(&pod, V6, COUNT, 100, 20);
    end(agent);
    assert_share("loss 10%, IPv6", 1.0 - came.share(), 0.1);
}

fn doubles_what_was_asked() {
    let pod = Pod::new();
    let agent = disrupt(&pod, "60s", &json!({ "duplicate": "5%" }));
    let came = send(&pod, V4, COUNT, 100, 20);
    end(agent);
    assert_share("duplicate 5%", came.share() - 1.0, 0.05);
}

fn corrupts_what_was_asked() {
    let pod = Pod::new();
    pod.settle_ipv6("eth0", PEER6);
    let agent = disrupt(&pod, "60s", &json!({ "corrupt": "5%" }));
    for (path, line) in [(V4, "Udp: "), (V6, "Udp6InCsumErrors")] {
        let came = send(&pod, path, COUNT, 100, 20);
        assert_share(&format!("corrupt 5%, {}", path.1), 1.0 - came.share(), 0.05);
        // Each of them did arrive, and its checksum gave it away, but for those of which the length or the
        // port was hit.
        let text = pod.outside.run("cat /proc/net/snmp /proc/net/snmp6");
        let found = text.lines().rfind(|found| found.starts_with(line)).unwrap();
        let words: Vec<_> = found.split_whitespace().collect();
        let errors = if path == V4 { words[7] } else { words[1] };
        let errors = errors.parse::<f64>().unwrap() / f64::from(COUNT);
        assert_share(&format!("checksum errors, {}", path.1), errors, 0.05);
    }
    end(agent);
}

fn reorders_what_was_asked() {
    let pod = Pod::new();
    let agent = disrupt(&pod, "60s", &json!({ "delay": "20ms", "reorder": "25%" }));
    let probe = Probe::of(&pod, 5);
    thread::sleep(Duration::from_millis(2500));
    let seen = probe.stop();
    end(agent);
    seen.assert_none_lost();
    let sent = seen.sent();
    let early = |packet: &&Packet| packet.travelled_ms < 15.0;
    let early = seen.packets.iter().filter(early).count() as f64;
    assert_share(&format!("reorder 25% of {sent}"), early / sent as f64, 0.25);
}

fn spreads_delays_in_a_bell_curve() {
    let pod = Pod::new();
    let netem = json!({ "delay": "30ms", "jitter": "5ms", "distribution": "normal" });
    let agent = disrupt(&pod, "60s", &netem);
    let probe = Probe::of(&pod, 5);
    thread::sleep(Duration::from_millis(2500));
    let seen = probe.stop();
    end(agent);
    let mut times: Vec<_> = seen.packets.iter().map(|packet| packet.travelled_ms).collect();
    times.sort_by(f64::total_cmp);
    for (part, want) in
        [(0.0228, 20.0), (0.1587, 25.0), (0.5, 30.0), (0.8413, 35.0), (0.9772, 40.0)]
    {
        let found = quantile(&times, part);
        println!("normal 30ms 5ms: {:.1} % within {found:.2} instead of {want} ms", part * 100.0);
        // A busy machine makes the later ones later.
        assert!(part > 0.5 || (found - want).abs() < 1.0, "{found} instead of {want}");
    }
}

fn sends_at_the_rate() {
    let pod = Pod::new();
    // 1000 bytes and 42 of headers, of Ethernet too, as netem counts.
    for (rate, nanos_per_byte) in [("8mbit", 1_000.0), ("100mbit", 80.0)] {
        let agent = disrupt(&pod, "60s", &json!({ "rate": rate, "limit": 2_000 }));
        let came = send(&pod, V4, 2_000, 1_000, 500);
        end(agent);
        assert_eq!(came.numbers.len(), 2_000);
        let took = slope(&came.times) * 1_999.0;
        let want = 1_999.0 * 1_042.0 * nanos_per_byte / 1e6;
        println!("rate {rate}: 2000 packets took {took:.1} instead of {want:.1} ms");
        assert!((took / want - 1.0).abs() < 0.02, "{took} instead of {want}");
    }
}

/// How far one is from the next, as all of them together say: a busy machine makes some of them late, and
/// the first one as likely as any.
fn slope(times: &[f64]) -> f64 {
    let places = || (0..u32::try_from(times.len()).unwrap()).map(f64::from);
    let count = f64::from(u32::try_from(times.len()).unwrap());
    let (place, time) = (places().sum::<f64>() / count, times.iter().sum::<f64>() / count);
    let apart: f64 = places().zip(times).map(|(at, then)| (at - place) * (then - time)).sum();
    apart / places().map(|at| (at - place).powi(2)).sum::<f64>()
}

fn sends_in_slots() {
    let pod = Pod::new();
    let agent = disrupt(&pod, "60s", &json!({ "slot": "20ms packets 10" }));
    let came = send(&pod, V4, 500, 100, 500);
    end(agent);
    assert_eq!(came.numbers.len(), 500);
    // Ten at a time, at a distance of 20 ms, whichever packet a slot begins with.
    let between = slope(&came.times) * 10.0;
    println!("slot 20ms packets 10: {between:.2} ms from one to the next");
    assert!((between - 20.0).abs() < 1.0, "{between}");
    let apart: Vec<_> = came.times.windows(11).map(|eleven| eleven[10] - eleven[0]).collect();
    let right = apart.iter().filter(|apart| (**apart - 20.0).abs() < 5.0).count();
    assert!(right * 10 > apart.len() * 9, "{right} of {}: {:?}", apart.len(), came.times);
}

/// How many packets a rule at the peer's end of the wire counts.
fn count_outside(pod: &Pod, matching: &str) -> impl Fn() -> f64 {
    pod.outside.run(&format!(
        "nft 'add table netdev node
              add chain netdev node in {{ type filter hook ingress device eth0 priority 0; }}
              add rule netdev node in {matching} counter'"
    ));
    let outside = pod.outside.path();
    move || {
        let show = ["nsenter", &format!("--net={outside}"), "nft list table netdev node"].join(" ");
        let output = std::process::Command::new("sh").args(["-c", &show]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (_, rest) = text.split_once("counter packets ").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    }
}

fn marks_instead_of_losing() {
    let pod = Pod::new();
    let marked = count_outside(&pod, "ip ecn ce");
    let agent = disrupt(&pod, "60s", &json!({ "loss": "20%", "ecn": true }));
    // The part of 8,000 that is not answered. One alone waits long for those.
    let ping = |service: &str| {
        let one = format!("ping -n -q -c 1000 -i 0.001 -W 1 -Q {service} {PEER4}");
        let line = format!("for i in 1 2 3 4 5 6 7 8; do {one} & done; wait");
        let text = pod.inside.run(&line);
        let received = text.lines().filter_map(|line| line.split_once(" received,"));
        let counts = received.map(|(before, _)| before.rsplit(' ').next().unwrap().parse::<f64>());
        1.0 - counts.map(Result::unwrap).sum::<f64>() / 8_000.0
    };
    // Who takes part loses nothing, and all checksums are right, or some would not be answered.
    assert!(ping("2") < 1e-9);
    assert_share("marked", marked() / 8_000.0, 0.2);
    // Others do.
    assert_share("lost", ping("0"), 0.2);
    end(agent);
}

fn repeats_itself_with_a_seed() {
    let lost = |seed: u64| {
        let pod = Pod::new();
        // Or the kernel says something on its own now and then, which is a packet like any other.
        pod.inside.run("echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6");
        let agent = disrupt(&pod, "60s", &json!({ "loss": "50%", "seed": seed }));
        let came = send(&pod, V4, 64, 100, 20);
        end(agent);
        came.numbers
    };
    let (first, again, other) = (lost(7), lost(7), lost(8));
    assert_eq!(first, again);
    assert_ne!(first, other);
}

fn carries_fragments() {
    let pod = Pod::new();
    pod.settle_ipv6("eth0", PEER6);
    let agent = disrupt(&pod, "60s", &json!({ "delay": "5ms", "jitter": "2ms" }));
    for peer in [PEER4, PEER6] {
        // In three or more pieces, and then by a jumbogram's worth of them.
        for size in ["4000", "60000"] {
            let text = pod.inside.run(&format!("ping -n -c 5 -i 0.05 -s {size} {peer}"));
            assert!(text.contains(" 0% packet loss"), "{text}");
        }
    }
    end(agent);
}

fn carries_super_packets_of_udp() {
    const SIZE: usize = 1_000;
    let pod = Pod::new();
    pod.settle_ipv6("eth0", PEER6);
    for netem in [json!({ "delay": "5ms" }), json!({ "delay": "5ms", "loss": "0.0001%" })] {
        let agent = disrupt(&pod, "60s", &netem);
        for (from, to) in [V4, V6] {
            let receive = pod.outside.spawn(move || {
                let socket = UdpSocket::bind((to, 7002)).unwrap();
                socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
                let (mut pieces, mut buffer) = (Vec::new(), [0; 2048]);
                while let Ok(length) = socket.recv(&mut buffer) {
                    assert!(length == SIZE && buffer[..SIZE].iter().all(|byte| *byte == buffer[0]));
                    pieces.push(buffer[0]);
                }
                pieces
            });
            thread::sleep(Duration::from_millis(100));
            pod.inside
                .spawn(move || {
                    let socket = UdpSocket::bind((from, 0)).unwrap();
                    setsockopt(&socket, sockopt::UdpGsoSegment, &i32::try_from(SIZE).unwrap())
                        .unwrap();
                    let pieces: Vec<u8> = (0..40u8).flat_map(|number| [number; SIZE]).collect();
                    assert_eq!(socket.send_to(&pieces, (to, 7002)).unwrap(), 40 * SIZE);
                })
                .join()
                .unwrap();
            assert_eq!(receive.join().unwrap(), (0..40).collect::<Vec<u8>>(), "{netem}, {to}");
        }
        end(agent);
    }
}

fn carries_a_stream_through_everything() {
    let pod = Pod::new();
    let netem = json!({
        "delay": "2ms", "jitter": "1ms", "loss": "0.5%", "duplicate": "1%", "corrupt": "1%",
        "reorder": "5%",
    });
    let agent = disrupt(&pod, "60s", &netem);
    let took = transfer(&pod, 5_000_000);
    println!("5 MB through {netem}: {took:?}");
    let errors = pod.outside.run("grep '^Tcp:' /proc/net/snmp | tail -n 1");
    println!("segments with a wrong checksum: {}", errors.split_whitespace().last().unwrap());
    end(agent);
    // Without corruption no checksum may be wrong.
    let clean = Pod::new();
    let agent =
        disrupt(&clean, "60s", &json!({ "delay": "2ms", "jitter": "1ms", "duplicate": "1%" }));
    transfer(&clean, 5_000_000);
    let errors = clean.outside.run("grep '^Tcp:' /proc/net/snmp | tail -n 1");
    assert_eq!(errors.split_whitespace().last(), Some("0"), "{errors}");
    end(agent);
}

/// Bytes in each packet that the peer's end of the wire has seen, in the mean.
fn mean_packet(pod: &Pod) -> f64 {
    let link = pod.outside.json("ip -s -j link show eth0");
    let count = |what: &str| link[0]["stats64"]["rx"][what].as_f64().unwrap();
    count("bytes") / count("packets")
}

fn cuts_super_packets_that_something_is_done_to() {
    for (netem, cut) in
        [(json!({ "delay": "2ms" }), false), (json!({ "delay": "2ms", "jitter": "1us" }), true)]
    {
        let pod = Pod::new();
        let agent = disrupt(&pod, "60s", &netem);
        transfer(&pod, 5_000_000);
        end(agent);
        let mean = mean_packet(&pod);
        println!("{netem}: {mean:.0} bytes in a packet");
        assert_eq!(mean <= 1514.0, cut, "{mean}");
    }
}

fn lets_packets_of_vlans_pass() {
    let pod = Pod::new();
    for (end, address) in [(&pod.inside, "10.9.7.1"), (&pod.outside, "10.9.7.2")] {
        end.run(&format!(
            "ip link add link eth0 name eth0.7 type vlan id 7 && ip addr add {address}/24 dev eth0.7 &&
             ip link set eth0.7 up"
        ));
    }
    let agent = disrupt(&pod, "60s", &json!({ "delay": "50ms" }));
    let times = pod.ping("10.9.7.2", 5, "0.02");
    assert!(times.len() == 5 && times.iter().all(|time| *time < 20.0), "{times:?}");
    assert!(pod.round_trip() >= 50.0);
    end(agent);
}

fn opens_when_its_agent_is_killed() {
    let pod = Pod::new();
    let probe = Probe::start(&pod);
    let mut agent = disrupt(&pod, "20s", &json!({ "delay": "100ms" }));
    thread::sleep(Duration::from_millis(500));
    let killed = now_ms();
    agent.sigkill();
    thread::sleep(Duration::from_millis(500));
    let seen = probe.stop();
    let after = seen.packets.iter().filter(|packet| packet.sent_ms > killed);
    let (first, most) = after.fold((f64::MAX, 0.0f64), |(first, most), packet| {
        (first.min(packet.sent_ms - killed), most.max(packet.travelled_ms))
    });
    let lost = seen.lost.len();
    println!(
        "killed: {lost} packets were lost, the first that passed was sent {first:.1} ms later"
    );
    assert!(first < 50.0 && most < 50.0, "{first}, {most}");
    // What it held, which is 100 ms of one packet each, and what was sent until the kernel had cleared up.
    assert!((50..200).contains(&lost), "{lost}");
    assert_eq!(pod.leftovers(), parts_without_agent("00000001"));
    let Some(Event::Status { faults, .. }) = pod.ask(&status()).pop() else { panic!("no status") };
    assert_eq!((faults[0].state, faults[0].remaining_ms), (FaultState::Expired, 0));
    let events = pod.ask(&revert());
    assert_eq!(clean_end(events.first().cloned()).0, Ending::Agent);
    pod.assert_clean();
}

fn is_cleared_by_who_waits_when_its_agent_is_killed() {
    let pod = Pod::new();
    let _waiting = pod.agent("wait");
    let mut agent = disrupt(&pod, "20s", &json!({ "delay": "100ms" }));
    agent.sigkill();
    until("clean pod", || pod.leftovers().is_empty().then_some(()));
}

fn ends_on_time_when_its_agent_hangs() {
    let pod = Pod::new();
    let mut agent = disrupt(&pod, "1s", &json!({ "delay": "10ms" }));
    agent.signal(Signal::SIGSTOP);
    assert!(pod.ping(PEER4, 1, "1").is_empty() || pod.round_trip() < 5.0);
    thread::sleep(Duration::from_millis(300));
    assert!(pod.round_trip() < 5.0, "after the deadline");
    // Another agent can end the fault, but not take away what belongs to a process that does not run.
    let events = pod.ask(&revert());
    let Some(Event::Ended { left, .. }) = events.first() else { panic!("{events:?}") };
    assert_eq!(left, &["table netdev pod-chaos-00000001-emulator"]);
    agent.signal(Signal::SIGCONT);
    assert!(matches!(agent.next(), Some(Event::Ended { .. })));
    until("clean pod", || pod.leftovers().is_empty().then_some(()));
}

/// What is hit before the deadline waits for an agent that gets to run only after it, and holds nothing.
fn loses_nothing_when_it_is_late_at_its_end() {
    let pod = Pod::new();
    let agent = disrupt(&pod, "400ms", &json!({ "loss": "0.00001%" }));
    let probe = Probe::start(&pod);
    thread::sleep(Duration::from_millis(200));
    agent.signal(Signal::SIGSTOP);
    thread::sleep(Duration::from_millis(400));
    agent.signal(Signal::SIGCONT);
    thread::sleep(Duration::from_millis(100));
    let seen = probe.stop();
    let late = seen.packets.iter().filter(|packet| packet.travelled_ms > 100.0).count();
    assert!(late > 10, "{late} packets waited");
    seen.assert_none_lost();
}

/// Of what throws no dice.
fn counts_what_it_delays_and_drops() {
    let (pod, all) = (quiet_pod(), 20);
    for (netem, delayed, dropped) in [
        (json!({ "delay": "10ms" }), all, 0),
        (json!({ "loss": "100%" }), 0, all),
        (json!({ "delay": "10ms", "duplicate": "100%" }), 2 * all, 0),
        (json!({ "delay": "10ms", "reorder": "100% gap 3" }), all - all / 3, 0),
        (json!({ "rate": "8mbit" }), all, 0),
        (json!({ "slot": "5ms packets 6" }), all, 0),
        // It holds them to the end.
        (json!({ "delay": "60s", "limit": 5 }), 5, all - 5),
    ] {
        let mut agent = disrupt(&pod, "20s", &netem);
        assert_eq!(figures(&pod), (0, Some(0), Some(0)), "{netem}");
        options::send(&pod, all);
        let want = (all, Some(delayed), Some(dropped));
        until(&format!("count of {want:?}"), || (figures(&pod) == want).then_some(()));
        agent.send(&revert());
        assert_eq!(figures_at_the_end(&mut agent), want, "{netem}");
    }
    // Who has died tells nothing, and nothing is made up.
    let mut agent = disrupt(&pod, "20s", &json!({ "delay": "10ms" }));
    agent.sigkill();
    assert_eq!(figures(&pod), (0, None, None));
}

fn is_reported_with_all_it_was_told() {
    let pod = Pod::new();
    let netem = json!({
        "delay": "100ms", "jitter": "10ms", "correlation": "25%", "distribution": "paretonormal",
        "loss": "gemodel 1% 10% 70% 0.1%", "ecn": true, "duplicate": "1% 2%", "corrupt": "0.1% 5%",
        "reorder": "25% 50% gap 5", "rate": "1mbit 20 48 5", "slot": "800us 1ms packets 20 bytes 6000",
        "limit": 1000, "seed": 7,
    });
    let agent = disrupt(&pod, "20s", &netem);
    let Some(Event::Status { faults, .. }) = pod.ask(&status()).pop() else { panic!("no status") };
    assert_eq!(serde_json::to_value(&faults[0].netem).unwrap(), netem);
    assert_eq!((faults[0].state, faults[0].backend), (FaultState::InForce, Backend::Userspace));
    end(agent);
}

/// Time that a process has spent on a processor, in seconds.
fn processor_time(agent: &Agent) -> f64 {
    let text = fs::read_to_string(format!("/proc/{}/stat", agent.pid())).unwrap();
    let fields: Vec<_> = text.rsplit(") ").next().unwrap().split(' ').collect();
    // utime and stime of proc_pid_stat(5), in ticks of 10 ms.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn passes_many_packets() {
    const MANY: u32 = 100_000;
    let pod = Pod::new();
    for netem in
        [json!({ "delay": "1ms" }), json!({ "delay": "10ms", "jitter": "2ms", "loss": "1%" })]
    {
        let agent = disrupt(&pod, "60s", &netem);
        let came = send(&pod, V4, MANY, 100, 100);
        let busy = processor_time(&agent);
        end(agent);
        let seconds = came.times.last().unwrap() / 1e3;
        let count = f64::from(u32::try_from(came.numbers.len()).unwrap());
        println!(
            "{netem}: {:.0} packets/s of {:.0}, {:.0} for each second of a processor; {:.2} % came",
            count / seconds,
            f64::from(MANY) / seconds,
            count / busy,
            came.share() * 100.0
        );
        assert!(came.share() > 0.5, "{}", came.share());
    }
}

fn passes_much_of_a_stream() {
    const BYTES: usize = 40_000_000;
    let gigabits = |time: Duration| BYTES as f64 * 8e-9 / time.as_secs_f64();
    // What is next to never lost has to be cut all the same.
    for netem in [json!({ "delay": "10ms" }), json!({ "delay": "10ms", "loss": "0.00001%" })] {
        let pod = Pod::new();
        let plain = gigabits(transfer(&pod, BYTES));
        let agent = disrupt(&pod, "60s", &netem);
        let took = transfer(&pod, BYTES);
        let busy = processor_time(&agent) / took.as_secs_f64() * 100.0;
        end(agent);
        let ours = gigabits(took);
        println!("{netem}: {ours:.2} Gbit/s, {plain:.2} without it; {busy:.0} % of a processor");
        if LACKS.is_none() {
            let asked = by(plan_of("00000001", "60s", &netem), Backend::NetdevEgress);
            let (agent, _) = pod.disrupt(&asked);
            let theirs = gigabits(transfer(&pod, BYTES));
            end(agent);
            println!("{netem}: {theirs:.2} Gbit/s by netem; this is {:.2} of it", ours / theirs);
        }
    }
}

fn hits_both_directions_of_two_interfaces() {
    let pod = Pod::new();
    pod.connect("net1", "10.9.1", "fd00:9:1:");
    pod.connect("net2", "10.9.2", "fd00:9:2:");
    pod.settle_ipv6("eth0", PEER6);
    let asked = by(plan_of("00000001", "60s", &json!({ "delay": "20ms" })), Backend::Userspace);
    let traffic = json!({ "ingress": [], "interfaces": ["eth0", "net1"] });
    let (mut agent, status) = pod.disrupt(&with(asked, &traffic));
    assert_eq!(status.backend, Backend::Userspace);
    for peer in [PEER4, PEER6, "10.9.1.2"] {
        assert_times(&pod.ping(peer, 3, "0.02"), 3, 40.0, 50.0);
    }
    assert_times(&pod.ping("10.9.2.2", 3, "0.02"), 3, 0.0, 10.0);
    // What comes in is received by the interface that it came to, from whom it came.
    let socket = pod.inside.spawn(|| UdpSocket::bind("10.9.1.1:7003").unwrap()).join().unwrap();
    setsockopt(&socket, sockopt::BindToDevice, &"net1".into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    pod.outside
        .spawn(|| {
            let socket = UdpSocket::bind("10.9.1.2:7004").unwrap();
            socket.send_to(b"hello", "10.9.1.1:7003").unwrap();
        })
        .join()
        .unwrap();
    let mut buffer = [0; 9];
    assert_eq!(socket.recv_from(&mut buffer).unwrap(), (5, "10.9.1.2:7004".parse().unwrap()));
    agent.sigkill();
    for peer in [PEER4, "10.9.1.2"] {
        assert_times(&pod.ping(peer, 3, "0.02"), 3, 0.0, 10.0);
    }
    let events = pod.ask(&revert());
    clean_end(events.first().cloned());
    pod.assert_clean();
}

fn carries_a_stream_into_the_pod() {
    for (netem, cut) in
        [(json!({ "delay": "2ms" }), false), (json!({ "delay": "2ms", "jitter": "1us" }), true)]
    {
        let pod = Pod::new();
        let asked = by(plan_of("00000001", "60s", &netem), Backend::Userspace);
        let (agent, _) = pod.disrupt(&with(asked, &json!({ "egress": null, "ingress": [] })));
        let took = transfer_in(&pod, 5_000_000);
        println!("5 MB into the pod through {netem}, cut: {cut}: {took:?}");
        end(agent);
        let errors = pod.inside.run("grep '^Tcp:' /proc/net/snmp | tail -n 1");
        assert_eq!(errors.split_whitespace().last(), Some("0"), "{errors}");
        pod.assert_clean();
    }
}
