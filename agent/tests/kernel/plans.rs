//! Plans made at random, one after another on one pod: each is applied and read back, ends in one of the ways
//! that there are, and the kernel is as it was before. What else there is in the pod stays as it is, and so
//! does every file.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
};

use pod_chaos_protocol::{Backend, Ending, Event, Netem, Partition, Protocol, Traffic};
use proptest::{
    prelude::*,
    sample::{select, subsequence},
    test_runner::{Config, TestRunner},
};
use serde_json::{Map, Value, from_value, json};

use crate::{
    pod::{Agent, Namespace, PEER6, Pod, agent_path, apply, backend, clean_end, revert, targets},
    requirement::{self, LACKS, tests},
};

tests! {
    Delay:
        each_leaves_the_kernel_as_it_was;
}

/// Faults one after another; fewer on a kernel that runs as a program, which takes four times as long for each.
fn count() -> u32 {
    if LACKS.is_some() { 100 } else { 20 }
}

/// How a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// By a request on its own stream.
    Request,
    /// By another agent, while its own lives.
    Elsewhere,
    /// Its agent is killed, and another one clears what is left.
    Killed,
    /// At its deadline.
    Timer,
}

impl End {
    const fn running_time(self) -> &'static str {
        match self {
            Self::Timer => "500ms",
            _ => "60s",
        }
    }
}

