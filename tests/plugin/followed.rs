//! Targets that only the API knows: pods by their labels, Services by their names.

use insta::assert_snapshot;
use pod_chaos_protocol::{Ending, Event, Request};
use serde_json::{Value, json};

use crate::{
    fake_api::{Agent, FakeApi, Line, Scenario},
    faults::{WARM, disrupt, ended, good, in_force, masked},
    seen,
};

fn pod(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "resourceVersion": "2" },
        "spec": { "containers": [] },
        "status": { "phase": "Running", "podIPs": [{ "ip": address }] },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "db", "resourceVersion": "2" },
        "spec": {
            "type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
            "ports": [{ "name": "sql", "port": 5432, "nodePort": 30001 }],
        },
    })
}

fn slice(name: &str, addresses: &[&str]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": name, "resourceVersion": "2" }, "addressType": "IPv4",
        "endpoints": [{ "addresses": addresses }], "ports": [{ "name": "sql", "port": 15432 }],
    })
}

/// Stays in force until it has been told of a change.
fn changing(request: &Request) -> Vec<Line> {
    match request {
        Request::Apply { .. } => vec![in_force(request)],
        Request::Retarget { target, endpoints } => {
            let changed = Event::Retargeted {
                target: target.clone(),
                added: 1,
                removed: 0,
                addresses: endpoints.len(),
                skipped: vec!["10.1.0.9".parse().unwrap()],
            };
            vec![(0, Some(changed)), (0, Some(ended(request, Ending::Timer, &[]))), (0, None)]
        }
        other => good(other),
    }
}

fn serve(scenario: Scenario) -> FakeApi {
    FakeApi::serve(Scenario { pod: Some(WARM()), agent: Agent::Says(changing), ..scenario })
}

/// What the agent is first asked to hit, and then told to.
fn heard(api: &FakeApi) -> (Vec<String>, Vec<String>) {
    let texts = |endpoints: &[pod_chaos_protocol::Endpoint]| -> Vec<String> {
        endpoints.iter().map(ToString::to_string).collect()
    };
    match &api.agent_heard()[..] {
        [Request::Apply { plan }, Request::Retarget { target, endpoints }] => {
            let named = plan.traffic.targets().next().unwrap();
            assert_eq!(&named.name, target);
            (texts(&named.endpoints), texts(endpoints))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_pod_with_the_labels_is_told_to_the_agent() {
    let api = serve(Scenario {
        objects: vec![("pods", pod("db-0", "10.1.0.1")), ("pods", pod("db-1", "10.1.0.2"))],
        changes: vec![
            // Something else about it.
            (50, "pods", "MODIFIED", pod("db-0", "10.1.0.1")),
            (100, "pods", "ADDED", pod("db-2", "10.1.0.3")),
        ],
        ..Scenario::default()
    });
    let output = disrupt(&api, &["--to-pods", "app=db"]);
    assert_snapshot!(masked(&seen(&output)));
    let (first, then) = heard(&api);
    assert_eq!(first, ["10.1.0.1", "10.1.0.2"]);
    assert_eq!(then, ["10.1.0.1", "10.1.0.2", "10.1.0.3"]);
}

#[test]
fn a_pod_that_has_gone_is_told_too() {
    let api = serve(Scenario {
        objects: vec![("pods", pod("db-0", "10.1.0.1")), ("pods", pod("db-1", "10.1.0.2"))],
        changes: vec![(100, "pods", "DELETED", pod("db-0", "10.1.0.1"))],
        ..Scenario::default()
    });
    let output = disrupt(&api, &["--from-pods", "app=db", "--peer-namespace", "prod"]);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    assert_eq!(heard(&api).1, ["10.1.0.2"]);
    assert!(api.requests().iter().any(|line| line.contains("/namespaces/prod/pods?")));
}

fn node(name: &str, addresses: &[&str]) -> Value {
    let at = |address: &&str| json!({ "type": "InternalIP", "address": address });
    let mut addresses: Vec<_> = addresses.iter().map(at).collect();
    addresses.push(json!({ "type": "Hostname", "address": name }));
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "resourceVersion": "2" },
        "status": { "addresses": addresses },
    })
}

#[test]
fn a_service_is_its_own_addresses_and_what_is_behind_it() {
    let api = serve(Scenario {
        objects: vec![
            ("services", service()),
            ("nodes", node("a", &["192.168.0.1"])),
            ("endpointslices", slice("db-a", &["10.1.0.1"])),
        ],
        changes: vec![(
            100,
            "endpointslices",
            "MODIFIED",
            slice("db-a", &["10.1.0.1", "10.1.0.2"]),
        )],
        ..Scenario::default()
    });
    let output = disrupt(&api, &["--to-service", "db:sql"]);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    let before = ["10.1.0.1:15432/tcp", "10.96.0.7:5432/tcp", "192.168.0.1:30001/tcp"];
    let (first, then) = heard(&api);
    assert_eq!(first, before);
    assert_eq!(then, [&before[..1], &["10.1.0.2:15432/tcp"], &before[1..]].concat());
}

