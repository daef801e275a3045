//! Which traffic is hit: each kind of target, with other traffic beside it that must stay clean. A partition
//! shows it best: what is hit does not pass at all.

use std::{
    thread,
    time::{Duration, Instant},
};

use pod_chaos_protocol::Event;
use serde_json::{Value, json};

use crate::{
    pod::{Namespace, PEER4, PEER6, Pod, partition, revert, status, targets, with},
    requirement::tests,
    services::{IN_VAIN, PATIENCE, Services, assert_only_hit, connect_within, echo, passes_within},
};

tests! {
    Namespaces:
        addresses,
        addresses_with_ports,
        protocols,
        remote_ports,
        local_ports,
        excluded_traffic,
        dns_is_spared,
        the_node_is_spared,
        everything_but_loopback_and_neighbour_discovery,
        what_comes_in,
        conditions_are_all_met,
        overlapping_targets,
        ten_thousand_blocks,
        ten_thousand_endpoints,
        every_third_packet,
        a_share_of_connections_wholly_or_not_at_all,
        several_interfaces,
        fragments_behind_the_first_have_no_ports,
        ports_and_protocols_behind_extension_headers;
}

/// The peer's second addresses.
const OTHER4: &str = "10.9.0.3";
const OTHER6: &str = "fd00:9::3";

/// What is asked from inside.
const INSIDE: [&str; 14] = [
    "tcp 10.9.0.2:80",
    "tcp 10.9.0.2:81",
    "tcp 10.9.0.3:80",
    "tcp [fd00:9::2]:80",
    "tcp [fd00:9::2]:81",
    "tcp [fd00:9::3]:80",
    "udp 10.9.0.2:80",
    "udp 10.9.0.2:53",
    "udp 10.9.0.2:53 from 1234",
    "udp [fd00:9::2]:80",
    "udp [fd00:9::2]:53 from 1234",
    "ping 10.9.0.2",
    "ping 10.9.0.3",
    "ping fd00:9::2",
];

/// A pod whose peer has two addresses of each version and answers on some ports.
fn pod_with_services() -> (Pod, Services) {
    let pod = Pod::new();
    // What is sent to the first address is answered from there.
    pod.outside.run(&format!(
        "ip addr add {OTHER4}/24 dev eth0
         ip addr add {OTHER6}/64 dev eth0 nodad
         ip route add 10.9.0.1 dev eth0 src {PEER4}
         ip route add fd00:9::1 dev eth0 src {PEER6}"
    ));
    pod.settle_ipv6("eth0", PEER6);
    let services = Services::start(&pod.outside, &[53, 80, 81]);
    (pod, services)
}

/// Puts a partition on this traffic in force; of all that is asked, these do not pass, and nothing else.
fn assert_hits(traffic: &Value, hit: &[&str]) {
    let (pod, _services) = pod_with_services();
    assert_hits_in(&pod, traffic, hit);
}

fn assert_hits_in(pod: &Pod, traffic: &Value, hit: &[&str]) {
    assert_only_hit(&pod.inside, &INSIDE, &[], "before");
    let (mut agent, _) = pod.disrupt(&with(partition("00000001", "60s", "drop"), traffic));
    assert_only_hit(&pod.inside, &INSIDE, hit, &traffic.to_string());
    agent.send(&revert());
    agent.ended();
    assert_only_hit(&pod.inside, &INSIDE, &[], &format!("after {traffic}"));
}

fn addresses() {
    assert_hits(
        &json!({ "egress": targets(&["10.9.0.2", "fd00:9::2/128"]) }),
        &[
            "tcp 10.9.0.2:80",
            "tcp 10.9.0.2:81",
            "tcp [fd00:9::2]:80",
            "tcp [fd00:9::2]:81",
            "udp 10.9.0.2:80",
            "udp 10.9.0.2:53",
            "udp 10.9.0.2:53 from 1234",
            "udp [fd00:9::2]:80",
            "udp [fd00:9::2]:53 from 1234",
            "ping 10.9.0.2",
            "ping fd00:9::2",
        ],
    );
    assert_hits(
        &json!({ "egress": targets(&["10.9.0.3/32", "fd00:9::3"]) }),
        &["tcp 10.9.0.3:80", "tcp [fd00:9::3]:80", "ping 10.9.0.3"],
    );
}

