//! The endpoints of pods and of Services, as the API tells them.

use std::net::IpAddr;

use k8s_openapi::api::{
    core::v1::{Node, Pod, Service, ServicePort},
    discovery::v1::EndpointSlice,
};
use pod_chaos_protocol::{Cidr, Endpoint, Ports, Protocol};

use crate::plan::ServicePortName;

/// The addresses of these pods. One that has ended has given its address back, and one on its node's network has
/// none: the node's would stand for all that is on it.
pub(super) fn of_pods(pods: &[Pod]) -> Vec<Endpoint> {
    let own = pods.iter().filter(|pod| {
        let on_node = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        !on_node && !matches!(phase, Some("Succeeded" | "Failed"))
    });
    let addresses = own.flat_map(|pod| {
        let status = pod.status.iter();
        status.flat_map(|status| {
            let several = status.pod_ips.iter().flatten().map(|address| address.ip.as_str());
            several.chain(status.pod_ip.as_deref())
        })
    });
    in_order(addresses.filter_map(cidr).map(Endpoint::from).collect())
}

/// Why a Service is no target, after its name.
pub(super) fn check_service(
    service: &Service,
    port: Option<&ServicePortName>,
) -> Result<(), String> {
    let spec = service.spec.clone().unwrap_or_default();
    if let Some(host) = spec.external_name.filter(|_| spec.type_.as_deref() == Some("ExternalName"))
    {
        return Err(format!("is another name of {host}: aim at that one with --to {host}"));
    }
    let ports: Vec<_> = spec.ports.unwrap_or_default();
    let Some(wanted) = port else { return Ok(()) };
    if ports.iter().any(|port| is_wanted(port, Some(wanted))) {
        return Ok(());
    }
    let known = ports.iter().map(|port| match &port.name {
        Some(name) => format!("{} ({name})", port.port),
        None => port.port.to_string(),
    });
    let known: Vec<_> = known.collect();
    Err(format!("has no port {wanted}: its ports are {}", known.join(", ")))
}

/// Whether it can be reached by its ports on nodes.
pub(super) fn has_node_ports(service: &Service) -> bool {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.into_iter().any(|port| port.node_port.is_some_and(|port| port != 0))
}

/// Where a Service can be met: at its own addresses (cluster, external, of load balancers), at its ports on
/// nodes, and, since the node turns those into the address of what is behind it before or after the pod sees it,
/// there. Without a Service, nowhere.
pub(super) fn of_service(
    service: Option<&Service>,
    slices: &[EndpointSlice],
    nodes: &[Node],
    wanted: Option<&ServicePortName>,
) -> Vec<Endpoint> {
    let Some(spec) = service.and_then(|service| service.spec.as_ref()) else { return Vec::new() };
    let ports: Vec<_> =
        spec.ports.iter().flatten().filter(|port| is_wanted(port, wanted)).collect();
    let status = service.and_then(|service| service.status.as_ref());
    let balancers = status
        .and_then(|status| status.load_balancer.as_ref())
        .into_iter()
        .flat_map(|balancer| balancer.ingress.iter().flatten())
        .filter_map(|ingress| ingress.ip.as_deref());
    let own = spec
        .cluster_ips
        .iter()
        .flatten()
        .chain(&spec.cluster_ip)
        .chain(spec.external_ips.iter().flatten())
        .map(String::as_str)
        .chain(balancers);
    let own: Vec<_> = own.filter_map(cidr).collect();
    let on_nodes: Vec<_> = nodes
        .iter()
        .flat_map(|node| node.status.iter().flat_map(|status| status.addresses.iter().flatten()))
        .filter_map(|address| cidr(&address.address))
        .collect();
    let mut found = Vec::new();
    for port in &ports {
        let Some(protocol) = protocol(port.protocol.as_deref()) else { continue };
        found.extend(own.iter().filter_map(|at| endpoint(*at, protocol, Some(port.port))));
        if let Some(node_port) = port.node_port.filter(|port| *port != 0) {
            found.extend(on_nodes.iter().filter_map(|at| endpoint(*at, protocol, Some(node_port))));
        }
    }
    for slice in slices {
        let addresses: Vec<_> = slice
            .endpoints
            .iter()
            .flat_map(|endpoint| endpoint.addresses.iter())
            .filter_map(|address| cidr(address))
            .collect();
        for port in slice.ports.iter().flatten() {
            // They go by the same name; a Service with one port may leave it out.
            let name = |name: &Option<String>| name.clone().unwrap_or_default();
            let is_wanted = ports.iter().any(|one| name(&one.name) == name(&port.name));
            let Some(protocol) = protocol(port.protocol.as_deref()).filter(|_| is_wanted) else {
                continue;
            };
            found.extend(addresses.iter().filter_map(|at| endpoint(*at, protocol, port.port)));
        }
        // A Service may have no ports at all: whatever goes there is meant.
        if spec.ports.iter().flatten().next().is_none() {
            found.extend(addresses.iter().map(|at| Endpoint::from(*at)));
        }
    }
    in_order(found)
}

