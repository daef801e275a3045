//! Which traffic a fault hits.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Cidr, Endpoint, Host, Interface, Peer, Ports, Protocol, Sample};

/// The most interfaces that one fault can hit.
pub const MAX_INTERFACES: usize = 4;

/// The packets that a fault hits: all conditions must hold. The default is all that leaves the pod by
/// the interface of its default route.
///
/// Whatever is said here, packets of loopback, of IPv6 neighbour discovery, and what is not IP pass by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Traffic {
    /// The interfaces that are hit; none named is the one that carries the default route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// What leaves the pod, to these peers; `None` is not hit.
    #[serde(default = "everyone", skip_serializing_if = "is_everyone")]
    pub egress: Option<Peers>,
    /// What reaches the pod, from these peers; `None` is not hit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Peers>,
    /// Only this protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// Only with these ports at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_ports: Option<Ports>,
    /// Only with these ports at the pod's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_ports: Option<Ports>,
    /// Not these, whatever else is said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<Target>,
    /// Nor these: the node's addresses, from which its kubelet probes the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spare_node: Vec<Cidr>,
    /// Nor what goes to or comes from port 53 at the other end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spare_dns: bool,
    /// Only some of these packets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<Sample>,
}

/// The other ends of the traffic in one direction: any of these targets, or anyone when there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Peers(pub Vec<Target>);

impl Peers {
    /// Everyone.
    pub const fn everyone() -> Self {
        Self(Vec::new())
    }

    /// Whether nobody in particular is meant.
    pub const fn is_everyone(&self) -> bool {
        self.0.is_empty()
    }
}

/// What one word of the user stands for. An address stands for itself; a name for all that it was resolved
/// to, which may change while the fault runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Target {
    /// As the user wrote it.
    pub name: String,
    /// Any of these; none at all is refused, unless they are still to be found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Who knows them.
    #[serde(default, skip_serializing_if = "Source::is_literal")]
    pub source: Source,
}

/// Who knows what a target stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Source {
    /// The user, who has said it: it does not change.
    #[default]
    Literal,
    /// The pod's name servers. The agent asks them, and again while the fault runs; what they have answered
    /// meanwhile is all hit to the end.
    Dns(Host),
    /// The plugin, from the Kubernetes API. It says so when it changes ([`crate::Request::Retarget`]).
    Plugin,
}

impl Source {
    /// Whether the target is what it says, for good.
    pub const fn is_literal(&self) -> bool {
        matches!(self, Self::Literal)
    }
}

impl Target {
    /// Of the plugin's, which has yet to find out what it stands for.
    pub const fn followed(name: String) -> Self {
        Self { name, endpoints: Vec::new(), source: Source::Plugin }
    }

    /// What a named target stands for when there is nothing of that name any more.
    pub fn nobody() -> Self {
        Self { name: "nobody".to_owned(), endpoints: Vec::new(), source: Source::Literal }
    }

    /// Whether nobody has said yet what it stands for.
    pub fn is_open(&self) -> bool {
        self.endpoints.is_empty() && !self.source.is_literal()
    }

    /// Whether its endpoints have ports or protocols; they all do, or none.
    pub fn has_ports(&self) -> bool {
        let with = |endpoint: &Endpoint| (endpoint.protocol, &endpoint.ports) != (None, &None);
        match &self.source {
            Source::Dns(host) => with(&host.at(None)),
            _ => self.endpoints.iter().any(with),
        }
    }
}

impl From<Endpoint> for Target {
    fn from(endpoint: Endpoint) -> Self {
        Self { name: endpoint.to_string(), endpoints: vec![endpoint], source: Source::Literal }
    }
}

impl From<Host> for Target {
    fn from(host: Host) -> Self {
        Self { name: host.to_string(), endpoints: Vec::new(), source: Source::Dns(host) }
    }
}

impl From<Peer> for Target {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Endpoint(endpoint) => endpoint.into(),
            Peer::Host(host) => host.into(),
        }
    }
}