/// Some of these members, each with one of its values.
fn some_of(members: &[(&'static str, Vec<Value>)]) -> BoxedStrategy<Value> {
    let count = members.len();
    let members: Vec<_> = members
        .iter()
        .map(|(name, values)| select(values.clone()).prop_map(|value| ((*name).to_owned(), value)))
        .collect();
    (members, subsequence((0..count).collect::<Vec<_>>(), 0..=count))
        .prop_map(|(members, chosen)| {
            let chosen = chosen.into_iter().map(|at| members[at].clone());
            Value::Object(chosen.collect::<Map<_, _>>())
        })
        .boxed()
}

/// Parameters that make sense together.
fn netem() -> impl Strategy<Value = Value> {
    let mut members = vec![
        ("delay", vec![json!("1ms"), json!("20ms"), json!("1.5ms")]),
        ("jitter", vec![json!("500us"), json!("1ms")]),
        ("correlation", vec![json!("25%")]),
        ("distribution", vec![json!("normal"), json!("pareto"), json!("paretonormal")]),
        (
            "loss",
            ["1%", "10% 25%", "gemodel 1% 10% 70% 0.1%", "state 1% 10% 2%"].map(Value::from).into(),
        ),
        ("ecn", vec![json!(true)]),
        ("duplicate", vec![json!("1%"), json!("1% 2%")]),
        ("corrupt", vec![json!("0.1%"), json!("0.1% 5%")]),
        ("reorder", vec![json!("25%"), json!("25% 50% gap 5")]),
        ("rate", vec![json!("10mbit"), json!("1gbit 20 48 5")]),
        ("slot", vec![json!("800us 1ms"), json!("1ms 2ms packets 20 bytes 6000")]),
        ("limit", vec![json!(10), json!(100_000)]),
    ];
    if backend() == Backend::Userspace || requirement::has_seeds() {
        members.push(("seed", vec![json!(7)]));
    }
    some_of(&members).prop_filter("makes no sense", |value| {
        from_value::<Netem>(value.clone()).is_ok_and(|netem| netem.check().is_ok())
    })
}

/// Traffic that some packet may be of.
fn traffic() -> impl Strategy<Value = Value> {
    let peers = || {
        vec![
            json!([]),
            targets(&["10.9.0.2"]),
            targets(&["10.9.0.0/24:80-90/tcp", "fd00:9::/64"]),
            targets(&[":53", "10.9.1.2:443/udp"]),
            json!([{ "name": "pods app=db", "source": "plugin", "endpoints": ["10.9.0.2:80"] }]),
        ]
    };
    let members = vec![
        ("egress", [peers(), vec![Value::Null]].concat()),
        ("ingress", peers()),
        ("protocol", vec![json!("tcp"), json!("udp"), json!("icmp")]),
        ("remote-ports", vec![json!("80"), json!("53,8000-8999")]),
        ("local-ports", vec![json!("8080")]),
        ("exclude", vec![targets(&["10.9.0.7"]), targets(&[":22", "fd00:9::7/udp"])]),
        ("spare-dns", vec![json!(true)]),
        ("sample", vec![json!({ "every": 3 }), json!({ "connections": "30%" })]),
        ("interfaces", vec![json!(["net1"]), json!(["eth0", "net1"])]),
    ];
    some_of(&members).prop_filter("would hit nothing", |value| {
        from_value::<Traffic>(value.clone()).is_ok_and(|traffic| traffic.check().is_ok())
    })
}

fn partition() -> impl Strategy<Value = Value> {
    let modes = vec![json!("drop"), json!("reject")];
    (
        select(modes),
        some_of(&[("kill-connections", vec![json!(true)]), ("new-only", vec![json!(true)])]),
    )
        .prop_map(|(mode, mut partition)| {
            partition["mode"] = mode;
            partition
        })
}

/// Whether the agent takes them together.
fn fit(fault: &Value, traffic: &Value) -> bool {
    let traffic: Traffic = from_value(traffic.clone()).expect("traffic");
    let Ok(partition) = from_value::<Partition>(fault["partition"].clone()) else {
        return true;
    };
    let Partition { kill_connections, new_only, .. } = partition;
    let of_tcp = || Traffic { protocol: Some(Protocol::Tcp), ..traffic.clone() };
    let can_open = || traffic.protocol.is_none_or(|one| one == Protocol::Tcp);
    !(kill_connections && (new_only || traffic.sample.is_some()))
        && (!new_only || (can_open() && of_tcp().check().is_ok()))
}

fn plan() -> impl Strategy<Value = (Value, End)> {
    let fault = prop_oneof![
        // The kernel takes its time to take links away.
        1 => netem().prop_map(|netem| json!({ "netem": { "netem": netem } })),
        2 => partition().prop_map(|partition| json!({ "partition": partition })),
    ];
    let end = prop_oneof![
        14 => Just(End::Request),
        2 => Just(End::Elsewhere),
        2 => Just(End::Killed),
        // Each of them waits for its end.
        1 => Just(End::Timer),
    ];
    (fault, traffic(), end, any::<u32>(), any::<bool>())
        .prop_filter("is refused", |(fault, traffic, ..)| fit(fault, traffic))
        .prop_map(|(mut fault, traffic, end, id, queued)| {
            if fault.get("netem").is_some() && backend() == Backend::Userspace {
                fault["netem"]["backend"] = json!("userspace");
            }
            // The other interface has a queue of someone else's.
            let only_egress =
                traffic.get("ingress").is_none() && traffic.get("interfaces").is_none();
            if fault.get("netem").is_some() && LACKS.is_none() && queued && only_egress {
                fault["netem"]["backend"] = json!("prio");
            }
            let id = format!("{id:08x}");
            let time = end.running_time();
            (json!({ "id": id, "running-time": time, "fault": fault, "traffic": traffic }), end)
        })
}

/// What the kernel shows of the pod's links, queues and rules, but for counters.
pub fn state(pod: &Pod) -> String {
    pod.inside.run("ip -j -d link; tc -j qdisc; nft -j list ruleset")
}

/// And all else of its network.
pub fn rest_of_state(pod: &Pod) -> String {
    pod.inside.run(
        "ip -j addr; ip -j -4 route show table all; ip -j -6 route show table all;
         tc -j filter show dev eth0; cat /proc/net/packet /proc/net/netlink | wc -l",
    )
}

/// The processes of this binary in a network namespace.
pub fn agents(space: &Namespace) -> Vec<String> {
    let binary = fs::canonicalize(agent_path()).unwrap();
    let space = fs::read_link(space.path()).unwrap();
    let is_agent = |process: &Path| {
        fs::read_link(process.join("ns/net")).is_ok_and(|found| found == space)
            && fs::read_link(process.join("exe")).is_ok_and(|found| found == binary)
    };
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes.filter(|process| is_agent(process)).map(|one| one.display().to_string()).collect()
}

/// A mount namespace in which nothing can be written, so that no file is left behind.
struct ReadOnly(Child);

impl ReadOnly {
    fn new() -> Self {
        let script = "
            while read -r _ place _; do
                mount -o remount,bind,ro \"$place\" 2>/dev/null
            done </proc/mounts
            for place in / /tmp /run /dev/shm; do
                ! touch \"$place/pod-chaos-test\" 2>/dev/null || exit 1
            done
            echo ready
            exec sleep 3600";
        let mut child = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        let said = child.stdout.as_mut().unwrap().read_exact(&mut ready);
        said.expect("a place where nothing can be written");
        Self(child)
    }

    /// Starts `serve` there.
    fn serve(&self, pod: &Pod) -> Agent {
        let place = format!("--mount=/proc/{}/ns/mnt", self.0.id());
        let mut agent = pod.start(&["nsenter", &place, "--", &agent_path(), "serve"]);
        agent.hello();
        agent
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Applies it, sees that something is there, and ends it.
fn run_one(pod: &Pod, place: &ReadOnly, plan: &Value, end: End) {
    let mut agent = place.serve(pod);
    agent.send(&apply(plan));
    loop {
        match agent.next() {
            Some(Event::InForce { .. }) => break,
            Some(Event::Probed { .. } | Event::Killed { .. }) => {}
            other => panic!("{other:?} instead of in-force: {plan}"),
        }
    }
    let table = format!("pod-chaos-{}", plan["id"].as_str().unwrap());
    // A short one may be over.
    let seen = || pod.inside.run("nft list tables").contains(&table);
    assert!(end == End::Timer || seen(), "{plan}");
    let by_another = || {
        let mut other = place.serve(pod);
        other.send(&revert());
        other.rest()
    };
    match end {
        End::Request => {
            agent.send(&revert());
            assert_eq!(agent.ended().0, Ending::Request, "{plan}");
        }
        End::Elsewhere => {
            let events = by_another();
            clean_end(events.first().cloned());
            assert_eq!(agent.ended().0, Ending::Elsewhere, "{plan}");
        }
        End::Killed => {
            agent.sigkill();
            let events = by_another();
            clean_end(events.first().cloned());
        }
        End::Timer => assert_eq!(agent.ended().0, Ending::Timer, "{plan}"),
    }
    if end != End::Killed {
        assert!(agent.child.wait().unwrap().success(), "{plan}");
    }
}

fn each_leaves_the_kernel_as_it_was() {
    let pod = Pod::new();
    pod.connect("net1", "10.9.1", "fd00:9:1:");
    pod.settle_ipv6("eth0", PEER6);
    pod.settle_ipv6("net1", "fd00:9:1::2");
    // What others have made.
    pod.inside.run(
        "tc qdisc add dev net1 root handle 7: tbf rate 1gbit burst 10000 limit 100000 &&
         nft add table inet other &&
         nft 'add chain inet other output { type filter hook output priority 0; }' &&
         nft add rule inet other output accept && nft add table netdev pod-chaos-mine",
    );
    let place = ReadOnly::new();
    let before = [state(&pod), rest_of_state(&pod)];
    let config = Config {
        cases: count(),
        max_shrink_iters: 8,
        failure_persistence: None,
        ..Config::default()
    };
    let ran = TestRunner::new(config).run(&plan(), |(plan, end)| {
        run_one(&pod, &place, &plan, end);
        prop_assert_eq!(state(&pod), &before[0][..]);
        prop_assert_eq!(agents(&pod.inside), Vec::<String>::new());
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!([state(&pod), rest_of_state(&pod)], before);
}
