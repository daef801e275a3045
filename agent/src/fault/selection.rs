//! Which packets a fault hits, in the kernel's terms: sets of nf_tables.
//!
//! A set is named after the condition that it holds. What a fault hits can be read back from its sets, by
//! which two faults are kept apart:
//!
//! ```text
//! protocol                   numbers of IP protocols
//! remote, local              protocol . port: at the other end, at the pod's end
//! to4, to6                   addresses at the other end, of what leaves
//! to4ports, to6ports         address . protocol . port there
//! from4, …                   the same of what comes in
//! except4, …                 the same of what is spared in both directions
//! ```
//!
//! Addresses without ports have a set of their own because the kernel is quicker with keys of one field: a
//! tree instead of a bit map for each field.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use pod_chaos_protocol::{Cidr, Direction, Endpoint, Peers, Ports, Protocol, Target, Traffic, dns};

use crate::netlink::nftables::{Field, Holds, KeyRange, key};

/// The set of protocols.
pub const PROTOCOL: &str = "protocol";
/// The set of ports at the other end.
pub const REMOTE: &str = "remote";
/// The set of ports at the pod's end.
pub const LOCAL: &str = "local";
/// What the names of sets of spared addresses start with.
pub const EXCEPT: &str = "except";

/// What the names of sets of addresses in this direction start with.
pub const fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "to",
        Direction::Ingress => "from",
    }
}

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Its digit.
    pub const fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }

    const fn last_address(self) -> u128 {
        match self {
            Self::V4 => u32::MAX as u128,
            Self::V6 => u128::MAX,
        }
    }

    /// The bytes of an address on the wire.
    fn bytes(self, address: u128) -> Vec<u8> {
        let bytes = address.to_be_bytes();
        match self {
            Self::V4 => bytes[12..].to_vec(),
            Self::V6 => bytes.to_vec(),
        }
    }

    const fn address_length(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// The number of a protocol in its header (linux/in.h).
    pub const fn number(self, protocol: Protocol) -> u8 {
        match (protocol, self) {
            (Protocol::Tcp, _) => 6,
            (Protocol::Udp, _) => 17,
            (Protocol::Icmp, Self::V4) => 1,
            (Protocol::Icmp, Self::V6) => 58,
            // A protocol that only a newer plugin knows does not get here: it cannot be read.
            _ => u8::MAX,
        }
    }
}

/// The name of the set of addresses; with ports or without.
pub fn set_name(start: &str, version: Version, ports: bool) -> String {
    format!("{start}{}{}", version.digit(), if ports { "ports" } else { "" })
}

/// What the keys of the set of this name are made of, and what it holds of them. `None` for a name that is
/// not one of ours.
pub fn shape(name: &str) -> Option<(&'static [Field], Holds)> {
    let starts = [side(Direction::Egress), side(Direction::Ingress), EXCEPT];
    Some(match name {
        PROTOCOL => (&[Field::Protocol], Holds::Keys),
        REMOTE | LOCAL => (&[Field::Protocol, Field::Port], Holds::Ranges),
        name => {
            let rest = starts.into_iter().find_map(|start| name.strip_prefix(start))?;
            let fields: &[_] = match rest {
                "4" => &[Field::Ipv4],
                "6" => &[Field::Ipv6],
                "4ports" => &[Field::Ipv4, Field::Protocol, Field::Port],
                "6ports" => &[Field::Ipv6, Field::Protocol, Field::Port],
                _ => return None,
            };
            (fields, Holds::Ranges)
        }
    })
}

/// The conditions that a packet must meet: by the names of sets, each in the order of its keys. A condition
/// that has no set is none. Where there is an empty set, no packet meets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The directions that are hit.
    pub directions: Vec<Direction>,
    /// The sets.
    pub sets: BTreeMap<String, Vec<KeyRange>>,
}