impl fmt::Display for Target {
    /// `db.example.com (2 addresses)`, once they are known.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.name)?;
        match (&self.source, self.endpoints.len()) {
            (Source::Literal, _) | (_, 0) => Ok(()),
            (_, 1) => out.write_str(" (1 address)"),
            (_, count) => write!(out, " ({count} addresses)"),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's type")]
fn everyone() -> Option<Peers> {
    Some(Peers::everyone())
}

#[expect(clippy::ref_option, reason = "serde wants a reference to the field")]
fn is_everyone(peers: &Option<Peers>) -> bool {
    peers.as_ref().is_some_and(Peers::is_everyone)
}

/// A direction, as the pod sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// What leaves the pod.
    Egress,
    /// What reaches it.
    Ingress,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Egress, Self::Ingress];
}

impl fmt::Display for Direction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        })
    }
}

/// Why no packet can ever match.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadTraffic {
    /// Neither direction.
    #[error("neither egress nor ingress is hit")]
    NoDirection,
    /// More than fit.
    #[error("{0} interfaces are more than one fault can hit, {MAX_INTERFACES}")]
    TooManyInterfaces(usize),
    /// The same one twice.
    #[error("interface `{0}` is named twice")]
    InterfaceTwice(Interface),
    /// A name that stands for nothing.
    #[error("`{0}` stands for no address: nothing would be hit")]
    Empty(String),
    /// Inside the pod.
    #[error("`{0}` is loopback, which is never hit")]
    Loopback(String),
    /// Ports are asked for, of a protocol that has none.
    #[error("`{0}`: icmp has no ports")]
    NoPorts(String),
    /// Two conditions that no packet meets at the same time.
    #[error("`{0}` and {1} have no packet in common: nothing would be hit")]
    Contradiction(String, String),
    /// All of it is spared.
    #[error("`{0}` is excluded by `{1}`: nothing would be hit")]
    Excluded(String, String),
    /// All of it is spared, for the sake of probes.
    #[error("`{0}` is the pod's node, which is spared so that probes stay healthy")]
    Node(String),
    /// All of it is spared.
    #[error("`{0}` is DNS, which is spared: nothing would be hit")]
    Dns(String),
}

impl BadTraffic {
    /// What can be done about it, where that is not plain from the message.
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Node(_) => Some("`--include-probes` hits the node's addresses too"),
            _ => None,
        }
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            egress: everyone(),
            ingress: None,
            protocol: None,
            remote_ports: None,
            local_ports: None,
            exclude: Vec::new(),
            spare_node: Vec::new(),
            spare_dns: false,
            sample: None,
        }
    }
}

