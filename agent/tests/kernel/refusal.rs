//! What is refused: with the reason, and with nothing left behind.

use std::process::Command;

use pod_chaos_protocol::{Backend, Event, FailureKind};
use serde_json::json;

use crate::{
    pod::{Pod, agent_path, apply, by, failure, on, partition, parts, plan, status, targets, with},
    requirement::tests,
};

tests! {
    Namespaces:
        end_of_input_before_a_request_is_no_failure,
        requests_that_cannot_be_read,
        a_line_that_is_too_long,
        interfaces_that_do_not_exist,
        interfaces_that_are_down,
        interfaces_without_ethernet,
        a_pod_without_default_route,
        what_netem_cannot_do,
        traffic_that_does_not_exist,
        partitions_that_make_no_sense,
        a_container_without_net_admin,
        prints_its_version;
    Delay:
        a_second_fault_on_the_same_interface,
        an_id_that_is_in_use;
    NoNetem:
        a_kernel_without_netem_when_it_was_asked_for;
}

fn end_of_input_before_a_request_is_no_failure() {
    let pod = Pod::new();
    let agent = pod.agent("serve");
    let events = agent.rest();
    assert!(matches!(events[..], [Event::Hello { .. }]), "{events:?}");
}

fn requests_that_cannot_be_read() {
    let pod = Pod::new();
    let mut unknown_field = plan("00000001", "1s", "1ms");
    unknown_field["surprise"] = 1.into();
    let mut unknown_fault = plan("00000001", "1s", "1ms");
    unknown_fault["fault"] = serde_json::json!({ "quake": {} });
    for (line, want) in [
        ("garbage".to_owned(), "expected value"),
        ("\u{0}\u{7f}[".to_owned(), "expected value"),
        ("{\"request\":\"dance\"}".to_owned(), "unknown variant `dance`"),
        (apply(&unknown_field).to_string(), "unknown field `surprise`"),
        (apply(&unknown_fault).to_string(), "unknown variant `quake`"),
        (apply(&on(plan("00000001", "1s", "1ms"), "lo")).to_string(), "loopback is never hit"),
        (apply(&plan("00000001", "1s", "-1ms")).to_string(), "negative"),
        (apply(&plan("../etc", "1s", "1ms")).to_string(), "is not a fault's id"),
    ] {
        let mut agent = pod.agent("serve");
        agent.hello();
        agent.send_text(&line);
        let events = agent.rest();
        let failure = failure(&events);
        assert_eq!(failure.kind, FailureKind::BadRequest, "{line}");
        assert!(failure.message.contains(want), "{line}: {failure}");
    }
    pod.assert_clean();
}

fn a_line_that_is_too_long() {
    let pod = Pod::new();
    let mut agent = pod.agent("serve");
    agent.hello();
    agent.send_text(&"x".repeat(5_000_000));
    let events = agent.rest();
    assert_eq!(failure(&events).kind, FailureKind::BadRequest);
    assert!(failure(&events).message.contains("at most 4194304 bytes"), "{events:?}");
}

fn interfaces_that_do_not_exist() {
    let pod = Pod::new();
    pod.connect("net1", "10.9.1", "fd00:9:1:");
    let events = pod.ask(&apply(&on(plan("00000001", "1s", "1ms"), "eth7")));
    let failure = failure(&events);
    assert_eq!(failure.kind, FailureKind::NotFound);
    assert_eq!(failure.message, "this pod has no interface `eth7`");
    let hint = failure.hint.as_deref().unwrap();
    assert!(hint.contains("eth0") && hint.contains("net1") && !hint.contains("lo,"), "{hint}");
    pod.assert_clean();
}

fn interfaces_that_are_down() {
    let pod = Pod::new();
    pod.inside.run("ip link set eth0 down");
    let events = pod.ask(&apply(&on(plan("00000001", "1s", "1ms"), "eth0")));
    assert_eq!(failure(&events).kind, FailureKind::NotFound);
    assert_eq!(failure(&events).message, "interface `eth0` is down: nothing passes over it");
    pod.assert_clean();
}

fn interfaces_without_ethernet() {
    let pod = Pod::new();
    pod.inside.run("ip tuntap add dev tun0 mode tun; ip link set tun0 up");
    let events = pod.ask(&apply(&on(plan("00000001", "1s", "1ms"), "tun0")));
    assert_eq!(failure(&events).kind, FailureKind::Unsupported);
    assert_eq!(failure(&events).message, "`tun0` is not an Ethernet interface");
    pod.assert_clean();
}

fn a_pod_without_default_route() {
    let pod = Pod::new();
    pod.inside.run("ip route del default; ip -6 route del default");
    let events = pod.ask(&apply(&plan("00000001", "1s", "1ms")));
    assert_eq!(failure(&events).kind, FailureKind::NotFound);
    assert!(failure(&events).message.contains("no default route"), "{events:?}");
    assert!(failure(&events).hint.as_deref().unwrap().contains("eth0"), "{events:?}");
}

fn what_netem_cannot_do() {
    let pod = Pod::new();
    let mut plan = plan("00000001", "1s", "5s");
    plan["fault"]["netem"]["netem"]["jitter"] = "3s".into();
    let events = pod.ask(&apply(&plan));
    assert_eq!(failure(&events).kind, FailureKind::BadRequest);
    pod.assert_clean();
}