fn addresses_with_ports() {
    assert_hits(
        &json!({ "egress": targets(&["10.9.0.2:80", "[fd00:9::2]:81-90"]) }),
        &["tcp 10.9.0.2:80", "tcp [fd00:9::2]:81", "udp 10.9.0.2:80"],
    );
    assert_hits(
        &json!({ "egress": targets(&["10.9.0.0/24:80/tcp", ":53/udp"]) }),
        &[
            "tcp 10.9.0.2:80",
            "tcp 10.9.0.3:80",
            "udp 10.9.0.2:53",
            "udp 10.9.0.2:53 from 1234",
            "udp [fd00:9::2]:53 from 1234",
        ],
    );
}

fn protocols() {
    assert_hits(
        &json!({ "protocol": "icmp" }),
        &["ping 10.9.0.2", "ping 10.9.0.3", "ping fd00:9::2"],
    );
    assert_hits(
        &json!({ "egress": targets(&["/udp"]) }),
        &[
            "udp 10.9.0.2:80",
            "udp 10.9.0.2:53",
            "udp 10.9.0.2:53 from 1234",
            "udp [fd00:9::2]:80",
            "udp [fd00:9::2]:53 from 1234",
        ],
    );
    assert_hits(
        &json!({ "protocol": "tcp" }),
        &[
            "tcp 10.9.0.2:80",
            "tcp 10.9.0.2:81",
            "tcp 10.9.0.3:80",
            "tcp [fd00:9::2]:80",
            "tcp [fd00:9::2]:81",
            "tcp [fd00:9::3]:80",
        ],
    );
}

fn remote_ports() {
    assert_hits(
        &json!({ "remote-ports": "81,50-60" }),
        &[
            "tcp 10.9.0.2:81",
            "tcp [fd00:9::2]:81",
            "udp 10.9.0.2:53",
            "udp 10.9.0.2:53 from 1234",
            "udp [fd00:9::2]:53 from 1234",
        ],
    );
}

fn local_ports() {
    assert_hits(
        &json!({ "local-ports": "1-2000" }),
        &["udp 10.9.0.2:53 from 1234", "udp [fd00:9::2]:53 from 1234"],
    );
}

fn excluded_traffic() {
    assert_hits(
        &json!({ "protocol": "tcp", "exclude": targets(&["10.9.0.2", "[fd00:9::/64]:80"]) }),
        &["tcp 10.9.0.3:80", "tcp [fd00:9::2]:81"],
    );
    assert_hits(
        &json!({ "egress": targets(&["10.9.0.0/24"]), "exclude": targets(&["/tcp", ":53", "10.9.0.3/icmp"]) }),
        &["udp 10.9.0.2:80", "ping 10.9.0.2"],
    );
}

fn dns_is_spared() {
    assert_hits(
        &json!({ "egress": targets(&["10.9.0.2", "fd00:9::2"]), "protocol": "udp", "spare-dns": true }),
        &["udp 10.9.0.2:80", "udp [fd00:9::2]:80"],
    );
}

fn the_node_is_spared() {
    // The pod's default routes lead to those that end in 2: they are the node's as well.
    assert_hits(
        &json!({ "spare-node": ["192.0.2.1"] }),
        &["tcp 10.9.0.3:80", "tcp [fd00:9::3]:80", "ping 10.9.0.3"],
    );
    assert_hits(&json!({ "spare-node": ["10.9.0.3", "fd00:9::3"] }), &[]);
}

fn everything_but_loopback_and_neighbour_discovery() {
    let (pod, _services) = pod_with_services();
    let _inside = Services::start(&pod.inside, &[90]);
    let all = json!({ "ingress": [] });
    let loopback = ["tcp 127.0.0.1:90", "tcp [::1]:90", "tcp 10.9.0.1:90", "udp [fd00:9::1]:90"];
    assert_hits_in(&pod, &all, &INSIDE);
    for mode in ["drop", "reject"] {
        let (mut agent, _) = pod.disrupt(&with(partition("00000001", "60s", mode), &all));
        assert_only_hit(&pod.inside, &loopback, &[], mode);
        // Who asks for the pod as a neighbour is answered: it stays on its network.
        pod.outside.run("ip -6 neigh flush dev eth0");
        assert!(!passes_within(IN_VAIN, &pod.outside, "ping fd00:9::1"), "{mode}");
        let neighbours = pod.outside.run("ip -6 neigh show fd00:9::1 dev eth0");
        assert!(neighbours.contains("lladdr"), "{mode}: {neighbours}");
        agent.send(&revert());
        agent.ended();
    }
}