impl Traffic {
    /// All that is named, to be hit or to be spared.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        let peers = [&self.egress, &self.ingress].into_iter().flatten();
        peers.flat_map(|peers| &peers.0).chain(&self.exclude)
    }

    /// The same, to be changed.
    pub fn targets_mut(&mut self) -> impl Iterator<Item = &mut Target> {
        let peers = [&mut self.egress, &mut self.ingress].into_iter().flatten();
        peers.flat_map(|peers| &mut peers.0).chain(&mut self.exclude)
    }

    /// Whether it is the default: a plan does not say it then.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The peers in that direction; `None` is not hit.
    pub const fn peers(&self, direction: Direction) -> Option<&Peers> {
        match direction {
            Direction::Egress => self.egress.as_ref(),
            Direction::Ingress => self.ingress.as_ref(),
        }
    }

    /// In which directions anything is hit.
    pub fn directions(&self) -> Vec<Direction> {
        Direction::BOTH.into_iter().filter(|one| self.peers(*one).is_some()).collect()
    }

    /// Refuses what would hit nothing, or what one target of several would not add to: each must be able to
    /// match something. It cannot see every contradiction, such as a block that several others exclude
    /// together.
    pub fn check(&self) -> Result<(), BadTraffic> {
        if self.egress.is_none() && self.ingress.is_none() {
            return Err(BadTraffic::NoDirection);
        }
        if self.interfaces.len() > MAX_INTERFACES {
            return Err(BadTraffic::TooManyInterfaces(self.interfaces.len()));
        }
        for (at, interface) in self.interfaces.iter().enumerate() {
            if self.interfaces[..at].contains(interface) {
                return Err(BadTraffic::InterfaceTwice(interface.clone()));
            }
        }
        if let Some(protocol) = self.protocol.filter(|protocol| !protocol.has_ports())
            && (self.remote_ports.is_some() || self.local_ports.is_some())
        {
            return Err(BadTraffic::NoPorts(protocol.to_string()));
        }
        for direction in Direction::BOTH {
            let Some(peers) = self.peers(direction) else { continue };
            if peers.is_everyone() {
                let all = Endpoint { address: None, protocol: None, ports: None };
                self.check_endpoint(&format!("all {direction}"), &all)?;
            }
            for target in &peers.0 {
                self.check_target(target)?;
            }
        }
        Ok(())
    }

    fn check_target(&self, target: &Target) -> Result<(), BadTraffic> {
        // Where it may be, until that is known.
        if target.is_open() {
            return match &target.source {
                Source::Dns(host) => self.check_endpoint(&target.name, &host.at(None)),
                _ => Ok(()),
            };
        }
        // Of what a name stands for, some may be spared; not all.
        let mut first = None;
        for endpoint in &target.endpoints {
            match self.check_endpoint(&target.name, endpoint) {
                Ok(()) => return Ok(()),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| BadTraffic::Empty(target.name.clone())))
    }

    /// Whether a packet of this endpoint can be hit.
    fn check_endpoint(&self, name: &str, endpoint: &Endpoint) -> Result<(), BadTraffic> {
        let name = || name.to_owned();
        if endpoint.address.is_some_and(Cidr::is_loopback) {
            return Err(BadTraffic::Loopback(name()));
        }
        if let (Some(one), Some(other)) = (self.protocol, endpoint.protocol)
            && one != other
        {
            return Err(BadTraffic::Contradiction(name(), format!("protocol {one}")));
        }
        let protocol = self.protocol.or(endpoint.protocol);
        if let Some(protocol) = protocol.filter(|protocol| !protocol.has_ports()) {
            let conditions = [("port", &self.remote_ports), ("local port", &self.local_ports)];
            for (what, ports) in conditions {
                if let Some(ports) = ports {
                    return Err(BadTraffic::Contradiction(name(), format!("{what} {ports}")));
                }
            }
            if endpoint.ports.is_some() {
                return Err(BadTraffic::Contradiction(name(), format!("protocol {protocol}")));
            }
        }
        let ports = match (&self.remote_ports, &endpoint.ports) {
            (Some(one), Some(other)) if !one.meets(other) => {
                return Err(BadTraffic::Contradiction(name(), format!("port {one}")));
            }
            // The narrower one, where one is within the other.
            (Some(one), Some(other)) if other.covers(one) => Some(one),
            (Some(one), None) => Some(one),
            (_, other) => other.as_ref(),
        };
        let hit = Endpoint { address: endpoint.address, protocol, ports: ports.cloned() };
        let covers = |all: &&Target| all.endpoints.iter().any(|all| all.covers(&hit));
        if let Some(all) = self.exclude.iter().find(covers) {
            return Err(BadTraffic::Excluded(name(), all.name.clone()));
        }
        if self.spare_node.iter().any(|node| Endpoint::from(*node).covers(&hit)) {
            return Err(BadTraffic::Node(name()));
        }
        if self.spare_dns && dns().covers(&hit) {
            return Err(BadTraffic::Dns(name()));
        }
        Ok(())
    }
}

/// What `spare_dns` spares.
pub fn dns() -> Endpoint {
    Endpoint { address: None, protocol: None, ports: Ports::from_ranges([53..=53]) }
}