impl Selection {
    /// Of this traffic.
    pub fn new(traffic: &Traffic) -> Self {
        let mut sets = BTreeMap::new();
        if let Some(protocol) = traffic.protocol {
            let mut numbers = Version::BOTH.map(|version| vec![version.number(protocol)]).to_vec();
            numbers.dedup();
            let keys = numbers.into_iter().map(|key| KeyRange { first: key.clone(), last: key });
            sets.insert(PROTOCOL.to_owned(), keys.collect());
        }
        let conditions = [(REMOTE, &traffic.remote_ports), (LOCAL, &traffic.local_ports)];
        for (name, ports) in conditions {
            if let Some(ports) = ports {
                sets.insert(name.to_owned(), port_keys(traffic.protocol, ports));
            }
        }
        let mut directions = Vec::new();
        for direction in Direction::BOTH {
            let Some(peers) = traffic.peers(direction) else { continue };
            directions.push(direction);
            if !peers.is_everyone() {
                let endpoints = peers.0.iter().flat_map(|target| &target.endpoints);
                sets.extend(empty_sets(side(direction), &peers.0));
                sets.extend(address_sets(side(direction), endpoints));
            }
        }
        let node = traffic.spare_node.iter().map(|node| Endpoint::from(*node));
        let dns = traffic.spare_dns.then(dns);
        let exclude = traffic.exclude.iter().flat_map(|target| &target.endpoints).cloned();
        let spared: Vec<_> = exclude.chain(node).chain(dns).collect();
        sets.extend(empty_sets(EXCEPT, &traffic.exclude));
        sets.extend(address_sets(EXCEPT, &spared));
        Self { directions, sets }
    }

    /// The sets of addresses that start so: the version, whether they have ports, and the name.
    pub fn addresses(&self, start: &str) -> Vec<(Version, bool, String)> {
        let all = Version::BOTH.into_iter().flat_map(|version| [(version, false), (version, true)]);
        all.map(|(version, ports)| (version, ports, set_name(start, version, ports)))
            .filter(|(_, _, name)| self.sets.contains_key(name))
            .collect()
    }

    /// Whether a packet may meet the conditions of both. A condition that spares packets does not count:
    /// it may be told of other addresses.
    pub fn meets(&self, other: &Self) -> bool {
        self.directions.iter().any(|direction| {
            other.directions.contains(direction) && {
                let others = other.areas(*direction);
                self.areas(*direction).iter().any(|one| others.iter().any(|other| one.meets(other)))
            }
        })
    }

    /// Whether a packet of this kind is hit in that direction.
    pub fn hits(&self, direction: Direction, packet: &Packet) -> bool {
        let is_spared = || {
            self.addresses(EXCEPT).iter().any(|(version, ports, name)| {
                let mut ranges = self.sets[name].iter();
                ranges.any(|range| {
                    Area::read(*version, *ports, range).is_some_and(|area| area.meets(&packet.0))
                })
            })
        };
        self.directions.contains(&direction)
            && self.areas(direction).iter().any(|area| area.meets(&packet.0))
            && !is_spared()
    }

    /// What is hit in one direction, sparing aside.
    fn areas(&self, direction: Direction) -> Vec<Area> {
        let named = self.addresses(side(direction));
        let mut areas: Vec<_> = if named.is_empty() {
            Version::BOTH.into_iter().map(Area::whole).collect()
        } else {
            let of = |(version, ports, name): &(Version, bool, String)| -> Vec<_> {
                self.sets[name]
                    .iter()
                    .filter_map(|range| Area::read(*version, *ports, range))
                    .collect()
            };
            named.iter().flat_map(of).collect()
        };
        let narrow = |areas: Vec<Area>, name: &str, within: &dyn Fn(&KeyRange) -> Option<Area>| {
            let Some(ranges) = self.sets.get(name) else { return areas };
            let limits: Vec<_> = ranges.iter().filter_map(within).collect();
            let pairs =
                areas.iter().flat_map(|area| limits.iter().filter_map(|limit| area.and(limit)));
            pairs.collect()
        };
        areas = narrow(areas, PROTOCOL, &|range| {
            let number = *range.first.first()?;
            Some(Area { protocol: (number, number), ..Area::whole(Version::V6) })
        });
        areas = narrow(areas, REMOTE, &|range| {
            let (protocol, ports) = read_port_key(range)?;
            Some(Area { protocol, remote: ports, ..Area::whole(Version::V6) })
        });
        narrow(areas, LOCAL, &|range| {
            let (protocol, ports) = read_port_key(range)?;
            Some(Area { protocol, local: ports, ..Area::whole(Version::V6) })
        })
    }