fn what_comes_in() {
    let (pod, _services) = pod_with_services();
    let _inside = Services::start(&pod.inside, &[90, 91]);
    let from_outside = [
        "tcp 10.9.0.1:90",
        "tcp 10.9.0.1:91",
        "tcp [fd00:9::1]:90",
        "udp 10.9.0.1:91",
        "udp [fd00:9::1]:90 from 1234",
        "ping 10.9.0.1",
    ];
    for (traffic, hit) in [
        (json!({ "local-ports": "90" }), vec![0, 2, 4]),
        (json!({ "ingress": targets(&["fd00:9::/64"]) }), vec![2, 4]),
        (json!({ "ingress": targets(&["10.9.0.2/tcp", ":1234"]) }), vec![0, 1, 4]),
        (json!({ "remote-ports": "1234", "local-ports": "90" }), vec![4]),
        (json!({ "exclude": targets(&["10.9.0.2"]) }), vec![2, 4]),
        (json!({ "protocol": "icmp" }), vec![5]),
    ] {
        let mut traffic = traffic;
        traffic["egress"] = Value::Null;
        if traffic.get("ingress").is_none() {
            traffic["ingress"] = json!([]);
        }
        let (mut agent, _) = pod.disrupt(&with(partition("00000001", "60s", "drop"), &traffic));
        let hit: Vec<_> = hit.into_iter().map(|at| from_outside[at]).collect();
        assert_only_hit(&pod.outside, &from_outside, &hit, &traffic.to_string());
        agent.send(&revert());
        agent.ended();
    }
    assert_only_hit(&pod.outside, &from_outside, &[], "at the end");
}

fn conditions_are_all_met() {
    assert_hits(
        &json!({
            "egress": targets(&["10.9.0.2:53", "10.9.0.3", "fd00:9::/64"]),
            "protocol": "udp",
            "remote-ports": "53",
            "local-ports": "1234",
        }),
        &["udp 10.9.0.2:53 from 1234", "udp [fd00:9::2]:53 from 1234"],
    );
}

fn overlapping_targets() {
    // The kernel takes no overlaps into a set: they are taken apart first.
    assert_hits(
        &json!({ "egress": targets(&[
            "10.9.0.0/24:80", "10.9.0.2:79-81", "10.9.0.2:80/tcp", "10.9.0.0/16:81/tcp",
            "fd00:9::3", "fd00:9::/127", "fd00:9::3/128",
        ]) }),
        &[
            "tcp 10.9.0.2:80",
            "tcp 10.9.0.2:81",
            "tcp 10.9.0.3:80",
            "tcp [fd00:9::3]:80",
            "udp 10.9.0.2:80",
        ],
    );
}

fn ten_thousand_blocks() {
    let (pod, _services) = pod_with_services();
    let mut blocks: Vec<String> = (0..10_000)
        .map(|n| format!("{}.{}.{}.0/25", 20 + n / 5000, n % 5000 / 200, n % 200))
        .collect();
    blocks.extend((0..1000).map(|n| format!("fd01:{n:x}::/40").replace(":0::", "::")));
    blocks.push("10.9.0.3/32".to_owned());
    let traffic = json!({ "egress": [{ "name": "all", "endpoints": blocks }] });
    let mut agent = pod.agent("serve");
    agent.hello();
    let start = Instant::now();
    agent.send(&crate::pod::apply(&with(partition("00000001", "60s", "drop"), &traffic)));
    let status = agent.in_force();
    let took = start.elapsed();
    println!("in force after {took:?}");
    let tried = ["tcp 10.9.0.2:80", "tcp 10.9.0.3:80"];
    assert_only_hit(&pod.inside, &tried, &tried[1..], "with all of them");
    // What is loaded before does not run down the clock: the last step arms it.
    let passed = Duration::from_millis(60_000 - status.remaining_ms);
    assert!(passed < took / 2, "{passed:?} of {took:?}");
    agent.send(&revert());
    agent.ended();
    pod.assert_clean();
}

