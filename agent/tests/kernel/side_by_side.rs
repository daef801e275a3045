//! Two faults on one pod.

use pod_chaos_protocol::{Backend, Event, FailureKind};
use serde_json::{Value, json};

use crate::{
    delay::{assert_times, transfer},
    pod::{
        PEER4, Pod, apply, backend, failure, partition, parts, plan, revert, status, targets, with,
    },
    requirement::tests,
    services::{IN_VAIN, Services, assert_only_hit, passes_within},
};

tests! {
    Namespaces:
        what_has_no_packet_in_common_runs_side_by_side,
        what_has_some_is_refused_and_named,
        what_is_in_the_way_is_replaced;
    Delay:
        two_delays_on_one_interface,
        a_delay_beside_a_partition,
        a_delay_is_replaced,
        three_interfaces_of_one_fault;
}

fn drop_to(id: &str, to: &[&str]) -> Value {
    with(partition(id, "60s", "drop"), &json!({ "egress": targets(to) }))
}

fn what_has_no_packet_in_common_runs_side_by_side() {
    let pod = Pod::new();
    let _services = Services::start(&pod.outside, &[80, 81, 82]);
    let (mut first, _) = pod.disrupt(&drop_to("00000001", &["10.9.0.2:80"]));
    let reject = with(
        partition("00000002", "60s", "reject"),
        &json!({ "egress": targets(&["10.9.0.2:81", "fd00:9::2"]) }),
    );
    let (mut second, _) = pod.disrupt(&reject);
    let all = ["tcp 10.9.0.2:80", "tcp 10.9.0.2:81", "tcp 10.9.0.2:82"];
    assert_only_hit(&pod.inside, &all, &all[..2], "two in force");
    let Some(Event::Status { faults, .. }) = pod.ask(&status()).pop() else { panic!("no status") };
    assert_eq!(faults.len(), 2);
    first.send(&revert());
    first.ended();
    assert_only_hit(&pod.inside, &all, &all[1..2], "one in force");
    second.send(&revert());
    second.ended();
    assert_only_hit(&pod.inside, &all, &[], "none in force");
    pod.assert_clean();
}

fn what_has_some_is_refused_and_named() {
    let pod = Pod::new();
    let (_first, _) = pod.disrupt(&drop_to("00000001", &["10.9.0.0/24:80-90"]));
    for to in [&["10.9.0.2:85/tcp"][..], &["11.0.0.1", "10.9.0.7"], &["0.0.0.0/0"], &["/udp"], &[]]
    {
        let events = pod.ask(&apply(&drop_to("00000002", to)));
        let refused = failure(&events);
        assert_eq!(refused.kind, FailureKind::Conflict, "{to:?}");
        assert!(refused.message.starts_with("fault 00000001 is in force on `eth0`"), "{refused}");
        assert!(refused.hint.as_deref().unwrap().contains("--replace"), "{refused:?}");
    }
    // In the other direction it is in nobody's way.
    let ingress = json!({ "egress": null, "ingress": targets(&["10.9.0.2:85"]) });
    let (_second, _) = pod.disrupt(&with(partition("00000002", "60s", "drop"), &ingress));
    let events =
        pod.ask(&apply(&with(partition("00000003", "60s", "drop"), &json!({ "ingress": [] }))));
    assert!(failure(&events).message.contains("and 1 more"), "{events:?}");
}

fn what_is_in_the_way_is_replaced() {
    let pod = Pod::new();
    let _services = Services::start(&pod.outside, &[80, 81]);
    let (mut first, _) = pod.disrupt(&drop_to("00000001", &["10.9.0.2:80"]));
    let (_third, _) = pod.disrupt(&drop_to("00000003", &["fd00:9::2"]));
    let mut plan = drop_to("00000002", &["10.9.0.0/24:80-81"]);
    plan["replace"] = true.into();
    let mut agent = pod.serve(&apply(&plan));
    assert!(matches!(agent.next(), Some(Event::Probed { .. })));
    let replaced = agent.next();
    assert!(
        matches!(replaced, Some(Event::Replaced { fault }) if fault.number() == 1),
        "{replaced:?}"
    );
    assert!(matches!(agent.next(), Some(Event::InForce { .. })));
    assert!(!passes_within(IN_VAIN, &pod.inside, "tcp 10.9.0.2:81"));
    // Its own agent says so, and what was not in the way stays.
    first.ended();
    assert_eq!(pod.leftovers(), ["pod-chaos-00000003", "pod-chaos-00000002"]);
}