    /// The traffic in words of the protocol: the same packets, but not always as it was asked for.
    pub fn traffic(&self) -> Traffic {
        let numbers: Vec<u8> = self
            .sets
            .get(PROTOCOL)
            .into_iter()
            .flatten()
            .filter_map(|range| range.first.first().copied())
            .collect();
        let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp]
            .into_iter()
            .find(|one| numbers.contains(&Version::V4.number(*one)));
        let ports = |name| {
            let ranges = self.sets.get(name)?.iter().filter_map(read_port_key);
            Ports::from_ranges(ranges.map(|(_, (first, last))| first..=last))
        };
        let peers = |direction| {
            self.directions.contains(&direction).then(|| {
                let start = side(direction);
                let found: Vec<_> = self.endpoints(start).into_iter().map(Target::from).collect();
                // No targets would be everyone.
                let nobody = found.is_empty() && !self.addresses(start).is_empty();
                Peers(if nobody { vec![Target::nobody()] } else { found })
            })
        };
        Traffic {
            egress: peers(Direction::Egress),
            ingress: peers(Direction::Ingress),
            protocol,
            remote_ports: ports(REMOTE),
            local_ports: ports(LOCAL),
            exclude: self.endpoints(EXCEPT).into_iter().map(Target::from).collect(),
            ..Traffic::default()
        }
    }

    fn endpoints(&self, start: &str) -> Vec<Endpoint> {
        let mut found: Vec<Endpoint> = Vec::new();
        for (version, has_ports, name) in self.addresses(start) {
            for area in
                self.sets[&name].iter().filter_map(|range| Area::read(version, has_ports, range))
            {
                let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
                let number = area.protocol.0;
                let protocol = protocols.into_iter().find(|one| version.number(*one) == number);
                let (first, last) = area.remote;
                let ports = Ports::from_ranges([first.max(1)..=last]);
                let ports = ports.filter(|_| has_ports && (first, last) != ANY_PORT);
                for cidr in cidrs(version, area.address) {
                    let address = (cidr.prefix() > 0).then_some(cidr);
                    let protocol = protocol.filter(|_| has_ports);
                    found.push(Endpoint { address, protocol, ports: ports.clone() });
                }
            }
        }
        // TCP and UDP on the same ports are ports without a protocol; everyone is in both versions.
        let mut joined: Vec<Endpoint> = Vec::new();
        for endpoint in found {
            let of = |protocol| Endpoint { protocol: Some(protocol), ..endpoint.clone() };
            let both = Endpoint { protocol: None, ..endpoint.clone() };
            let twin = match endpoint.protocol {
                Some(Protocol::Udp) if endpoint.ports.is_some() => Some(of(Protocol::Tcp)),
                _ => None,
            };
            if joined.contains(&endpoint) || (endpoint.ports.is_some() && joined.contains(&both)) {
                continue;
            }
            match joined.iter_mut().find(|one| Some(&**one) == twin.as_ref()) {
                Some(one) => *one = both,
                None => joined.push(endpoint),
            }
        }
        joined
    }
}

/// What tells packets of one connection from those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet(Area);

impl Packet {
    /// Of TCP, with this other end and that port at the pod's.
    pub fn tcp(remote: SocketAddr, local_port: u16) -> Self {
        let (version, address) = match remote.ip() {
            IpAddr::V4(four) => (Version::V4, u128::from(four.to_bits())),
            IpAddr::V6(six) => (Version::V6, six.to_bits()),
        };
        let number = version.number(Protocol::Tcp);
        Self(Area {
            version,
            protocol: (number, number),
            address: (address, address),
            remote: (remote.port(), remote.port()),
            local: (local_port, local_port),
        })
    }
}

const ANY_PROTOCOL: (u8, u8) = (0, u8::MAX);
const ANY_PORT: (u16, u16) = (0, u16::MAX);

/// Packets whose every property is between two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Area {
    version: Version,
    protocol: (u8, u8),
    address: (u128, u128),
    remote: (u16, u16),
    local: (u16, u16),
}

impl Area {
    fn whole(version: Version) -> Self {
        let address = (0, version.last_address());
        Self { version, protocol: ANY_PROTOCOL, address, remote: ANY_PORT, local: ANY_PORT }
    }