fn ten_thousand_endpoints() {
    let (pod, _services) = pod_with_services();
    // As long as they get, each a target of its own: a plan of more than a mebibyte.
    let mut endpoints: Vec<String> = (0..10_000)
        .map(|n| format!("[2001:db8:1234:5678:9abc:def0:1234:{n:x}]:{}-65535/tcp", 10_000 + n % 3))
        .collect();
    endpoints.push("10.9.0.3:80".to_owned());
    let endpoints: Vec<_> = endpoints.iter().map(String::as_str).collect();
    let traffic = json!({ "egress": targets(&endpoints) });
    assert!(traffic.to_string().len() > 1 << 20);
    let start = Instant::now();
    let (mut agent, _) = pod.disrupt(&with(partition("00000001", "60s", "drop"), &traffic));
    println!("in force after {:?}", start.elapsed());
    let tried = ["tcp 10.9.0.2:80", "tcp 10.9.0.3:80"];
    assert_only_hit(&pod.inside, &tried, &tried[1..], "with all of them");
    agent.send(&revert());
    agent.ended();
}

fn every_third_packet() {
    let (pod, _services) = pod_with_services();
    let traffic = json!({ "egress": targets(&["10.9.0.2/icmp"]), "sample": { "every": 3 } });
    let (mut agent, _) = pod.disrupt(&with(partition("00000001", "60s", "drop"), &traffic));
    assert_eq!(pod.ping(PEER4, 30, "0.01").len(), 20);
    assert_eq!(pod.ping(OTHER4, 6, "0.01").len(), 6);
    agent.send(&revert());
    let (_, _, packets) = agent.ended();
    assert_eq!(packets, 10);
}

fn a_share_of_connections_wholly_or_not_at_all() {
    const COUNT: usize = 100;
    let (pod, _services) = pod_with_services();
    for (peer, other) in [(PEER4.to_owned(), OTHER4), (format!("[{PEER6}]"), OTHER6)] {
        // In both directions: were the choice not the same for both, a quarter would get through.
        let traffic = json!({
            "egress": targets(&[PEER4, PEER6]),
            "ingress": targets(&[PEER4, PEER6]),
            "sample": { "connections": "50%" },
        });
        let (mut agent, _) = pod.disrupt(&with(partition("0badcafe", "60s", "drop"), &traffic));
        let to = format!("{peer}:80");
        // Beside each other: half of them wait for an answer in vain.
        let mut open: Vec<_> = thread::scope(|scope| {
            let tries: Vec<_> = (0..COUNT)
                .map(|_| scope.spawn(|| connect_within(IN_VAIN, &pod.inside, &to).ok()))
                .collect();
            tries.into_iter().filter_map(|one| one.join().unwrap()).collect()
        });
        println!("{} of {COUNT} connections to {peer} were let through", open.len());
        // Four standard deviations.
        assert!((30..=70).contains(&open.len()), "{}", open.len());
        for stream in &mut open {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            for _ in 0..10 {
                echo(stream).expect("a connection is hit wholly or not at all");
            }
        }
        assert_only_hit(&pod.inside, &[&format!("ping {other}")], &[], "the other address");
        agent.send(&revert());
        agent.ended();
    }
}

fn several_interfaces() {
    let (pod, _services) = pod_with_services();
    pod.connect("net1", "10.9.1", "fd00:9:1:");
    pod.connect("net2", "10.9.2", "fd00:9:2:");
    pod.settle_ipv6("net2", "fd00:9:2::2");
    for mode in ["drop", "reject"] {
        let traffic = json!({ "interfaces": ["eth0", "net1"], "protocol": "tcp" });
        let (mut agent, in_force) =
            pod.disrupt(&with(partition("00000001", "60s", mode), &traffic));
        let names: Vec<_> = in_force.interfaces.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["eth0", "net1"]);
        let hit = ["tcp 10.9.0.2:80", "tcp 10.9.1.2:80"];
        let spared = ["tcp 10.9.2.2:80", "tcp [fd00:9:2::2]:80", "udp 10.9.1.2:80"];
        assert_only_hit(&pod.inside, &[&hit[..], &spared].concat(), &hit, mode);
        let Some(Event::Status { faults, .. }) = pod.ask(&status()).pop() else {
            panic!("no status")
        };
        assert_eq!(faults[0].interfaces, in_force.interfaces);
        agent.send(&revert());
        agent.ended();
    }
}

