//! Targets that are known by name: names that are resolved as the pod does, and again while the fault runs; pods
//! and Services, of which the plugin tells.

use std::{
    io::{ErrorKind, Read},
    time::{Duration, Instant},
};

use pod_chaos_protocol::{Event, FailureKind};
use serde_json::{Value, json};

use crate::{
    name_server::{ADDRESS, NameServer},
    pod::{
        Agent, Namespace, PEER4, PEER6, Pod, agent_path, apply, failure, partition, revert, status,
        targets, until, with,
    },
    requirement::tests,
    services::{IN_VAIN, PATIENCE, Services, connect, echo, passes_within},
};

tests! {
    Namespaces:
        every_address_of_a_name_is_hit,
        names_are_resolved_as_the_pod_does,
        what_cannot_be_resolved_is_refused_before_anything_is_touched,
        a_name_that_changes_is_hit_wherever_it_was_and_is,
        a_name_is_asked_for_again_when_its_answer_no_longer_holds,
        a_name_that_is_spared_is_spared_wherever_it_goes,
        a_name_server_that_falls_silent_changes_nothing,
        the_plugin_says_what_its_targets_stand_for,
        what_another_fault_hits_is_left_to_it,
        sets_follow_whatever_changes,
        changes_leave_the_deadline_alone,
        connections_to_what_is_added_are_ended;
}

const ID: &str = "00000001";
const TABLE: &str = "inet pod-chaos-00000001";

/// A pod whose peer has some more addresses and listens on two ports, and a name server.
fn pod_with_names() -> (Pod, Services, NameServer) {
    let pod = Pod::new();
    pod.outside.run("for n in 3 4 5; do ip addr add 10.9.0.$n/24 dev eth0; done");
    let services = Services::start(&pod.outside, &[80, 81]);
    let names = NameServer::start(&pod.inside);
    (pod, services, names)
}

/// `serve` of an agent whose container has these files, as the kubelet writes them.
fn agent_with(pod: &Pod, resolv_conf: &str, hosts: &str) -> Agent {
    let script = format!(
        "mount -t tmpfs none /etc && printf '{resolv_conf}' >/etc/resolv.conf &&
         printf '{hosts}' >/etc/hosts && exec {} serve",
        agent_path()
    );
    let mut agent = pod.start(&["unshare", "--mount", "sh", "-c", &script]);
    agent.hello();
    agent
}

fn resolv_conf() -> String {
    format!(
        "search demo.svc.cluster.local cluster.local\\nnameserver {ADDRESS}\\noptions ndots:5\\n"
    )
}

fn serve(pod: &Pod) -> Agent {
    agent_with(pod, &resolv_conf(), "")
}

/// A target that is to be resolved.
fn named(host: &str) -> Value {
    json!({ "name": host, "source": { "dns": host } })
}

/// What is refused, so that nobody waits for an answer, is quick to find out.
fn reject(traffic: &Value) -> Value {
    with(partition(ID, "60s", "reject"), traffic)
}

/// Asks for the fault and waits until it is in force.
fn put_in_force(agent: &mut Agent, traffic: &Value) {
    agent.send(&apply(&reject(traffic)));
    agent.in_force();
}

fn end(agent: &mut Agent) {
    agent.send(&revert());
    agent.ended();
}

/// What is refused says so at once.
fn passes(namespace: &Namespace, what: &str) -> bool {
    passes_within(PATIENCE, namespace, what)
}

/// Of the last digits of the peer's addresses, those that cannot be reached on port 80.
fn hit(pod: &Pod) -> Vec<u8> {
    (2..=5).filter(|n| !passes(&pod.inside, &format!("tcp 10.9.0.{n}:80"))).collect()
}

/// The next event, which is a change: how many addresses were added and taken away, and how many there are.
fn retargeted(agent: &mut Agent) -> (usize, usize, usize) {
    match agent.next() {
        Some(Event::Retargeted { added, removed, addresses, skipped, .. }) => {
            assert_eq!(skipped, []);
            (added, removed, addresses)
        }
        other => panic!("{other:?} instead of retargeted"),
    }
}

fn every_address_of_a_name_is_hit() {
    let (pod, _services, names) = pod_with_names();
    pod.settle_ipv6("eth0", PEER6);
    names.set("db.example.com", &[PEER4, "10.9.0.4", PEER6]);
    let mut agent = serve(&pod);
    put_in_force(&mut agent, &json!({ "egress": [named("db.example.com.:80")] }));
    assert_eq!(hit(&pod), [2, 4]);
    assert!(!passes(&pod.inside, "tcp [fd00:9::2]:80"));
    assert!(passes(&pod.inside, "tcp 10.9.0.2:81") && passes(&pod.inside, "tcp [fd00:9::2]:81"));
    end(&mut agent);
    assert_eq!(hit(&pod), [0; 0]);
    pod.assert_clean();
}