    fn meets(&self, other: &Self) -> bool {
        self.version == other.version && self.and(other).is_some()
    }

    /// What both have, of this one's version.
    fn and(&self, other: &Self) -> Option<Self> {
        fn both<T: Ord + Copy>(one: (T, T), other: (T, T)) -> Option<(T, T)> {
            let common = (one.0.max(other.0), one.1.min(other.1));
            (common.0 <= common.1).then_some(common)
        }
        Some(Self {
            version: self.version,
            protocol: both(self.protocol, other.protocol)?,
            address: both(self.address, other.address)?,
            remote: both(self.remote, other.remote)?,
            local: both(self.local, other.local)?,
        })
    }

    /// As the key of a set of addresses.
    fn write(&self, ports: bool) -> KeyRange {
        let key = |address, protocol: u8, port: u16| {
            let address = self.version.bytes(address);
            if ports { key(&[&address, &[protocol], &port.to_be_bytes()]) } else { address }
        };
        KeyRange {
            first: key(self.address.0, self.protocol.0, self.remote.0),
            last: key(self.address.1, self.protocol.1, self.remote.1),
        }
    }

    /// From the key of a set of addresses.
    fn read(version: Version, ports: bool, range: &KeyRange) -> Option<Self> {
        let end = |bytes: &[u8]| -> Option<(u128, u8, u16)> {
            let (address, rest) = bytes.split_at_checked(version.address_length())?;
            let address = address.iter().fold(0, |all, byte| all << 8 | u128::from(*byte));
            if !ports {
                return Some((address, 0, 0));
            }
            Some((address, *rest.first()?, u16::from_be_bytes(*rest.get(4..)?.first_chunk()?)))
        };
        let (first, last) = (end(&range.first)?, end(&range.last)?);
        let whole = Self { address: (first.0, last.0), ..Self::whole(version) };
        Some(if ports {
            Self { protocol: (first.1, last.1), remote: (first.2, last.2), ..whole }
        } else {
            whole
        })
    }
}

/// The keys of ports: of that protocol, or of all that have ports.
fn port_keys(protocol: Option<Protocol>, ports: &Ports) -> Vec<KeyRange> {
    let protocols = Protocol::WITH_PORTS.into_iter();
    let protocols = protocols.filter(|one| protocol.is_none_or(|wanted| wanted == *one));
    let mut keys: Vec<_> = protocols
        .flat_map(|protocol| {
            let number = Version::V4.number(protocol);
            ports.ranges().map(move |range| {
                let key = |port: u16| key(&[&[number], &port.to_be_bytes()]);
                KeyRange { first: key(*range.start()), last: key(*range.end()) }
            })
        })
        .collect();
    keys.sort_unstable();
    keys
}

/// Protocols and ports.
fn read_port_key(range: &KeyRange) -> Option<((u8, u8), (u16, u16))> {
    let end = |bytes: &[u8]| -> Option<(u8, u16)> {
        Some((*bytes.first()?, u16::from_be_bytes(*bytes.get(4..)?.first_chunk()?)))
    };
    let (first, last) = (end(&range.first)?, end(&range.last)?);
    Some(((first.0, last.0), (first.1, last.1)))
}

/// The sets that these targets may need while the fault runs: rules are only made at its start. Whether their
/// endpoints have ports does not change.
fn empty_sets(start: &str, targets: &[Target]) -> Vec<(String, Vec<KeyRange>)> {
    let followed = targets.iter().filter(|target| !target.source.is_literal());
    followed
        .flat_map(|target| Version::BOTH.map(|version| (version, target.has_ports())))
        .map(|(version, ports)| (set_name(start, version, ports), Vec::new()))
        .collect()
}