fn fragments_behind_the_first_have_no_ports() {
    let (pod, _services) = pod_with_services();
    // Three fragments of a datagram, of which only the first tells the port.
    for (traffic, hit) in [
        (json!({ "egress": targets(&["10.9.0.2:80/udp"]) }), 1),
        (json!({ "egress": targets(&["10.9.0.2/udp"]) }), 3),
        (json!({ "egress": targets(&["10.9.0.2"]), "exclude": targets(&[":80"]) }), 2),
    ] {
        let (mut agent, _) = pod.disrupt(&with(partition("00000001", "60s", "drop"), &traffic));
        let send = || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(&[0; 4000], (PEER4, 80)).unwrap();
        };
        pod.inside.spawn(send).join().unwrap();
        agent.send(&revert());
        let (_, _, packets) = agent.ended();
        assert_eq!(packets, hit, "{traffic}");
    }
}

/// Packets of IPv6 between the pod and its peer, by what comes behind the header: the number of the first
/// next header, and the rest. Ports are 80 at both ends, or 81.
fn with_extension_headers() -> Vec<(&'static str, u8, Vec<u8>)> {
    const HOP_BY_HOP: u8 = 0;
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    const ROUTING: u8 = 43;
    const FRAGMENT: u8 = 44;
    const ICMP: u8 = 58;
    const OPTIONS: u8 = 60;
    let udp = |port: u8| [&[0, port, 0, port, 0, 12, 0, 0][..], b"ping"].concat();
    let syn = [&[0, 80, 0, 80][..], &[0; 8], &[0x50, 2, 0xff, 0xff, 0, 0, 0, 0]].concat();
    let echo = vec![128, 0, 0, 0, 0, 1, 0, 1];
    // Padding, of six bytes and of fourteen; a route without any stops; a fragment at 0 and at 1000.
    let padding = |next| [next, 0, 1, 4, 0, 0, 0, 0].to_vec();
    let long = |next| [&[next, 1, 1, 12][..], &[0; 12]].concat();
    let route = |next| vec![next, 0, 4, 0, 0, 0, 0, 0];
    let fragment = |next, offset: u8| vec![next, 0, offset, 0xc9, 0, 0, 0, 7];
    vec![
        ("udp", UDP, udp(80)),
        ("hop-by-hop, udp", HOP_BY_HOP, [padding(UDP), udp(80)].concat()),
        ("options, udp", OPTIONS, [long(UDP), udp(80)].concat()),
        ("routing, tcp", ROUTING, [route(TCP), syn].concat()),
        (
            "hop-by-hop, options, first fragment, udp",
            HOP_BY_HOP,
            [padding(OPTIONS), long(FRAGMENT), vec![UDP, 0, 0, 1, 0, 0, 0, 7], udp(80)].concat(),
        ),
        ("hop-by-hop, udp, another port", HOP_BY_HOP, [padding(UDP), udp(81)].concat()),
        ("a later fragment of udp", FRAGMENT, [fragment(UDP, 3), vec![0, 80, 0, 80]].concat()),
        ("hop-by-hop, icmp", HOP_BY_HOP, [padding(ICMP), echo].concat()),
        // What is in front of what it carries is in it, and says nothing.
        (
            "a later fragment that begins with options",
            FRAGMENT,
            [fragment(OPTIONS, 3), padding(UDP), udp(80)].concat(),
        ),
    ]
}

/// What tells the packets apart: their hop limit, from this number on.
const HOPS: u8 = 100;