fn names_are_resolved_as_the_pod_does() {
    let (pod, _services, names) = pod_with_names();
    names.set("db.demo.svc.cluster.local", &["10.9.0.3"]);
    names.set("db", &["10.9.0.4"]);
    names.set("web.cluster.local", &["=web.example.com"]);
    names.set("web.example.com", &["=cdn.example.net"]);
    names.set("cdn.example.net", &["10.9.0.5"]);
    // Whose addresses fit into no datagram.
    let many: Vec<_> =
        (1..=60).map(|n| format!("10.77.0.{n}")).chain(["10.9.0.2".into()]).collect();
    names.set("many.example.com", &many.iter().map(String::as_str).collect::<Vec<_>>());
    let hosts = "10.9.0.2 printer printer.example.com # the old one\\n10.9.0.3 printer\\n";
    for (name, want) in [
        ("db", &[3][..]),
        ("db.", &[4]),
        ("web", &[5]),
        ("WEB.Example.com", &[5]),
        ("many.example.com", &[2]),
        ("printer", &[2, 3]),
    ] {
        let mut agent = agent_with(&pod, &resolv_conf(), hosts);
        put_in_force(&mut agent, &json!({ "egress": [named(name)] }));
        assert_eq!(hit(&pod), want, "{name}");
        end(&mut agent);
    }
}

fn what_cannot_be_resolved_is_refused_before_anything_is_touched() {
    let (pod, _services, names) = pod_with_names();
    names.set("broken.example.com", &["!"]);
    names.set("empty.example.com", &["sentence"]);
    names.set("self.example.com", &["127.0.0.1"]);
    names.set("nowhere.example.com", &["0.0.0.0"]);
    names.set("db.example.com", &[PEER4]);
    let silent = "nameserver 127.0.0.54\\noptions timeout:1 attempts:1\\n";
    let (good, no_server) = (resolv_conf(), "nameserver 127.0.0.55\\n");
    for (resolv_conf, traffic, kind, words) in [
        (
            &good[..],
            json!({ "egress": [named("nobody")] }),
            FailureKind::NotFound,
            "`nobody` cannot be resolved: there is no such name",
        ),
        (
            &good,
            json!({ "egress": [named("db.example.com"), named("nobody:80")] }),
            FailureKind::NotFound,
            "no such name",
        ),
        (&good, json!({ "exclude": [named("nobody")] }), FailureKind::NotFound, "no such name"),
        (
            &good,
            json!({ "egress": [named("empty.example.com")] }),
            FailureKind::NotFound,
            "no such name",
        ),
        (
            &good,
            json!({ "egress": [named("broken.example.com.")] }),
            FailureKind::NotFound,
            "SERVFAIL",
        ),
        (
            &good,
            json!({ "egress": [named("self.example.com")] }),
            FailureKind::BadRequest,
            "loopback",
        ),
        (
            &good,
            json!({ "egress": [named("nowhere.example.com")] }),
            FailureKind::NotFound,
            "no address",
        ),
        (
            &good,
            json!({ "egress": [named("db.example.com")], "exclude": targets(&[PEER4]) }),
            FailureKind::BadRequest,
            "is excluded by",
        ),
        (
            no_server,
            json!({ "egress": [named("db.example.com.")] }),
            FailureKind::NotFound,
            "127.0.0.55:53",
        ),
        (
            silent,
            json!({ "egress": [named("db.example.com.")] }),
            FailureKind::NotFound,
            "127.0.0.54:53",
        ),
        (
            &good,
            json!({ "egress": [{ "name": "pods app=db", "source": "plugin" }] }),
            FailureKind::BadRequest,
            "stands for nothing",
        ),
    ] {
        let mut agent = agent_with(&pod, resolv_conf, "");
        agent.send(&apply(&reject(&traffic)));
        let events = agent.rest();
        let refused = failure(&events);
        assert!(refused.message.contains(words), "{traffic}: {refused:?}");
        assert_eq!((refused.kind, events.len()), (kind, 1), "{traffic}");
        assert!(refused.kind.nothing_touched());
        pod.assert_clean();
    }
}