fn traffic_that_does_not_exist() {
    let pod = Pod::new();
    for (traffic, want) in [
        (json!({ "egress": null }), "neither egress nor ingress is hit"),
        (
            json!({ "egress": [{ "name": "db", "endpoints": [] }] }),
            "`db` stands for no address: nothing would be hit",
        ),
        (
            json!({ "egress": targets(&["127.0.0.1"]) }),
            "`127.0.0.1` is loopback, which is never hit",
        ),
        (
            json!({ "egress": targets(&["10.0.0.1"]), "exclude": targets(&["10.0.0.0/8"]) }),
            "`10.0.0.1` is excluded by `10.0.0.0/8`: nothing would be hit",
        ),
        (json!({ "egress": targets(&["nowhere"]) }), "`nowhere` is not an address"),
        (json!({ "interfaces": ["eth0", "eth7"] }), "this pod has no interface `eth7`"),
    ] {
        let events = pod.ask(&apply(&with(partition("00000001", "1s", "drop"), &traffic)));
        assert!(failure(&events).kind.nothing_touched(), "{events:?}");
        assert!(failure(&events).message.contains(want), "{want}: {events:?}");
    }
    pod.assert_clean();
}

fn partitions_that_make_no_sense() {
    let pod = Pod::new();
    let plan = |traffic: serde_json::Value, more: &[&str]| {
        let mut plan = with(partition("00000001", "1s", "drop"), &traffic);
        for flag in more {
            plan["fault"]["partition"][flag] = true.into();
        }
        plan
    };
    for (plan, want) in [
        (
            plan(json!({ "protocol": "udp" }), &["new-only"]),
            "udp has no connections that could be opened",
        ),
        (
            plan(json!({}), &["new-only", "kill-connections"]),
            "connections cannot both be killed and go on",
        ),
        (
            plan(json!({ "sample": { "every": 2 } }), &["kill-connections"]),
            "which connections a sample takes, only their packets tell",
        ),
    ] {
        let events = pod.ask(&apply(&plan));
        assert_eq!(failure(&events).kind, FailureKind::BadRequest, "{events:?}");
        assert_eq!(failure(&events).message, want);
    }
    pod.assert_clean();
}

fn a_container_without_net_admin() {
    let pod = Pod::new();
    let without = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    let mut agent = pod.start(&[&without[..], &[&agent_path(), "serve"]].concat());
    agent.hello();
    agent.send(&apply(&plan("00000001", "1s", "1ms")));
    let events = agent.rest();
    let failure = failure(&events);
    assert_eq!(failure.kind, FailureKind::Kernel, "{failure}");
    assert!(failure.message.contains("Operation not permitted"), "{failure}");
    assert_eq!(
        failure.hint.as_deref(),
        Some("the agent's container needs the capability NET_ADMIN")
    );
    pod.assert_clean();
}

fn prints_its_version() {
    let output = Command::new(agent_path()).arg("version").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), concat!(env!("CARGO_PKG_VERSION"), "\n"));
    assert!(!Command::new(agent_path()).output().unwrap().status.success());
}

fn a_second_fault_on_the_same_interface() {
    let pod = Pod::new();
    pod.connect("net1", "10.9.1", "fd00:9:1:");
    let (_first, _) = pod.disrupt(&plan("00000001", "20s", "50ms"));
    let events = pod.ask(&apply(&plan("00000002", "20s", "100ms")));
    let refused = failure(&events);
    assert_eq!(refused.kind, FailureKind::Conflict);
    let left = refused.message.strip_prefix("fault 00000001 is in force on `eth0` for another ");
    let left: f64 = left.and_then(|rest| rest.strip_suffix(" s")).unwrap().parse().unwrap();
    assert!((15.0..=20.0).contains(&left), "{refused}");
    assert_eq!(pod.leftovers(), parts("00000001"));
    assert!((49.9..99.0).contains(&pod.round_trip()));
    // On another interface it is in nobody's way.
    let (_second, _) = pod.disrupt(&on(plan("00000002", "20s", "100ms"), "net1"));
    let Some(Event::Status { faults, .. }) = pod.ask(&status()).pop() else { panic!("no status") };
    assert_eq!(faults.len(), 2);
}

fn an_id_that_is_in_use() {
    let pod = Pod::new();
    pod.connect("net1", "10.9.1", "fd00:9:1:");
    let (_first, _) = pod.disrupt(&plan("00000001", "20s", "50ms"));
    let events = pod.ask(&apply(&on(plan("00000001", "20s", "100ms"), "net1")));
    assert_eq!(failure(&events).kind, FailureKind::Conflict);
    assert!((49.9..99.0).contains(&pod.round_trip()));
}

fn a_kernel_without_netem_when_it_was_asked_for() {
    let pod = Pod::new();
    let plan = by(plan("00000001", "1s", "1ms"), Backend::NetdevEgress);
    let events = pod.ask(&apply(&plan));
    let failure = failure(&events);
    assert_eq!(failure.kind, FailureKind::Unsupported);
    assert!(failure.message.contains("sch_netem"), "{failure}");
    assert!(failure.hint.as_deref().unwrap().contains("kernel-modules-extra"), "{failure:?}");
    pod.assert_clean();
}