/// The sets of these endpoints, without those that would be empty.
pub fn address_sets<'a>(
    start: &str,
    endpoints: impl IntoIterator<Item = &'a Endpoint>,
) -> Vec<(String, Vec<KeyRange>)> {
    let (mut plain, mut with_ports) = (Vec::new(), Vec::new());
    for endpoint in endpoints {
        for version in Version::BOTH {
            let Some(address) = address_range(endpoint.address, version) else { continue };
            let area = Area { address, ..Area::whole(version) };
            if (endpoint.protocol, &endpoint.ports) == (None, &None) {
                plain.push(area);
                continue;
            }
            let protocols: Vec<_> = match endpoint.protocol {
                Some(protocol) => vec![protocol],
                None => Protocol::WITH_PORTS.to_vec(),
            };
            let ranges: Vec<_> = match &endpoint.ports {
                Some(ports) => ports.ranges().map(std::ops::RangeInclusive::into_inner).collect(),
                None => vec![ANY_PORT],
            };
            for protocol in protocols {
                let number = version.number(protocol);
                let areas = ranges.iter().map(|ports| Area {
                    protocol: (number, number),
                    remote: *ports,
                    ..area
                });
                with_ports.extend(areas);
            }
        }
    }
    let mut sets = Vec::new();
    for (areas, ports) in [(plain, false), (with_ports, true)] {
        for version in Version::BOTH {
            let areas = areas.iter().filter(|area| area.version == version).copied().collect();
            let areas = if ports { apart(areas) } else { merge(areas) };
            if !areas.is_empty() {
                let mut keys: Vec<_> = areas.iter().map(|area| area.write(ports)).collect();
                keys.sort_unstable();
                sets.push((set_name(start, version, ports), keys));
            }
        }
    }
    sets
}

/// The first and the last address of that version; any address has both.
fn address_range(address: Option<Cidr>, version: Version) -> Option<(u128, u128)> {
    let number = |address| match address {
        IpAddr::V4(four) => u128::from(Ipv4Addr::to_bits(four)),
        IpAddr::V6(six) => Ipv6Addr::to_bits(six),
    };
    match address {
        None => Some((0, version.last_address())),
        Some(cidr) if cidr.first().is_ipv4() == (version == Version::V4) => {
            Some((number(cidr.first()), number(cidr.last())))
        }
        Some(_) => None,
    }
}

/// Joins areas that differ in their addresses only, where those overlap or touch.
fn merge(mut areas: Vec<Area>) -> Vec<Area> {
    areas.sort_unstable();
    let mut merged: Vec<Area> = Vec::new();
    for area in areas {
        match merged.last_mut() {
            Some(before) if area.address.0 <= before.address.1.saturating_add(1) => {
                before.address.1 = before.address.1.max(area.address.1);
            }
            _ => merged.push(area),
        }
    }
    merged
}

/// Areas that have no packet in common, and together the packets of these: the kernel takes no others into
/// a set of several fields.
fn apart(areas: Vec<Area>) -> Vec<Area> {
    let mut by_protocol: BTreeMap<(u8, u8), Vec<Area>> = BTreeMap::new();
    for area in areas {
        by_protocol.entry(area.protocol).or_default().push(area);
    }
    let mut all = Vec::new();
    for areas in by_protocol.into_values() {
        // Between two of these ports, all areas are the same for each port.
        let mut cuts: Vec<u32> = areas
            .iter()
            .flat_map(|area| [u32::from(area.remote.0), u32::from(area.remote.1) + 1])
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut done: Vec<Area> = Vec::new();
        for cut in cuts.windows(2) {
            let Ok(first) = u16::try_from(cut[0]) else { continue };
            let Ok(last) = u16::try_from(cut[1] - 1) else { continue };
            let here = areas.iter().filter(|area| area.remote.0 <= first && last <= area.remote.1);
            let merged = merge(here.map(|area| Area { remote: (first, last), ..*area }).collect());
            for area in merged {
                // What is the same for the ports before is one with it.
                let grows = done.iter_mut().find(|one| {
                    one.address == area.address && u32::from(one.remote.1) + 1 == cut[0]
                });
                match grows {
                    Some(one) => one.remote.1 = last,
                    None => done.push(area),
                }
            }
        }
        all.extend(done);
    }
    all
}

