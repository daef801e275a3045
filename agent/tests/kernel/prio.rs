//! What the fallback for kernels without the egress hook does, on kernels that have it: only what is hit, and
//! the interface's own queue comes back.

use nix::sched::{CloneFlags, setns};
use pod_chaos_agent::{backend::takes_hook, kernel::Kernel, netlink::nftables::Hook};
use pod_chaos_protocol::{Backend, Ending, Event, FailureKind, FaultStatus, Netem};
use serde_json::{Value, json};

use crate::{
    delay::{assert_times, transfer},
    pod::{
        Agent, PEER4, PEER6, Pod, apply, by, clean_end, failure, figures, figures_at_the_end, plan,
        plan_of, revert, targets, with,
    },
    requirement::tests,
};

tests! {
    Namespaces:
        hooks_are_tried_without_a_trace;
    Netem:
        queues_what_is_hit_and_nothing_else,
        queues_of_others_are_left_alone,
        two_interfaces_and_all_options,
        is_cleared_when_nobody_claims_it_any_more;
}

/// A delay by the interface's own queue.
fn delay(id: &str, delay: &str, traffic: &Value) -> Value {
    with(by(plan(id, "60s", delay), Backend::Prio), traffic)
}

/// What netem was told, without the seed that newer kernels choose.
fn told(status: FaultStatus) -> Value {
    let netem = status.netem.map(|netem| Netem { seed: None, ..netem });
    serde_json::to_value(netem).unwrap()
}

fn qdiscs(pod: &Pod) -> Value {
    pod.inside.json("tc -j qdisc show")
}

fn end(mut agent: Agent) {
    agent.send(&revert());
    assert_eq!(agent.ended().0, Ending::Request);
}