#[test]
fn a_services_ports_on_a_new_node_are_told_too() {
    let api = serve(Scenario {
        objects: vec![
            ("services", service()),
            ("nodes", node("a", &["192.168.0.1"])),
            ("endpointslices", slice("db-a", &["10.1.0.1"])),
        ],
        changes: vec![
            // A sign of life.
            (50, "nodes", "MODIFIED", node("a", &["192.168.0.1"])),
            (100, "nodes", "ADDED", node("b", &["192.168.0.2"])),
        ],
        ..Scenario::default()
    });
    let output = disrupt(&api, &["--to-service", "db:sql"]);
    assert_eq!(output.status.code(), Some(0), "{}", seen(&output));
    let (first, then) = heard(&api);
    assert_eq!(then, [&first[..], &["192.168.0.2:30001/tcp".to_owned()]].concat());
}

/// By all addresses of all nodes, of both families, and by the port that is meant alone.
#[test]
fn a_services_ports_on_nodes_are_hit_too_by_who_may_list_nodes() {
    let mut several = service();
    let stats = json!({ "name": "stats", "port": 9187, "nodePort": 30002 });
    several["spec"]["ports"].as_array_mut().unwrap().push(stats);
    let mut inside = several.clone();
    for port in inside["spec"]["ports"].as_array_mut().unwrap() {
        port.as_object_mut().unwrap().remove("nodePort");
    }
    let sql = ["10.1.0.1:15432/tcp", "10.96.0.7:5432/tcp"];
    let on_nodes = ["192.168.0.1:30001/tcp", "192.168.0.2:30001/tcp", "[fd07:1::2]:30001/tcp"];
    for (service, flag, forbidden, want) in [
        (&several, "--to-service", None, [&sql[..], &on_nodes].concat()),
        (&several, "--exclude-service", None, [&sql[..], &on_nodes].concat()),
        (&several, "--to-service", Some("list nodes"), sql.to_vec()),
        // Who needs no nodes asks for none.
        (&inside, "--to-service", Some("list nodes"), sql.to_vec()),
    ] {
        let api = FakeApi::serve(Scenario {
            pod: Some(WARM()),
            agent: Agent::Says(good),
            objects: vec![
                ("services", service.clone()),
                ("nodes", node("a", &["192.168.0.1"])),
                ("nodes", node("b", &["192.168.0.2", "fd07:1::2"])),
                ("endpointslices", slice("db-a", &["10.1.0.1"])),
            ],
            forbidden: forbidden.into_iter().collect(),
            ..Scenario::default()
        });
        let output = disrupt(&api, &[flag, "db:sql"]);
        let said = seen(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        let [Request::Apply { plan }] = &api.agent_heard()[..] else { panic!("{said}") };
        let target = plan.traffic.targets().next().unwrap();
        let endpoints: Vec<_> = target.endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(endpoints, want, "{flag} {forbidden:?}");
        let warning = "service db:sql: its ports on the nodes are not hit: ";
        let left_out = forbidden.is_some() && service == &several;
        assert_eq!(said.contains(warning), left_out, "{said}");
        assert_eq!(api.requests().iter().any(|line| line.contains("/nodes")), service == &several);
    }
}

#[test]
fn what_matches_nothing_is_refused_before_anything_is_touched() {
    let alias = json!({ "metadata": { "name": "alias" }, "spec": {
        "type": "ExternalName", "externalName": "db.example.com" } });
    let on_node = json!({ "metadata": { "name": "proxy" }, "spec": { "containers": [], "hostNetwork": true },
        "status": { "phase": "Running", "podIPs": [{ "ip": "192.168.0.1" }] } });
    for (name, flags, forbidden) in [
        ("followed_pods_without_addresses", &["--to-pods", "app=proxy"][..], vec![]),
        ("followed_service_that_is_missing", &["--exclude-service", "cache"], vec![]),
        ("followed_alias", &["--to-service", "alias"], vec![]),
        (
            "followed_port_that_is_missing",
            &["--to-service", "db:81", "--to-service", "cache"],
            vec![],
        ),
        (
            "followed_without_permission",
            &["--to-service", "db", "--to-pods", "app=db"],
            vec!["watch endpointslices/", "list pods/"],
        ),
    ] {
        let api = serve(Scenario {
            objects: vec![
                ("services", service()),
                ("services", alias.clone()),
                ("pods", on_node.clone()),
            ],
            forbidden,
            ..Scenario::default()
        });
        let output = disrupt(&api, flags);
        assert_snapshot!(name, masked(&seen(&output)));
        assert_eq!(output.status.code(), Some(3));
        assert_eq!((api.agent_heard(), api.changes()), (vec![], vec![]));
    }
}