/// Counts each of them at the end where they arrive, behind all that a fault does there.
fn watch(end: &Namespace) {
    let rule = |hops| format!("add rule netdev eyes in ip6 hoplimit {hops} counter\n");
    let rules: Vec<_> = (HOPS..).take(with_extension_headers().len()).map(rule).collect();
    end.run(&format!(
        "nft 'add table netdev eyes
              add chain netdev eyes in {{ type filter hook ingress device eth0 priority 10; }}
              {}'",
        rules.concat()
    ));
}

/// Sends them from one end to the other, and says which of them arrive there, by their place.
fn arriving(pod: &Pod, outwards: bool) -> Vec<usize> {
    let (from, to) =
        if outwards { (&pod.inside, &pod.outside) } else { (&pod.outside, &pod.inside) };
    let (own, other) = if outwards { ("fd00:9::1", PEER6) } else { (PEER6, "fd00:9::1") };
    let [own, other] = [own, other].map(|text| text.parse::<std::net::Ipv6Addr>().unwrap());
    let send = move || {
        use nix::sys::socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendto, socket,
        };
        let (family, flags) = (AddressFamily::Inet6, SockFlag::empty());
        let raw = socket(family, SockType::Raw, flags, SockProtocol::Raw).unwrap();
        for (hops, (_, next, rest)) in (HOPS..).zip(with_extension_headers()) {
            let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
            let head = [0x60, 0, 0, 0, length[0], length[1], next, hops];
            let packet = [&head[..], &own.octets(), &other.octets(), &rest].concat();
            let to = SockaddrIn6::from(std::net::SocketAddrV6::new(other, 0, 0, 0));
            // A partition that rejects says so here.
            let _ = sendto(std::os::fd::AsRawFd::as_raw_fd(&raw), &packet, &to, MsgFlags::empty());
        }
    };
    let before = seen(to);
    from.spawn(send).join().unwrap();
    let after = seen(to);
    (0..after.len()).filter(|at| after[*at] == before[*at] + 1).collect()
}

/// How many of each have been seen, by their place.
fn seen(end: &Namespace) -> Vec<u64> {
    let chain = end.json("nft -j list chain netdev eyes in");
    let counts = chain["nftables"].as_array().unwrap().iter().filter_map(|one| {
        let mut parts = one["rule"]["expr"].as_array()?.iter();
        parts.find_map(|part| part["counter"]["packets"].as_u64())
    });
    counts.collect()
}

fn ports_and_protocols_behind_extension_headers() {
    let (pod, _services) = pod_with_services();
    let all: Vec<_> = (0..with_extension_headers().len()).collect();
    let one_port = json!(targets(&["[fd00:9::/64]:80/udp"]));
    for outwards in [true, false] {
        let (side, other) = if outwards { ("egress", "ingress") } else { ("ingress", "egress") };
        watch(if outwards { &pod.outside } else { &pod.inside });
        assert_eq!(arriving(&pod, outwards), all, "before");
        for (traffic, hit, mode) in [
            (json!({ "remote-ports": "80" }), vec![0, 1, 2, 3, 4], "drop"),
            (json!({ "local-ports": "80", "protocol": "udp" }), vec![0, 1, 2, 4], "drop"),
            (json!({ side: one_port }), vec![0, 1, 2, 4], "drop"),
            (json!({ "protocol": "udp" }), vec![0, 1, 2, 4, 5, 6], "drop"),
            (json!({ "protocol": "icmp" }), vec![7], "drop"),
            // A later fragment is not told from those of other ports.
            (json!({ "protocol": "udp", "exclude": targets(&[":80"]) }), vec![5, 6], "drop"),
            (json!({}), all.clone(), "drop"),
            (json!({ "protocol": "udp" }), vec![0, 1, 2, 4, 5, 6], "reject"),
        ] {
            if mode == "reject" && !outwards {
                // It is caught behind the interface, where fragments are no more.
                continue;
            }
            let mut asked = traffic;
            asked[other] = Value::Null;
            if asked.get(side).is_none() {
                asked[side] = json!([]);
            }
            let (mut agent, _) = pod.disrupt(&with(partition("00000001", "60s", mode), &asked));
            let arrived = arriving(&pod, outwards);
            agent.send(&revert());
            agent.ended();
            let missing: Vec<_> = all.iter().copied().filter(|at| !arrived.contains(at)).collect();
            assert_eq!(missing, hit, "{mode} {asked}");
        }
    }
}