/// The blocks that a range of addresses is made of.
fn cidrs(version: Version, (first, last): (u128, u128)) -> Vec<Cidr> {
    let bits: u32 = if version == Version::V4 { 32 } else { 128 };
    let mut blocks = Vec::new();
    let mut next = Some(first);
    while let Some(start) = next.filter(|start| *start <= last) {
        let fits = |size: u32| {
            let end = if size == 128 { u128::MAX } else { start | ((1 << size) - 1) };
            (start.trailing_zeros() >= size && end <= last).then_some((size, end))
        };
        let Some((size, end)) = (0..=bits).rev().find_map(fits) else { break };
        let address: IpAddr = match (version, u32::try_from(start)) {
            (Version::V4, Ok(start)) => Ipv4Addr::from_bits(start).into(),
            _ => Ipv6Addr::from_bits(start).into(),
        };
        let prefix = u8::try_from(bits - size).unwrap_or(0);
        blocks.extend(Cidr::new(address, prefix));
        next = end.checked_add(1);
    }
    blocks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn endpoints(texts: &[&str]) -> Vec<Endpoint> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn targets(texts: &[&str]) -> serde_json::Value {
        texts.iter().map(|text| json!({ "name": text, "endpoints": [text] })).collect()
    }

    fn selection(value: serde_json::Value) -> Selection {
        Selection::new(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn addresses_that_overlap_or_touch_are_one_range() {
        let sets = address_sets(
            "to",
            &endpoints(&["10.0.0.0/25", "10.0.0.128/25", "10.0.0.7", "10.0.2.0/24", "fd00::/8"]),
        );
        let range =
            |first: [u8; 4], last: [u8; 4]| KeyRange { first: first.into(), last: last.into() };
        assert_eq!(
            sets[0],
            (
                "to4".to_owned(),
                vec![range([10, 0, 0, 0], [10, 0, 0, 255]), range([10, 0, 2, 0], [10, 0, 2, 255])]
            )
        );
        assert_eq!(sets[1].0, "to6");
        assert_eq!(sets.len(), 2);
    }

    #[test]
    fn ports_without_a_protocol_are_those_of_tcp_and_udp_and_any_address_is_of_both_versions() {
        let sets = address_sets("except", &endpoints(&[":53"]));
        let names: Vec<_> = sets.iter().map(|(name, keys)| (name.as_str(), keys.len())).collect();
        assert_eq!(names, [("except4ports", 2), ("except6ports", 2)]);
        assert_eq!(sets[0].1[0].first, [0, 0, 0, 0, 6, 0, 0, 0, 0, 53, 0, 0]);
        assert_eq!(sets[0].1[0].last, [255, 255, 255, 255, 6, 0, 0, 0, 0, 53, 0, 0]);
    }

    #[test]
    fn icmp_has_a_number_of_each_version() {
        let icmp = selection(json!({ "protocol": "icmp" }));
        assert_eq!(icmp.sets[PROTOCOL].iter().map(|key| key.first[0]).collect::<Vec<_>>(), [1, 58]);
        let tcp = selection(json!({ "protocol": "tcp" }));
        assert_eq!(tcp.sets[PROTOCOL].len(), 1);
    }

    #[test]
    fn what_has_no_packet_in_common_is_told_from_what_has() {
        let egress = |texts: &[&str]| selection(json!({ "egress": targets(texts) }));
        let all = selection(json!({}));
        let ingress = selection(json!({ "egress": null, "ingress": [] }));
        let disjoint = [
            (egress(&["10.0.0.0/8"]), egress(&["11.0.0.0/8", "fd00::1"])),
            (egress(&["10.0.0.1:80"]), egress(&["10.0.0.1:81-90"])),
            (egress(&["10.0.0.1:80/tcp"]), egress(&["10.0.0.1/udp"])),
            (egress(&["10.0.0.1"]), egress(&["::/0"])),
            (all.clone(), ingress.clone()),
            (selection(json!({ "remote-ports": "80" })), egress(&[":443"])),
            (selection(json!({ "protocol": "icmp" })), selection(json!({ "local-ports": "80" }))),
            (
                selection(json!({ "local-ports": "1-79" })),
                selection(json!({ "local-ports": "80" })),
            ),
        ];
        for (one, other) in disjoint {
            assert!(!one.meets(&other) && !other.meets(&one), "{one:?} {other:?}");
        }
        let meeting = [
            (all.clone(), egress(&["10.0.0.1:80"])),
            (egress(&["10.0.0.0/8"]), egress(&["10.2.3.4:80", "11.0.0.1"])),
            (
                egress(&["10.0.0.1:80"]),
                selection(json!({ "remote-ports": "1-100", "protocol": "tcp" })),
            ),
            (ingress, selection(json!({ "ingress": targets(&["10.0.0.1"]) }))),
            // What is spared now may be hit later.
            (all, selection(json!({ "exclude": targets(&["10.0.0.1"]) }))),
        ];
        for (one, other) in meeting {
            assert!(one.meets(&other) && other.meets(&one), "{one:?} {other:?}");
        }
    }

    #[test]
    fn a_connection_is_hit_as_its_packets_are() {
        let selection = selection(json!({
            "egress": targets(&["10.0.0.0/8", "[fd00::1]:443"]),
            "local-ports": "1024-65535",
            "exclude": targets(&["10.0.0.9", ":22"]),
        }));
        let hits = |remote: &str, local| {
            selection.hits(Direction::Egress, &Packet::tcp(remote.parse().unwrap(), local))
        };
        assert!(hits("10.0.0.1:80", 40_000) && hits("[fd00::1]:443", 40_000));
        for (remote, local) in [
            ("10.0.0.1:80", 80),
            ("10.0.0.9:80", 40_000),
            ("10.0.0.1:22", 40_000),
            ("11.0.0.1:80", 40_000),
            ("[fd00::1]:80", 40_000),
        ] {
            assert!(!hits(remote, local), "{remote} {local}");
        }
        let packet = Packet::tcp("10.0.0.1:80".parse().unwrap(), 40_000);
        assert!(!selection.hits(Direction::Ingress, &packet));
    }

    #[test]
    fn what_the_sets_hold_is_said_in_the_users_words() {
        for value in [
            json!({}),
            json!({ "egress": targets(&["10.0.0.0/8", "fd00::1"]), "protocol": "tcp" }),
            json!({ "egress": null, "ingress": targets(&["10.0.0.1:80", "[fd00::/64]:443/udp"]) }),
            json!({ "remote-ports": "80,443", "local-ports": "1-1023", "exclude": targets(&["/icmp", ":53"]) }),
        ] {
            let traffic: Traffic = serde_json::from_value(value).unwrap();
            assert_eq!(Selection::new(&traffic).traffic(), traffic);
        }
    }

    /// Addresses and ports are few, so that areas meet.
    fn area() -> impl Strategy<Value = Area> {
        (0u128..8, 0u128..4, 0u16..8, 0u16..4, 0u8..2).prop_map(
            |(address, more, port, more_ports, protocol)| Area {
                address: (address, address + more),
                remote: (port, port + more_ports),
                protocol: (protocol, protocol),
                ..Area::whole(Version::V4)
            },
        )
    }

    proptest! {
        #[test]
        fn areas_apart_have_the_same_packets_and_none_twice(
            areas in proptest::collection::vec(area(), 0..8)
        ) {
            let parts = apart(areas.clone());
            for address in 0u128..12 {
                for port in 0u16..12 {
                    for protocol in 0u8..2 {
                        let point = Area {
                            address: (address, address),
                            remote: (port, port),
                            protocol: (protocol, protocol),
                            ..Area::whole(Version::V4)
                        };
                        let count = |areas: &[Area]| areas.iter().filter(|area| area.meets(&point)).count();
                        prop_assert_eq!(count(&parts), usize::from(count(&areas) > 0), "{:?}", point);
                    }
                }
            }
        }

        #[test]
        fn blocks_make_up_their_range(first: u32, more in 0u32..100_000) {
            let last = first.saturating_add(more);
            let blocks = cidrs(Version::V4, (first.into(), last.into()));
            let mut next = u64::from(first);
            for block in blocks {
                let (start, end) = address_range(Some(block), Version::V4).unwrap();
                prop_assert_eq!(start, u128::from(next));
                next = u64::try_from(end).unwrap() + 1;
            }
            prop_assert_eq!(next, u64::from(last) + 1);
        }

        #[test]
        fn keys_are_read_back(area in area(), ports: bool) {
            let area = if ports { area } else { Area { address: area.address, ..Area::whole(Version::V4) } };
            prop_assert_eq!(Area::read(Version::V4, ports, &area.write(ports)), Some(area));
        }
    }
}