fn a_name_that_changes_is_hit_wherever_it_was_and_is() {
    let (pod, _services, names) = pod_with_names();
    pod.settle_ipv6("eth0", PEER6);
    names.set("db.example.com", &["10.9.0.3"]);
    let mut agent = serve(&pod);
    put_in_force(&mut agent, &json!({ "egress": [named("db.example.com")] }));
    assert_eq!(hit(&pod), [3]);
    names.set("db.example.com", &["10.9.0.4", "fd00:9::2"]);
    // Each family is a question of its own: one may be asked before the answers change, and the other one after.
    let first = retargeted(&mut agent);
    if first != (2, 0, 3) {
        assert_eq!((first, retargeted(&mut agent)), ((1, 0, 2), (1, 0, 3)));
    }
    assert_eq!(hit(&pod), [3, 4]);
    assert!(!passes(&pod.inside, "tcp [fd00:9::2]:80"));
    end(&mut agent);
    assert_eq!(hit(&pod), [0; 0]);
    pod.assert_clean();
}

fn a_name_is_asked_for_again_when_its_answer_no_longer_holds() {
    let (pod, _services, names) = pod_with_names();
    names.set("db.example.com", &["10.9.0.3"]);
    names.set("cache.example.com", &["10.9.0.4", "ttl 20"]);
    let mut agent = serve(&pod);
    let egress = [named("db.example.com"), named("cache.example.com")];
    put_in_force(&mut agent, &json!({ "egress": egress }));
    // For the fault, to know for how long the answer holds, and as often as it does not.
    until("two more questions", || (names.asked("db.example.com") >= 4).then_some(()));
    assert_eq!(names.asked("cache.example.com"), 2);
    end(&mut agent);
}

fn a_name_that_is_spared_is_spared_wherever_it_goes() {
    let (pod, _services, names) = pod_with_names();
    names.set("db.example.com", &["10.9.0.3"]);
    let mut agent = serve(&pod);
    let all_but =
        json!({ "egress": targets(&["10.9.0.0/24"]), "exclude": [named("db.example.com:80")] });
    put_in_force(&mut agent, &all_but);
    assert_eq!(hit(&pod), [2, 4, 5]);
    names.set("db.example.com", &["10.9.0.4"]);
    assert_eq!(retargeted(&mut agent), (1, 0, 2));
    assert_eq!(hit(&pod), [2, 5]);
    end(&mut agent);
}

fn a_name_server_that_falls_silent_changes_nothing() {
    let (pod, _services, names) = pod_with_names();
    names.set("db.example.com", &["10.9.0.3"]);
    let mut agent = serve(&pod);
    put_in_force(&mut agent, &json!({ "egress": [named("db.example.com")] }));
    names.set("db.example.com", &["!"]);
    match agent.next() {
        Some(Event::Kept { target, message }) => {
            assert_eq!(target, "db.example.com");
            assert!(message.contains("SERVFAIL"), "{message}");
        }
        other => panic!("{other:?} instead of kept"),
    }
    assert_eq!(hit(&pod), [3]);
    end(&mut agent);
}

/// What the plugin says of a target.
fn retarget(endpoints: &[&str]) -> Value {
    json!({ "request": "retarget", "target": "pods app=db", "endpoints": endpoints })
}

/// A target of the plugin's.
fn of_the_plugin(endpoints: &[&str]) -> Value {
    json!({ "name": "pods app=db", "source": "plugin", "endpoints": endpoints })
}

fn the_plugin_says_what_its_targets_stand_for() {
    let (pod, _services, _names) = pod_with_names();
    pod.settle_ipv6("eth0", PEER6);
    let mut agent = serve(&pod);
    let followed = of_the_plugin(&["10.9.0.2", "10.9.0.3"]);
    put_in_force(&mut agent, &json!({ "egress": [followed], "ingress": [followed] }));
    assert_eq!(hit(&pod), [2, 3]);
    // A pod's successor, in a new place.
    agent.send(&retarget(&["10.9.0.3", "10.9.0.4", "fd00:9::2"]));
    assert_eq!(retargeted(&mut agent), (2, 1, 3));
    assert_eq!(hit(&pod), [3, 4]);
    let ping = passes_within(IN_VAIN, &pod.outside, "ping fd00:9::1");
    assert!(!ping, "what comes from there is hit too");
    // Nobody is not everybody.
    agent.send(&retarget(&[]));
    assert_eq!(retargeted(&mut agent), (0, 3, 0));
    assert_eq!(hit(&pod), [0; 0]);
    agent.send(&status());
    let Some(Event::Status { faults, .. }) = agent.next() else { panic!("no status") };
    let traffic = faults[0].traffic.as_ref().unwrap().to_string();
    assert_eq!(traffic, "egress to nobody and ingress from nobody");
    agent.send(&retarget(&["10.9.0.5"]));
    assert_eq!(retargeted(&mut agent), (1, 0, 1));
    assert_eq!(hit(&pod), [5]);
    // What is not new is no news, and what is unknown is said.
    agent.send(&retarget(&["10.9.0.5"]));
    agent.send(&json!({ "request": "retarget", "target": "pods", "endpoints": ["10.9.0.2"] }));
    match agent.next() {
        Some(Event::Kept { message, .. }) => assert!(message.contains("no target"), "{message}"),
        other => panic!("{other:?} instead of kept"),
    }
    end(&mut agent);
    assert_eq!(hit(&pod), [0; 0]);
    pod.assert_clean();
}