fn is_wanted(port: &ServicePort, wanted: Option<&ServicePortName>) -> bool {
    match wanted {
        None => true,
        Some(ServicePortName::Number(number)) => port.port == i32::from(*number),
        Some(ServicePortName::Name(name)) => port.name.as_ref() == Some(name),
    }
}

/// TCP when it is not said; `None` for what no fault can be aimed at.
fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        _ => None,
    }
}

/// `None` for a port that is none; no port is all of them.
fn endpoint(address: Cidr, protocol: Protocol, port: Option<i32>) -> Option<Endpoint> {
    let ports = match port {
        None => None,
        Some(port) => {
            let port = u16::try_from(port).ok()?;
            Some(Ports::from_ranges([port..=port])?)
        }
    };
    Some(Endpoint { address: Some(address), protocol: Some(protocol), ports })
}

/// `None` for `None`, and for the names of hosts.
fn cidr(text: &str) -> Option<Cidr> {
    text.parse::<IpAddr>().ok().map(Cidr::from)
}

fn in_order(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn texts(endpoints: &[Endpoint]) -> Vec<String> {
        endpoints.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn pods_have_addresses_of_their_own_as_long_as_they_live() {
        let pod = |spec: Value, status: Value| -> Pod {
            from_value(json!({ "metadata": { "name": "db" }, "spec": spec, "status": status }))
                .unwrap()
        };
        let own = json!({ "containers": [] });
        let at = |address: &str, phase: &str| json!({ "phase": phase, "podIP": address, "podIPs": [{ "ip": address }] });
        let pods = [
            pod(
                own.clone(),
                json!({ "phase": "Running", "podIP": "10.1.0.2",
                "podIPs": [{ "ip": "10.1.0.2" }, { "ip": "fd00::2" }] }),
            ),
            pod(own.clone(), at("10.1.0.1", "Running")),
            pod(own.clone(), at("10.1.0.3", "Succeeded")),
            pod(own.clone(), json!({ "phase": "Pending" })),
            pod(json!({ "containers": [], "hostNetwork": true }), at("192.168.0.1", "Running")),
        ];
        assert_eq!(texts(&of_pods(&pods)), ["10.1.0.1", "10.1.0.2", "fd00::2"]);
    }

    fn service(spec: &Value) -> Service {
        from_value(
            json!({ "metadata": { "name": "db" }, "spec": spec, "status": { "loadBalancer": {
            "ingress": [{ "ip": "203.0.113.7" }, { "hostname": "lb.example.com" }] } } }),
        )
        .unwrap()
    }

    fn slices() -> Vec<EndpointSlice> {
        let slice = |kind: &str, addresses: Value| {
            from_value(json!({
                "metadata": { "name": kind }, "addressType": kind,
                "endpoints": [{ "addresses": addresses, "conditions": { "ready": false } }],
                "ports": [
                    { "name": "sql", "port": 15432, "protocol": "TCP" },
                    { "name": "stats", "port": 9187 },
                    { "name": "gossip", "port": 7946, "protocol": "UDP" },
                ],
            }))
            .unwrap()
        };
        vec![
            slice("IPv4", json!(["10.1.0.1", "10.1.0.2"])),
            slice("IPv6", json!(["fd00::1"])),
            slice("FQDN", json!(["db.example.com"])),
        ]
    }

    #[test]
    fn a_service_is_met_at_its_own_addresses_on_nodes_and_behind_it() {
        let service = service(&json!({
            "type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd96::7"],
            "externalIPs": ["198.51.100.1"],
            "ports": [
                { "name": "sql", "port": 5432, "nodePort": 30_001 },
                { "name": "gossip", "port": 7946, "protocol": "UDP" },
                { "name": "sctp", "port": 1, "protocol": "SCTP" },
            ],
        }));
        let node: Node = from_value(json!({ "metadata": {}, "status": { "addresses": [
            { "type": "InternalIP", "address": "192.168.0.1" }, { "type": "Hostname", "address": "node" },
        ] } }))
        .unwrap();
        assert!(has_node_ports(&service));
        let at = |wanted: Option<ServicePortName>| {
            texts(&of_service(
                Some(&service),
                &slices(),
                std::slice::from_ref(&node),
                wanted.as_ref(),
            ))
        };
        let sql = [
            "10.1.0.1:15432/tcp",
            "10.1.0.2:15432/tcp",
            "10.96.0.7:5432/tcp",
            "192.168.0.1:30001/tcp",
            "198.51.100.1:5432/tcp",
            "203.0.113.7:5432/tcp",
            "[fd00::1]:15432/tcp",
            "[fd96::7]:5432/tcp",
        ];
        assert_eq!(at(Some(ServicePortName::Number(5432))), sql);
        assert_eq!(at(Some(ServicePortName::Name("sql".to_owned()))), sql);
        let all = at(None);
        assert_eq!(all.len(), 15, "{all:?}");
        assert!(all.contains(&"10.1.0.2:7946/udp".to_owned()));
        // A port of the pods that the Service does not have.
        assert!(!all.iter().any(|one| one.contains("9187")), "{all:?}");
        assert_eq!(of_service(None, &slices(), std::slice::from_ref(&node), None), []);
    }

    #[test]
    fn a_headless_service_is_what_is_behind_it() {
        let headless = |ports: Value| {
            service(&json!({ "clusterIP": "None", "clusterIPs": ["None"], "ports": ports }))
        };
        let one = headless(json!([{ "name": "stats", "port": 9187 }]));
        let found = texts(&of_service(Some(&one), &slices(), &[], None));
        assert_eq!(
            found,
            [
                "10.1.0.1:9187/tcp",
                "10.1.0.2:9187/tcp",
                "203.0.113.7:9187/tcp",
                "[fd00::1]:9187/tcp"
            ]
        );
        let none = headless(Value::Null);
        let found = texts(&of_service(Some(&none), &slices(), &[], None));
        assert_eq!(found, ["10.1.0.1", "10.1.0.2", "fd00::1"]);
    }

    #[test]
    fn services_that_are_no_target_say_why() {
        let alias = service(&json!({ "type": "ExternalName", "externalName": "db.example.com" }));
        assert!(check_service(&alias, None).unwrap_err().contains("--to db.example.com"));
        let ports = json!([{ "name": "sql", "port": 5432 }, { "port": 80 }]);
        let service = service(&json!({ "clusterIP": "10.96.0.7", "ports": ports }));
        let refused = check_service(&service, Some(&ServicePortName::Number(81))).unwrap_err();
        assert_eq!(refused, "has no port 81: its ports are 5432 (sql), 80");
        assert_eq!(check_service(&service, Some(&ServicePortName::Number(80))), Ok(()));
        assert_eq!(check_service(&service, None), Ok(()));
    }
}