fn delay_to(id: &str, delay: &str, to: &[&str]) -> Value {
    with(plan(id, "60s", delay), &json!({ "egress": targets(to) }))
}

fn two_delays_on_one_interface() {
    let pod = Pod::new();
    pod.outside.run("ip addr add 10.9.0.3/24 dev eth0; ip addr add 10.9.0.4/24 dev eth0");
    // A packet that comes back from one fault must not be taken for one that is new to it, whichever of the
    // two chains sees it first.
    let (mut first, _) = pod.disrupt(&delay_to("00000001", "50ms", &["10.9.0.2"]));
    let (mut second, _) = pod.disrupt(&delay_to("00000002", "100ms", &["10.9.0.3"]));
    assert_times(&pod.ping(PEER4, 5, "0.05"), 5, 49.9, 56.0);
    assert_times(&pod.ping("10.9.0.3", 5, "0.05"), 5, 99.9, 106.0);
    assert_times(&pod.ping("10.9.0.4", 5, "0.02"), 5, 0.0, 5.0);
    first.send(&revert());
    let (_, _, packets) = first.ended();
    assert_eq!(packets, 5);
    assert_times(&pod.ping(PEER4, 3, "0.02"), 3, 0.0, 5.0);
    assert_times(&pod.ping("10.9.0.3", 3, "0.05"), 3, 99.9, 106.0);
    second.send(&revert());
    second.ended();
    pod.assert_clean();
}

fn a_delay_beside_a_partition() {
    let pod = Pod::new();
    let _services = Services::start(&pod.outside, &[80, 81]);
    let (_delay, _) = pod.disrupt(&delay_to("00000001", "50ms", &["10.9.0.2/icmp"]));
    let (_cut, _) = pod.disrupt(&drop_to("00000002", &["10.9.0.2:80"]));
    assert_times(&pod.ping(PEER4, 5, "0.05"), 5, 49.9, 56.0);
    let tried = ["tcp 10.9.0.2:80", "tcp 10.9.0.2:81"];
    assert_only_hit(&pod.inside, &tried, &tried[..1], "both in force");
}

fn a_delay_is_replaced() {
    let pod = Pod::new();
    let (mut first, _) = pod.disrupt(&delay_to("00000001", "50ms", &["10.9.0.0/24"]));
    let mut plan = delay_to("00000002", "100ms", &["10.9.0.2"]);
    plan["replace"] = true.into();
    let mut second = pod.serve(&apply(&plan));
    assert!(matches!(second.next(), Some(Event::Probed { .. })));
    assert!(matches!(second.next(), Some(Event::Replaced { .. })));
    assert!(matches!(second.next(), Some(Event::InForce { .. })));
    first.ended();
    assert_times(&pod.ping(PEER4, 5, "0.05"), 5, 99.9, 106.0);
    assert_eq!(pod.leftovers(), parts("00000002"));
    second.send(&revert());
    second.ended();
    pod.assert_clean();
}

fn three_interfaces_of_one_fault() {
    let pod = Pod::new();
    pod.connect("net1", "10.9.1", "fd00:9:1:");
    pod.connect("net2", "10.9.2", "fd00:9:2:");
    pod.connect("net3", "10.9.3", "fd00:9:3:");
    let traffic = json!({ "interfaces": ["eth0", "net1", "net2"], "ingress": [] });
    let (mut agent, _) = pod.disrupt(&with(plan("00000001", "60s", "50ms"), &traffic));
    for peer in [PEER4, "10.9.1.2", "10.9.2.2"] {
        assert_times(&pod.ping(peer, 5, "0.05"), 5, 99.8, 112.0);
    }
    assert_times(&pod.ping("10.9.3.2", 5, "0.02"), 5, 0.0, 5.0);
    transfer(&pod, 2_000_000);
    // Of each interface a pair for what leaves and a link for what comes in, and a table; the agent has two
    // pairs, and two tables.
    let parts = if backend() == Backend::Userspace { 3 * 4 + 2 } else { 3 * 3 + 1 };
    assert_eq!(pod.leftovers().len(), parts);
    agent.send(&revert());
    agent.ended();
    pod.assert_clean();
}