fn what_another_fault_hits_is_left_to_it() {
    let (pod, _services, _names) = pod_with_names();
    let mut agent = serve(&pod);
    put_in_force(&mut agent, &json!({ "egress": [of_the_plugin(&["10.9.0.2"])] }));
    let other =
        with(partition("00000002", "60s", "drop"), &json!({ "egress": targets(&["10.9.0.3:81"]) }));
    let (mut other, _) = pod.disrupt(&other);
    agent.send(&retarget(&["10.9.0.3", "10.9.0.4"]));
    match agent.next() {
        Some(Event::Retargeted { added: 1, removed: 1, addresses: 1, skipped, .. }) => {
            assert_eq!(skipped, ["10.9.0.3".parse().unwrap()]);
        }
        event => panic!("{event:?}"),
    }
    assert_eq!(hit(&pod), [4]);
    end(&mut other);
    agent.send(&retarget(&["10.9.0.3", "10.9.0.4"]));
    assert_eq!(retargeted(&mut agent), (1, 0, 2));
    assert_eq!(hit(&pod), [3, 4]);
    end(&mut agent);
}

/// Which of the first eight addresses of the network are in a set, as bits.
fn seen_by_nft(pod: &Pod, set: &str) -> u8 {
    let listed = pod.inside.json(&format!("nft -j list set {TABLE} {set}"));
    let elements = listed["nftables"][1]["set"]["elem"].as_array().cloned().unwrap_or_default();
    let digit = |address: &Value| -> u8 {
        address.as_str().unwrap().strip_prefix("10.9.0.").unwrap().parse().unwrap()
    };
    let bits = |element: &Value| {
        let address = element["concat"].get(0).unwrap_or(element);
        let (first, last) = if let Some(range) = address["range"].as_array() {
            (digit(&range[0]), digit(&range[1]))
        } else if let Some(prefix) = address["prefix"].as_object() {
            let first = digit(&prefix["addr"]);
            (first, first + ((1 << (32 - prefix["len"].as_u64().unwrap())) - 1))
        } else {
            (digit(address), digit(address))
        };
        (first..=last).fold(0, |bits, n| bits | 1 << n)
    };
    elements.iter().fold(0, |all, element| all | bits(element))
}

/// Single addresses, neighbours that become one range, ranges that come apart again, and none at all: after each
/// change the kernel has what it was told, by the word of `nft`, and what was there beside it.
fn sets_follow_whatever_changes() {
    let pod = Pod::new();
    for (ports, set) in [("", "to4"), (":80/tcp", "to4ports")] {
        let endpoints = |bits: u8| -> Vec<String> {
            (0..8).filter(|n| bits & 1 << n != 0).map(|n| format!("10.9.0.{n}{ports}")).collect()
        };
        let mut held = 0b10u8;
        let target = json!({ "name": "db", "source": "plugin", "endpoints": endpoints(held) });
        let beside = json!({ "name": "10.9.0.0", "endpoints": ["10.9.0.0"] });
        let (mut agent, _) = pod.disrupt(&reject(&json!({ "egress": [target, beside] })));
        for bits in
            [0b110, 0b1110, 0b1010, 0b1111_1110, 0b1010_1010, 0b0101_0100, 0, 0b1000_0000, 0b10]
        {
            let request = json!({
                "request": "retarget", "target": "db", "endpoints": endpoints(bits),
            });
            agent.send(&request);
            let count = |bits: u8| usize::try_from(bits.count_ones()).unwrap();
            let want = (count(bits & !held), count(held & !bits), count(bits));
            assert_eq!(retargeted(&mut agent), want, "{bits:b} after {held:b}");
            let own = if ports.is_empty() { bits | 1 } else { bits };
            assert_eq!(seen_by_nft(&pod, set), own, "{set}: {bits:b} after {held:b}");
            assert_eq!(seen_by_nft(&pod, "to4") & 1, 1, "what is beside it");
            held = bits;
        }
        end(&mut agent);
    }
}