/// How many targets a sentence names before it only counts them.
const NAMED: usize = 3;

fn list<T: fmt::Display>(items: impl ExactSizeIterator<Item = T>) -> String {
    let more = items.len().saturating_sub(NAMED);
    let words: Vec<_> = items.take(NAMED).map(|item| item.to_string()).collect();
    let words = words.join(", ");
    if more == 0 { words } else { format!("{words} and {more} more") }
}

impl fmt::Display for Traffic {
    /// In one line: `egress to 10.0.0.0/8, tcp, port 80, not 10.0.0.1, one packet in 3`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |direction: Direction, word: &str| {
            self.peers(direction).map(|peers| match &peers.0[..] {
                [] => direction.to_string(),
                targets => {
                    format!("{direction} {word} {}", list(targets.iter()))
                }
            })
        };
        let sides = [side(Direction::Egress, "to"), side(Direction::Ingress, "from")];
        let mut parts = vec![sides.into_iter().flatten().collect::<Vec<_>>().join(" and ")];
        parts.extend(self.protocol.map(|protocol| protocol.to_string()));
        parts.extend(self.remote_ports.as_ref().map(|ports| format!("port {ports}")));
        parts.extend(self.local_ports.as_ref().map(|ports| format!("local port {ports}")));
        if !self.exclude.is_empty() {
            parts.push(format!("not {}", list(self.exclude.iter())));
        }
        if !self.spare_node.is_empty() {
            parts.push("not the node".to_owned());
        }
        if self.spare_dns {
            parts.push("not DNS".to_owned());
        }
        parts.extend(self.sample.map(|sample| sample.to_string()));
        out.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn traffic(value: serde_json::Value) -> Traffic {
        serde_json::from_value(value).unwrap()
    }

    fn to(endpoints: &[&str]) -> serde_json::Value {
        endpoints.iter().map(|text| json!({ "name": text, "endpoints": [text] })).collect()
    }

    #[test]
    fn a_plan_that_says_nothing_means_all_egress() {
        assert_eq!(traffic(json!({})), Traffic::default());
        assert_eq!(serde_json::to_value(Traffic::default()).unwrap(), json!({}));
        let ingress = traffic(json!({ "egress": null, "ingress": [] }));
        assert_eq!(
            (ingress.egress.clone(), ingress.ingress.clone()),
            (None, Some(Peers::everyone()))
        );
        assert_eq!(
            serde_json::to_value(&ingress).unwrap(),
            json!({ "egress": null, "ingress": [] })
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let value = json!({
            "interfaces": ["eth0", "net1"],
            "egress": to(&["10.0.0.0/8", "[fd00::1]:443"]),
            "ingress": to(&["10.0.0.1:80"]),
            "protocol": "tcp",
            "remote-ports": "80,443",
            "local-ports": "1024-65535",
            "exclude": to(&["10.0.0.9", "/icmp"]),
            "spare-node": ["192.168.0.1"],
            "spare-dns": true,
            "sample": { "connections": "30%" },
        });
        let read = traffic(value.clone());
        assert_eq!(serde_json::to_value(&read).unwrap(), value);
        assert_eq!(
            read.to_string(),
            "egress to 10.0.0.0/8, [fd00::1]:443 and ingress from 10.0.0.1:80, tcp, port 80,443, \
             local port 1024-65535, not 10.0.0.9, /icmp, not the node, not DNS, 30% of connections"
        );
    }

    #[test]
    fn a_long_list_is_counted() {
        let many =
            traffic(json!({ "egress": to(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]) }));
        assert_eq!(many.to_string(), "egress to 10.0.0.1, 10.0.0.2, 10.0.0.3 and 1 more");
    }

    #[test]
    fn what_would_hit_nothing_is_refused() {
        let refused = |value| traffic(value).check().unwrap_err().to_string();
        for (value, want) in [
            (json!({ "egress": null }), "neither egress nor ingress is hit"),
            (
                json!({ "egress": [{ "name": "db", "endpoints": [] }] }),
                "`db` stands for no address: nothing would be hit",
            ),
            (
                json!({ "egress": to(&["127.0.0.1:80"]) }),
                "`127.0.0.1:80` is loopback, which is never hit",
            ),
            (json!({ "protocol": "icmp", "remote-ports": "80" }), "`icmp`: icmp has no ports"),
            (
                json!({ "egress": to(&["10.0.0.1/icmp"]), "local-ports": "80" }),
                "`10.0.0.1/icmp` and local port 80 have no packet in common: nothing would be hit",
            ),
            (
                json!({ "egress": to(&["10.0.0.1:80"]), "protocol": "icmp" }),
                "`10.0.0.1:80` and protocol icmp have no packet in common: nothing would be hit",
            ),
            (
                json!({ "egress": to(&["10.0.0.1/udp"]), "protocol": "tcp" }),
                "`10.0.0.1/udp` and protocol tcp have no packet in common: nothing would be hit",
            ),
            (
                json!({ "egress": to(&["10.0.0.1:80"]), "remote-ports": "81-90" }),
                "`10.0.0.1:80` and port 81-90 have no packet in common: nothing would be hit",
            ),
            (
                json!({ "egress": to(&["10.0.0.1"]), "exclude": to(&["10.0.0.0/8"]) }),
                "`10.0.0.1` is excluded by `10.0.0.0/8`: nothing would be hit",
            ),
            (
                json!({ "protocol": "tcp", "exclude": to(&["/tcp"]) }),
                "`all egress` is excluded by `/tcp`: nothing would be hit",
            ),
            (
                json!({ "egress": to(&["10.0.0.1:53"]), "spare-dns": true }),
                "`10.0.0.1:53` is DNS, which is spared: nothing would be hit",
            ),
            (
                json!({ "egress": to(&["10.0.0.1"]), "spare-node": ["10.0.0.1"] }),
                "`10.0.0.1` is the pod's node, which is spared so that probes stay healthy",
            ),
            (json!({ "interfaces": ["a", "a"] }), "interface `a` is named twice"),
            (
                json!({ "interfaces": ["a", "b", "c", "d", "e"] }),
                "5 interfaces are more than one fault can hit, 4",
            ),
        ] {
            assert_eq!(refused(value.clone()), want, "{value}");
        }
    }

    #[test]
    fn a_name_may_stand_for_something_that_is_spared_as_long_as_something_is_hit() {
        let both = json!({
            "egress": [{ "name": "db", "endpoints": ["10.0.0.1", "10.0.0.2"] }],
            "exclude": to(&["10.0.0.1"]),
        });
        assert_eq!(traffic(both).check(), Ok(()));
        assert_eq!(Traffic::default().check(), Ok(()));
    }

    #[test]
    fn a_name_is_anywhere_until_it_is_looked_up() {
        let db = |endpoints: &[&str]| json!([{ "name": "db:80", "source": { "dns": "db:80" }, "endpoints": endpoints }]);
        assert_eq!(traffic(json!({ "egress": db(&[]) })).check(), Ok(()));
        let refused = |value| traffic(value).check().unwrap_err().to_string();
        assert!(refused(json!({ "egress": db(&[]), "remote-ports": "81" })).contains("in common"));
        assert!(refused(json!({ "egress": db(&["127.0.0.1:80"]) })).contains("loopback"));
        let excluded = json!({ "egress": db(&["10.0.0.1:80"]), "exclude": to(&["10.0.0.0/8"]) });
        assert!(refused(excluded).contains("is excluded by `10.0.0.0/8`"));
        let known = traffic(json!({ "egress": db(&["10.0.0.1:80", "10.0.0.2:80"]) }));
        assert_eq!(known.to_string(), "egress to db:80 (2 addresses)");
        assert!(known.targets().all(Target::has_ports));
    }
}
