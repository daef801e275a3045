//! What a partition does to connections, new and open, in each of its modes.

use std::{
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use pod_chaos_protocol::{Backend, Ending, Event, FaultState, Partition, PartitionMode};
use serde_json::{Value, json};

use crate::{
    pod::{
        PEER4, PEER6, Pod, apply, figures, figures_at_the_end, partition, revert, status, targets,
        until, with,
    },
    requirement::tests,
    services::{
        IN_VAIN, PATIENCE, Services, ask, assert_only_hit, connect, connect_within, echo,
        is_timeout, passes_within,
    },
};

tests! {
    Namespaces:
        dropped_connections_hang_and_go_on_later,
        nobody_is_told_of_a_drop,
        rejected_connections_are_refused_at_once,
        what_comes_in_is_rejected_too,
        killed_connections_are_gone_at_both_ends_of_the_pod,
        a_kill_spares_what_is_not_hit,
        new_connections_only,
        by_the_timer_when_all_agents_are_killed,
        a_waiting_agent_clears_it,
        says_what_is_in_force,
        says_when_traffic_passes_again,
        of_another_version_is_left_alone_and_reverted;
}

const TCP: [&str; 2] = ["10.9.0.2:80", "[fd00:9::2]:80"];
const BYSTANDERS: [&str; 2] = ["10.9.0.2:81", "[fd00:9::2]:81"];

fn pod_with_services() -> (Pod, Services) {
    let pod = Pod::new();
    pod.settle_ipv6("eth0", PEER6);
    let services = Services::start(&pod.outside, &[80, 81]);
    (pod, services)
}

/// A partition of port 80 at the other end.
fn of_port_80(mode: &str) -> Value {
    with(partition("00000001", "60s", mode), &json!({ "egress": targets(&[":80"]) }))
}

fn also(mut plan: Value, flag: &str) -> Value {
    plan["fault"]["partition"][flag] = true.into();
    plan
}

fn dropped_connections_hang_and_go_on_later() {
    let (pod, _services) = pod_with_services();
    for (to, other) in TCP.into_iter().zip(BYSTANDERS) {
        let mut open = connect(&pod.inside, to).unwrap();
        let mut bystander = connect(&pod.inside, other).unwrap();
        echo(&mut open).unwrap();
        let (mut agent, _) = pod.disrupt(&of_port_80("drop"));
        assert!(is_timeout(connect_within(IN_VAIN, &pod.inside, to).unwrap_err()), "{to}");
        open.set_read_timeout(Some(IN_VAIN)).unwrap();
        assert!(is_timeout(echo(&mut open).unwrap_err()), "{to}");
        echo(&mut bystander).unwrap();
        connect(&pod.inside, other).unwrap();
        agent.send(&revert());
        agent.ended();
        // What was sent meanwhile arrives with the next attempt.
        open.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut late = [0; 5];
        open.read_exact(&mut late).unwrap();
        assert_eq!(&late, b"hello");
        connect(&pod.inside, to).unwrap();
    }
    pod.assert_clean();
}

fn nobody_is_told_of_a_drop() {
    let (pod, _services) = pod_with_services();
    let all = json!({ "ingress": [] });
    let (mut agent, _) = pod.disrupt(&with(partition("00000001", "60s", "drop"), &all));
    // ping asks the kernel for errors: it would say `No buffer space available`.
    for peer in [PEER4, PEER6] {
        let output = pod.inside.try_run(&format!("ping -n -c 3 -i 0.05 -W 0.3 {peer} 2>&1"));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("3 packets transmitted, 0 received, 100% packet loss"), "{text}");
        assert!(!text.contains("ermitted") && !text.contains("buffer") && !text.contains("errors"));
    }
    agent.send(&revert());
    agent.ended();
    // Nor does TCP take it for its own queue's fault, and try twice a second: it tries after 1 s, and then
    // after another one or two.
    let (mut agent, _) = pod.disrupt(&of_port_80("drop"));
    let to = TCP[0].parse().unwrap();
    let attempt = move || std::net::TcpStream::connect_timeout(&to, Duration::from_millis(2500));
    let error = pod.inside.spawn(attempt).join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    agent.send(&revert());
    let (packets, delayed, dropped) = figures_at_the_end(&mut agent);
    assert!((2..=3).contains(&packets), "{packets}");
    assert_eq!((delayed, dropped), (Some(0), Some(packets)));
}

fn rejected_connections_are_refused_at_once() {
    let (pod, _services) = pod_with_services();
    for (to, other) in TCP.into_iter().zip(BYSTANDERS) {
        let mut open = connect(&pod.inside, to).unwrap();
        let mut bystander = connect(&pod.inside, other).unwrap();
        let (mut agent, _) = pod.disrupt(&of_port_80("reject"));
        let start = Instant::now();
        assert_eq!(connect(&pod.inside, to).unwrap_err(), ErrorKind::ConnectionRefused, "{to}");
        assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
        assert_eq!(echo(&mut open).unwrap_err(), ErrorKind::ConnectionReset, "{to}");
        // The kernel tells who sends a datagram by itself, besides the ICMP message.
        assert_eq!(ask(&pod.inside, to).unwrap_err(), ErrorKind::PermissionDenied, "{to}");
        echo(&mut bystander).unwrap();
        connect(&pod.inside, other).unwrap();
        assert_eq!(figures(&pod), (3, Some(0), Some(3)));
        agent.send(&revert());
        assert_eq!(figures_at_the_end(&mut agent), (3, Some(0), Some(3)));
        connect(&pod.inside, to).unwrap();
    }
    pod.assert_clean();
}