/// What is added and taken away does not touch the timer of the fault, nor is the timer started anew for it: the
/// kernel ends it when it was to, the last change included, and nobody else does.
fn changes_leave_the_deadline_alone() {
    const TIME: Duration = Duration::from_millis(1_800);
    let (pod, _services, _names) = pod_with_names();
    let plan =
        with(partition(ID, "1800ms", "drop"), &json!({ "egress": [of_the_plugin(&["10.9.0.3"])] }));
    let start = Instant::now();
    let (mut agent, _) = pod.disrupt(&plan);
    let (mut held, mut left) = (1, TIME);
    for digits in [&[3, 4][..], &[2, 4], &[4], &[2, 3, 4], &[4]] {
        let endpoints: Vec<_> = digits.iter().map(|digit| format!("10.9.0.{digit}")).collect();
        agent.send(&retarget(&endpoints.iter().map(String::as_str).collect::<Vec<_>>()));
        let (added, removed, addresses) = retargeted(&mut agent);
        assert_eq!((held + added - removed, addresses), (digits.len(), digits.len()));
        held = addresses;
        // A slow kernel has no time for all of them.
        if start.elapsed() > TIME / 2 {
            break;
        }
        let live = pod.inside.run(&format!("nft list set netdev pod-chaos-{ID} live"));
        let remaining: Vec<_> =
            live.match_indices("expires ").map(|(at, _)| expires(&live[at..])).collect();
        assert_eq!(live.matches("timeout 1s800ms").count(), 2, "{live}");
        assert!(
            remaining.len() == 2 && remaining.iter().all(|one| *one < left),
            "{left:?}: {live}"
        );
        left = remaining[0].max(remaining[1]);
    }
    agent.sigkill();
    assert!(passes(&pod.inside, "ping 10.9.0.5"));
    while !passes_within(Duration::from_millis(100), &pod.inside, "ping 10.9.0.4") {
        assert!(start.elapsed() < 5 * TIME, "it never ended");
    }
    assert!(start.elapsed() >= TIME, "it ended after {:?}", start.elapsed());
}

/// The time in words like `expires 1s20ms`.
fn expires(text: &str) -> Duration {
    let word = text.split(|c: char| c.is_whitespace() || c == ',').nth(1).unwrap();
    let (seconds, rest) =
        word.split_once('s').filter(|(before, _)| !before.ends_with('m')).unwrap_or(("0", word));
    let milliseconds = rest.strip_suffix("ms").unwrap_or("0");
    Duration::from_millis(
        seconds.parse::<u64>().unwrap() * 1000 + milliseconds.parse::<u64>().unwrap(),
    )
}

fn connections_to_what_is_added_are_ended() {
    let (pod, _services, _names) = pod_with_names();
    let mut open =
        [3, 4, 5].map(|digit| connect(&pod.inside, &format!("10.9.0.{digit}:80")).unwrap());
    for stream in &mut open {
        echo(stream).unwrap();
    }
    let mut plan =
        with(partition(ID, "60s", "drop"), &json!({ "egress": [of_the_plugin(&["10.9.0.3"])] }));
    plan["fault"]["partition"]["kill-connections"] = true.into();
    let mut agent = pod.serve(&apply(&plan));
    let killed = |agent: &mut Agent| match agent.next() {
        Some(Event::Killed { connections }) => connections,
        other => panic!("{other:?} instead of killed"),
    };
    assert!(matches!(agent.next(), Some(Event::Probed { .. })));
    assert_eq!(killed(&mut agent), 1);
    assert!(matches!(agent.next(), Some(Event::InForce { .. })));
    echo(&mut open[1]).unwrap();
    agent.send(&retarget(&["10.9.0.3", "10.9.0.4"]));
    assert_eq!((retargeted(&mut agent), killed(&mut agent)), ((1, 0, 2), 1));
    for stream in &mut open[..2] {
        assert_eq!(stream.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    }
    echo(&mut open[2]).unwrap();
    // Nor is anything ended when an address goes.
    agent.send(&retarget(&["10.9.0.3"]));
    assert_eq!(retargeted(&mut agent), (0, 1, 1));
    echo(&mut open[2]).unwrap();
    end(&mut agent);
}