fn hooks_are_tried_without_a_trace() {
    let pod = Pod::new();
    pod.inside.run("nft add table netdev other");
    let before = pod.inside.run("nft list ruleset");
    let path = pod.inside.path();
    let tried = std::thread::spawn(move || {
        setns(std::fs::File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        let mut kernel = Kernel::open().unwrap();
        // The last is one more than there are (`NF_NETDEV_NUMHOOKS`): none, as the egress hook of old kernels.
        [Hook::Ingress.number(), Hook::Egress.number(), 2]
            .map(|hook| takes_hook(&mut kernel, hook).unwrap())
    });
    assert_eq!(tried.join().unwrap(), [true, true, false]);
    assert_eq!(pod.inside.run("nft list ruleset"), before);
}

fn queues_what_is_hit_and_nothing_else() {
    let pod = Pod::new();
    pod.outside.run("ip addr add 10.9.0.3/24 dev eth0; ip addr add fd00:9::3/64 dev eth0 nodad");
    pod.settle_ipv6("eth0", PEER6);
    let before = qdiscs(&pod);
    let traffic = json!({ "egress": targets(&["10.9.0.2", "fd00:9::2"]) });
    let (mut agent, seen) = pod.disrupt(&delay("00000001", "50ms", &traffic));
    assert_eq!(seen.backend, Backend::Prio);
    assert_eq!(told(seen), json!({ "delay": "50ms" }));
    for (hit, bystander) in [(PEER4, "10.9.0.3"), (PEER6, "fd00:9::3")] {
        assert_times(&pod.ping(hit, 3, "0.05"), 3, 49.9, 60.0);
        assert_times(&pod.ping(bystander, 3, "0.02"), 3, 0.0, 10.0);
    }
    let shown = qdiscs(&pod);
    let root =
        shown.as_array().unwrap().iter().find(|one| one["root"] == true && one["dev"] == "eth0");
    assert_eq!(
        (&root.unwrap()["kind"], &root.unwrap()["handle"]),
        (&json!("prio"), &json!("7062:"))
    );
    // Those of bystanders are none of them.
    assert_eq!(figures(&pod), (6, Some(6), Some(0)));
    agent.send(&revert());
    assert_eq!(figures_at_the_end(&mut agent), (6, Some(6), Some(0)));
    assert_eq!(qdiscs(&pod), before);
    pod.assert_clean();
}

fn queues_of_others_are_left_alone() {
    let pod = Pod::new();
    let other = "root handle 7: tbf rate 1gbit burst 10000 limit 100000";
    pod.inside.run(&format!("tc qdisc add dev eth0 {other}"));
    let before = qdiscs(&pod);
    let all = json!({});
    let events = pod.ask(&apply(&delay("00000001", "50ms", &all)));
    let refused = failure(&events);
    assert_eq!(refused.kind, FailureKind::Conflict);
    assert!(refused.message.contains("the qdisc tbf 7: of `eth0`"), "{refused}");
    assert_eq!(qdiscs(&pod), before);
    pod.assert_clean();
    pod.inside.run("tc qdisc delete dev eth0 root");
    // Nor is there room for two of them, whatever they hit, but one can make way.
    let to = |address: &str| json!({ "egress": targets(&[address]) });
    let (mut first, _) = pod.disrupt(&delay("00000001", "50ms", &to("10.9.0.2")));
    let mut second = delay("00000002", "20ms", &to("10.9.0.3"));
    let events = pod.ask(&apply(&second));
    assert_eq!(failure(&events).kind, FailureKind::Conflict);
    assert!(failure(&events).message.contains("prio 7062: of `eth0`"), "{events:?}");
    assert_times(&pod.ping(PEER4, 3, "0.05"), 3, 49.9, 60.0);
    second["traffic"] = to("10.9.0.2");
    second["replace"] = true.into();
    let mut agent = pod.serve(&apply(&second));
    while !matches!(agent.next().expect("an event"), Event::InForce { .. }) {}
    assert_eq!(first.ended().0, Ending::Elsewhere);
    assert_times(&pod.ping(PEER4, 3, "0.05"), 3, 19.9, 40.0);
    end(agent);
    pod.assert_clean();
    // What comes in goes another way.
    let events = pod.ask(&apply(&delay("00000001", "50ms", &json!({ "ingress": [] }))));
    assert_eq!(failure(&events).kind, FailureKind::Unsupported);
}

fn two_interfaces_and_all_options() {
    let pod = Pod::new();
    pod.connect("net1", "10.9.1", "fd00:9:1:");
    let before = qdiscs(&pod);
    let netem = json!({
        "delay": "20ms", "jitter": "2ms", "distribution": "normal", "duplicate": "100%",
        "rate": "100mbit",
    });
    let asked = by(plan_of("00000001", "60s", &netem), Backend::Prio);
    let (agent, seen) = pod.disrupt(&with(asked, &json!({ "interfaces": ["eth0", "net1"] })));
    assert_eq!(told(seen), netem);
    for peer in [PEER4, "10.9.1.2"] {
        let text = pod.inside.run(&format!("ping -n -c 3 -i 0.1 -W 3 {peer}"));
        assert!(text.contains("+3 duplicates") || text.contains("+2 duplicates"), "{text}");
    }
    end(agent);
    assert_eq!(qdiscs(&pod), before);
    // Super-packets are split before netem, or losing one would lose 64 KiB.
    let asked = by(plan_of("00000002", "60s", &json!({ "delay": "1ms" })), Backend::Prio);
    let (agent, _) = pod.disrupt(&asked);
    transfer(&pod, 2_000_000);
    let shown = pod.inside.json("tc -s -j qdisc show dev eth0");
    let netem = shown.as_array().unwrap().iter().find(|one| one["kind"] == "netem").unwrap();
    let mean = netem["bytes"].as_f64().unwrap() / netem["packets"].as_f64().unwrap();
    assert!(mean < 1515.0, "{mean}");
    end(agent);
    pod.assert_clean();
}

fn is_cleared_when_nobody_claims_it_any_more() {
    let pod = Pod::new();
    let before = qdiscs(&pod);
    let all = json!({});
    let (mut agent, _) = pod.disrupt(&delay("00000001", "50ms", &all));
    agent.sigkill();
    pod.inside.run("nft delete table inet pod-chaos-00000001");
    // It delays nothing, and is in nobody's way.
    assert_times(&pod.ping(PEER4, 3, "0.02"), 3, 0.0, 10.0);
    let (mut agent, _) = pod.disrupt(&delay("00000002", "20ms", &all));
    assert_times(&pod.ping(PEER4, 3, "0.05"), 3, 19.9, 40.0);
    agent.sigkill();
    let events = pod.ask(&revert());
    clean_end(events.first().cloned());
    assert_eq!(qdiscs(&pod), before);
    pod.assert_clean();
}