fn what_comes_in_is_rejected_too() {
    let (pod, _services) = pod_with_services();
    let _inside = Services::start(&pod.inside, &[90, 91]);
    for (to, other) in [("10.9.0.1:90", "10.9.0.1:91"), ("[fd00:9::1]:90", "[fd00:9::1]:91")] {
        // With both directions, the answer to what is refused must not be refused itself.
        for egress in [Value::Null, json!([])] {
            let mut open = connect(&pod.outside, to).unwrap();
            let traffic = json!({ "egress": egress, "ingress": [], "local-ports": "90" });
            let (mut agent, _) =
                pod.disrupt(&with(partition("00000001", "60s", "reject"), &traffic));
            let refused = connect(&pod.outside, to).unwrap_err();
            assert_eq!(refused, ErrorKind::ConnectionRefused, "{to} {traffic}");
            assert_eq!(ask(&pod.outside, to).unwrap_err(), ErrorKind::ConnectionRefused, "{to}");
            assert_eq!(echo(&mut open).unwrap_err(), ErrorKind::ConnectionReset, "{to}");
            connect(&pod.outside, other).unwrap();
            agent.send(&revert());
            agent.ended();
            connect(&pod.outside, to).unwrap();
        }
    }
}

fn killed_connections_are_gone_at_both_ends_of_the_pod() {
    let (pod, _services) = pod_with_services();
    let _inside = Services::start(&pod.inside, &[90]);
    for mode in ["drop", "reject"] {
        for (to, inwards) in [(TCP[0], "10.9.0.1:90"), (TCP[1], "[fd00:9::1]:90")] {
            let mut open = connect(&pod.inside, to).unwrap();
            echo(&mut open).unwrap();
            let mut from_outside = connect(&pod.outside, inwards).unwrap();
            echo(&mut from_outside).unwrap();
            let mut inner = connect(&pod.inside, inwards).unwrap();
            echo(&mut inner).unwrap();
            let both = json!({ "ingress": [] });
            let plan = also(with(partition("00000001", "60s", mode), &both), "kill-connections");
            let mut agent = pod.serve(&apply(&plan));
            let (probed, killed) = (agent.next(), agent.next());
            assert!(matches!(probed, Some(Event::Probed { .. })), "{probed:?}");
            // The client's of the first, the server's of the second.
            assert!(matches!(killed, Some(Event::Killed { connections: 2 })), "{killed:?}");
            assert!(matches!(agent.next(), Some(Event::InForce { .. })));
            let error = open.read(&mut [0; 8]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{to}");
            assert_eq!(pod.inside.run("ss -Htn state established dport = :80"), "");
            // What stays inside the pod is not hit.
            echo(&mut inner).unwrap();
            drop((open, from_outside, inner));
            agent.send(&revert());
            agent.ended();
        }
    }
}

fn a_kill_spares_what_is_not_hit() {
    let (pod, _services) = pod_with_services();
    let mut hit = connect(&pod.inside, TCP[0]).unwrap();
    let mut bystanders = BYSTANDERS.map(|to| connect(&pod.inside, to).unwrap());
    let plan = also(of_port_80("drop"), "kill-connections");
    let mut agent = pod.serve(&apply(&plan));
    let _ = agent.next();
    assert!(matches!(agent.next(), Some(Event::Killed { connections: 1 })));
    assert_eq!(hit.write_all(b"x").unwrap_err().kind(), ErrorKind::ConnectionAborted);
    for bystander in &mut bystanders {
        echo(bystander).unwrap();
    }
    assert!(is_timeout(connect_within(IN_VAIN, &pod.inside, TCP[0]).unwrap_err()));
}

fn new_connections_only() {
    let (pod, _services) = pod_with_services();
    let _inside = Services::start(&pod.inside, &[90]);
    for (to, inwards) in [(TCP[0], "10.9.0.1:90"), (TCP[1], "[fd00:9::1]:90")] {
        for (mode, want) in
            [("drop", ErrorKind::TimedOut), ("reject", ErrorKind::ConnectionRefused)]
        {
            let mut open = connect(&pod.inside, to).unwrap();
            let traffic = json!({ "egress": targets(&[":80"]) });
            let plan = also(with(partition("00000001", "60s", mode), &traffic), "new-only");
            let (mut agent, _) = pod.disrupt(&plan);
            let found = connect_within(IN_VAIN, &pod.inside, to).unwrap_err();
            assert_eq!(found, want, "{to}");
            echo(&mut open).unwrap();
            // No packet of UDP opens a connection.
            ask(&pod.inside, to).unwrap();
            // A server's answer to an opening packet is none itself.
            connect(&pod.outside, inwards).unwrap();
            agent.send(&revert());
            agent.ended();
            connect(&pod.inside, to).unwrap();
        }
    }
}

fn by_the_timer_when_all_agents_are_killed() {
    for mode in ["drop", "reject"] {
        let (pod, _services) = pod_with_services();
        let all = json!({ "ingress": [] });
        let (mut agent, _) = pod.disrupt(&with(partition("00000001", "1500ms", mode), &all));
        let start = Instant::now();
        agent.sigkill();
        let mut passed = None;
        while start.elapsed() < Duration::from_secs(4) && passed.is_none() {
            passed = passes_within(IN_VAIN, &pod.inside, "ping 10.9.0.2").then(|| start.elapsed());
        }
        let passed = passed.expect("the end");
        println!("{mode}: the first packet passed after {passed:?}");
        assert!(passed >= Duration::from_millis(1400) && passed < Duration::from_millis(2500));
        // What is left hits nothing, and the next agent clears it.
        let all = TCP.map(|to| format!("tcp {to}"));
        assert_only_hit(&pod.inside, &all.each_ref().map(String::as_str), &[], "at the end");
        let events = pod.ask(&revert());
        let ended = events.iter().find(|event| matches!(event, Event::Ended { .. }));
        assert!(matches!(ended, Some(Event::Ended { by: Ending::Timer, .. })), "{events:?}");
        pod.assert_clean();
    }
}

fn a_waiting_agent_clears_it() {
    let (pod, _services) = pod_with_services();
    let _waiting = pod.agent("wait");
    let (mut agent, _) = pod.disrupt(&with(partition("00000001", "500ms", "reject"), &json!({})));
    agent.sigkill();
    let start = Instant::now();
    while !pod.leftovers().is_empty() && start.elapsed() < Duration::from_secs(9) {
        std::thread::sleep(Duration::from_millis(100));
    }
    pod.assert_clean();
}

fn says_what_is_in_force() {
    let (pod, _services) = pod_with_services();
    let traffic = json!({
        "egress": targets(&["10.0.0.0/8", "[fd00::1]:443/tcp"]),
        "ingress": targets(&["10.1.0.0/16"]),
        "protocol": "tcp",
        "remote-ports": "80,443",
        "exclude": targets(&["10.9.0.0/24"]),
        "sample": { "connections": "30%" },
    });
    for (mode, want, backend) in [
        ("drop", PartitionMode::Drop, Backend::NetdevDrop),
        ("reject", PartitionMode::Reject, Backend::InetReject),
    ] {
        let plan = also(with(partition("00000001", "60s", mode), &traffic), "new-only");
        let (mut agent, at_start) = pod.disrupt(&plan);
        let Some(Event::Status { faults, .. }) = pod.ask(&status()).pop() else {
            panic!("no status")
        };
        let [fault] = &faults[..] else { panic!("{faults:?}") };
        assert_eq!((fault.state, fault.backend), (FaultState::InForce, backend));
        let partition = Partition { mode: want, kill_connections: false, new_only: true };
        assert_eq!(fault.partition, Some(partition));
        assert_eq!(serde_json::to_value(&fault.traffic).unwrap(), traffic);
        assert_eq!(fault.traffic, at_start.traffic);
        agent.send(&revert());
        agent.ended();
    }
}

fn of_another_version_is_left_alone_and_reverted() {
    let (pod, _services) = pod_with_services();
    pod.inside.run(
        "nft 'table inet pod-chaos-00000009 {
            comment \"v9 quake eth0 from 0 to 1\"
            set live { type ether_type; flags timeout; elements = { ip timeout 60s } }
        }'",
    );
    // Nobody knows what it hits.
    let events = pod.ask(&apply(&of_port_80("drop")));
    assert!(matches!(events.last(), Some(Event::Failed { .. })), "{events:?}");
    pod.ask(&revert());
    pod.assert_clean();
}

fn says_when_traffic_passes_again() {
    let (pod, _services) = pod_with_services();
    // What is tried all the time: of what is hit, and of what is not.
    for (mode, probe, is_hit) in
        [("drop", TCP[0], true), ("reject", TCP[1], true), ("reject", BYSTANDERS[0], false)]
    {
        let mut plan = of_port_80(mode);
        plan["probe"] = probe.into();
        let (mut agent, _) = pod.disrupt(&plan);
        // It has been tried: what was hit is counted, and of what was not, closed connections are left. The last
        // of them may seem to be of after the end.
        let tried = if is_hit {
            "nft list ruleset | grep 'counter packets [1-9]'".to_owned()
        } else {
            format!("[ $(ss -Htn state time-wait dst {probe} | wc -l) -ge 3 ]")
        };
        until("a try", || pod.inside.try_run(&tried).status.success().then_some(()));
        agent.send(&revert());
        match agent.next() {
            Some(Event::Resumed { probe: tried, after_ms: Some(_), passed_meanwhile }) => {
                assert_eq!((tried.to_string(), passed_meanwhile == 0), (probe.to_owned(), is_hit));
            }
            other => panic!("{other:?} instead of resumed"),
        }
        agent.ended();
    }
    pod.assert_clean();
}
