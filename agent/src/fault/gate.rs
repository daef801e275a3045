//! The gate: the nf_tables table through which a fault gets its packets, and which the kernel closes by
//! itself at the deadline.
//!
//! ```text
//! table netdev pod-chaos-0badcafe {
//!     comment "v1 netem eth0 from 123456 to 153456"
//!     set live { type ether_type; flags timeout; elements = { ip timeout 30s, ip6 timeout 30s } }
//!     set to4 { type ipv4_addr; flags interval; elements = { 10.0.0.0/8 } }
//!     chain hit-egress {
//!         counter fwd to "pc-0badcafe"
//!     }
//!     chain aimed-egress {
//!         meta l4proto ipv6-icmp icmpv6 type 133-137 accept
//!         meta protocol != @live accept
//!         goto hit-egress
//!     }
//!     chain egress {
//!         type filter hook egress device "eth0" priority filter; policy accept;
//!         meta priority 8bad:cafe meta priority set none accept
//!         ip daddr @to4 goto aimed-egress
//!     }
//!     chain exit {
//!         type filter hook ingress device "pc-0badcafex" priority filter; policy accept;
//!         ether saddr != 72:63:0b:ad:ca:fe meta priority set 8bad:cafe fwd to "eth0"
//!     }
//! }
//! ```
//!
//! `exit` sends what comes out of the fault's links on its way, with a priority by which `egress` knows it
//! again. The priority is free to be used: the pair of links has just set it to zero (`____dev_forward_skb`
//! of linux/netdevice.h), and `egress` does so again. It is the fault's own: another fault on the same
//! interface lets such a packet pass for what it is. The packet's mark is not free: the interface's own qdisc
//! and its `tc egress` programs come later, and may go by it. What comes out of a fault on ingress needs no
//! mark: see [`super::netem`]. Where the agent does netem's work, packets that are hit get a priority too, by
//! which the table of the [emulator](super::emulator) takes them; they come back as those of `exit` do.
//!
//! When the elements of `live` expire, the kernel stops matching, whoever is still alive. The table is
//! made in one transaction, expiry and rule together: there is no moment with a fault without an end. Where
//! sets are large, they are filled first, and chains and `live` come last, in one transaction.
//!
//! Most packets are not aimed at, and `egress` is all that they see. To look something up in a set takes a
//! tenth of a microsecond, all else next to nothing: so the first lookup is that of the address, and only
//! behind it is asked whether the packet is spared and the fault has ended.
//!
//! ARP is not IP and passes by; of IPv6, neighbour discovery is spared, or the pod would drop off its
//! network instead of being slow on it.
//!
//! Protocols and ports are found behind IPv6 extension headers: the kernel walks over them before it looks at
//! a chain (`__nft_set_pktinfo_ipv6_validate` of net/netfilter/nf_tables_ipv6.h), and `meta l4proto` and the
//! offsets of `th` are what it has come to.
//!
//! Targets that are known by name change while the fault runs: their sets are changed then, and nothing else
//! is. A set that such a target may need is there from the start, empty if need be, because rules are only made
//! then.
//!
//! Limits: which ports a packet has is only known from the first of its fragments: the others are not hit
//! where ports are asked for, and not spared where ports are excluded. Their protocol is known, unless a later
//! fragment of IPv6 begins with more extension headers (`ipv6_find_hdr` of net/ipv6/exthdrs_core.c).

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;
use pod_chaos_protocol::{
    Direction, Failure, FailureKind, FaultId, Interface, Protocol, Sample, Share,
};

use super::{
    entry_address, exit_name,
    label::Label,
    numbered,
    selection::{self, EXCEPT, LOCAL, PROTOCOL, REMOTE, Selection, Version, side},
    table_name,
};
use crate::{
    clock,
    error::{Doing, KernelError, failure},
    kernel::{self, Kernel},
    netlink::{
        Message, Refusal,
        nftables::{
            self, Chain, Comparison, Element, Expression, Family, Field, Holds, Hook, KeyRange,
            PacketHeader, Refuse, Register, Set, SetName, Table, TableId,
        },
    },
};

/// The set whose elements time the fault.
const LIVE: &str = "live";
/// What the names of chains start with to which packets go that are aimed at: they are hit unless they are
/// spared, or the fault has ended.
const AIMED: &str = "aimed-";
/// What the names of chains start with to which packets go that are hit.
const HIT: &str = "hit-";
/// What the names of chains start with that choose some of the packets that match.
const SAMPLE: &str = "sample-";
/// The chain for packets that the fault is done with.
const EXIT: &str = "exit";

/// EtherTypes of IPv4 and IPv6 (linux/if_ether.h).
const PROTOCOLS: [u16; 2] = [0x0800, 0x86dd];
/// Offset of the source address in an Ethernet header (linux/if_ether.h).
const SOURCE_ADDRESS: u32 = 6;
/// From router solicitation to redirect (net/ndisc.h).
const NEIGHBOUR_DISCOVERY: (u8, u8) = (133, 137);
/// Offset of the flags in a TCP header, and some of them (linux/tcp.h).
const TCP_FLAGS: u32 = 13;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
/// Numbers of protocols, and of their message that something cannot be reached (linux/in.h, linux/icmp.h,
/// linux/icmpv6.h).
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
const UNREACHABLE: [(u8, u8); 2] = [(1, 3), (ICMPV6, 1)];

/// An index that no interface has: what is forwarded there vanishes (`nf_fwd_netdev_egress` of
/// net/netfilter/nf_dup_netdev.c), and who sends it is told that it was sent. A plain drop on egress is
/// reported to the sender: TCP takes it for congestion of its own queue, and tries again twice a second.
const NOWHERE: u32 = 0;

/// What the kernel's timer may be off by when it is read back: one tick of the slowest configuration,
/// 100 per second.
const TICK_MS: u64 = 10;

/// Up to how many ranges of keys travel together with everything else. The socket takes 200 KiB at a time.
const SMALL: usize = 1000;

/// What becomes of a packet that is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes through this link.
    Through(i32),
    /// It is marked, for the table of the [emulator](super::emulator) to take it.
    Emulated,
    /// It gets this priority, by which the interface's qdisc sorts it: see [`super::prio`].
    Queued(u32),
    /// It vanishes, and its sender is not told.
    Vanish,
    /// It vanishes, and its sender is told.
    Refused,
}

/// A way of packets that are hit: in one direction, over one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The position of the interface among those of the fault.
    pub number: usize,
    /// The interface.
    pub interface: Interface,
    /// Its index.
    pub target: i32,
    /// The direction.
    pub direction: Direction,
    /// What becomes of the packets.
    pub fate: Fate,
}

impl Way {
    /// Whether what is hit passes here again, on its way out.
    fn returns(&self) -> bool {
        self.has_exit() || self.fate == Fate::Emulated
    }

    /// Whether what is hit comes back from a pair of links.
    fn has_exit(&self) -> bool {
        self.direction == Direction::Egress && matches!(self.fate, Fate::Through(_))
    }

    fn chain(&self, start: &str) -> String {
        numbered(&format!("{start}{}", self.direction), self.number)
    }
}

/// A gate to be opened.
#[derive(Clone, Debug)]
pub struct Gate {
    /// The fault's id.
    pub id: FaultId,
    /// What the table says about itself.
    pub label: Label,
    /// For how long it is open, in milliseconds, of at least one tick: an older kernel takes less than
    /// a tick for ever.
    pub timeout_ms: u64,
    /// Where it stands.
    pub ways: Vec<Way>,
    /// What it lets through to the fault.
    pub selection: Selection,
    /// How much of that.
    pub sample: Option<Sample>,
    /// Only packets that open a TCP connection. The selection's protocol is TCP then.
    pub new_only: bool,
}

impl Gate {
    /// Opens it.
    pub fn open(&self, kernel: &mut Kernel) -> Result<(), Failure> {
        let ranges: usize = self.selection.sets.values().map(Vec::len).sum();
        if ranges <= SMALL {
            return self.transact(kernel, self.transaction());
        }
        self.announce(kernel)?;
        self.arm(kernel)
    }

    /// Makes what hits nothing by itself: the table with its label, and what is large.
    pub fn announce(&self, kernel: &mut Kernel) -> Result<(), Failure> {
        self.sets().into_iter().try_for_each(|part| self.transact(kernel, vec![part]))
    }

    /// Opens what was announced.
    pub fn arm(&self, kernel: &mut Kernel) -> Result<(), Failure> {
        self.transact(kernel, self.chains_and_rules())
    }

    /// The messages that open it, and what each is about.
    pub fn transaction(&self) -> Vec<(Part, Message)> {
        [self.sets(), self.chains_and_rules()].concat()
    }

    fn transact(&self, kernel: &mut Kernel, parts: Vec<(Part, Message)>) -> Result<(), Failure> {
        let (parts, messages): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        nftables::transact(&mut kernel.netfilter, &messages).map_err(|(index, refusal)| {
            index.map_or(Part::Table, |index| parts[index]).refused(self, refusal)
        })
    }

    fn family(&self) -> Family {
        let of_ip = |way: &Way| matches!(way.fate, Fate::Refused | Fate::Queued(_));
        if self.ways.iter().any(of_ip) { Family::Inet } else { Family::Netdev }
    }

    fn sets(&self) -> Vec<(Part, Message)> {
        let name = table_name(self.id);
        let table = TableId { family: self.family(), name: &name };
        let mut messages = vec![(Part::Table, nftables::new_table(table, &self.label.to_string()))];
        for (name, ranges) in &self.selection.sets {
            let Some((fields, holds)) = selection::shape(name) else { continue };
            let set = Set { name: name.clone(), id: self.set_id(name), fields, holds };
            messages.push((Part::Set, nftables::new_set(table, &set)));
            let ranges = nftables::new_ranges(table, &set, ranges);
            messages.extend(ranges.into_iter().map(|message| (Part::Set, message)));
        }
        messages
    }

    fn chains_and_rules(&self) -> Vec<(Part, Message)> {
        let name = table_name(self.id);
        let table = TableId { family: self.family(), name: &name };
        let live = live_set();
        let mut messages: Vec<_> = self
            .chains()
            .iter()
            .map(|(part, chain)| (*part, nftables::new_chain(table, chain)))
            .collect();
        messages.push((Part::Set, nftables::new_set(table, &live)));
        messages
            .push((Part::Set, nftables::new_protocols(table, &live, &PROTOCOLS, self.timeout_ms)));
        messages.extend(self.rules().iter().map(|(chain, expressions)| {
            (Part::Rule, nftables::new_rule(table, chain, expressions))
        }));
        messages
    }

    /// In the order in which they are made: rules only lead to chains that are there.
    fn chains(&self) -> Vec<(Part, Chain)> {
        let inner = |name| (Part::Rule, Chain { name, hook: None, device: None });
        let mut chains = Vec::new();
        for way in &self.ways {
            chains.push(inner(way.chain(HIT)));
            if self.sample.is_some() {
                chains.push(inner(way.chain(SAMPLE)));
            }
            chains.push(inner(way.chain(AIMED)));
            let (part, hook) = match (self.family(), way.direction) {
                (Family::Netdev, Direction::Egress) => (Part::Egress, Hook::Egress),
                (Family::Netdev, Direction::Ingress) => (Part::Ingress, Hook::Ingress),
                (Family::Inet, Direction::Egress) if way.fate != Fate::Refused => {
                    (Part::Inet, Hook::Postrouting)
                }
                (Family::Inet, Direction::Egress) => (Part::Inet, Hook::Output),
                (Family::Inet, Direction::Ingress) => (Part::Inet, Hook::Input),
            };
            let device = (self.family() == Family::Netdev).then(|| way.interface.to_string());
            let name = way.chain("");
            chains.push((part, Chain { name, hook: Some(hook.number()), device }));
            if way.has_exit() {
                let device = Some(exit_name(self.id, way.number));
                let name = numbered(EXIT, way.number);
                chains
                    .push((Part::Exit, Chain { name, hook: Some(Hook::Ingress.number()), device }));
            }
        }
        chains
    }

    /// In the order of their chains, each with its chain.
    fn rules(&self) -> Vec<(String, Vec<Expression>)> {
        let mut rules = Vec::new();
        for way in &self.ways {
            let mut add = |chain: String, list: Vec<Vec<Expression>>| {
                rules.extend(list.into_iter().map(|rule| (chain.clone(), rule)));
            };
            add(way.chain(HIT), self.deal_with(way));
            if let Some(sample) = self.sample {
                add(way.chain(SAMPLE), self.choose(way, sample));
            }
            add(way.chain(AIMED), self.spare(way));
            add(way.chain(""), self.aim(way));
            if way.has_exit() {
                add(numbered(EXIT, way.number), vec![self.send_back(way)]);
            }
        }
        rules
    }

    /// The rules of a chain that sees all packets of an interface.
    fn aim(&self, way: &Way) -> Vec<Vec<Expression>> {
        let mut rules = Vec::new();
        if way.returns() {
            rules.push(let_return(self.id));
        }
        if self.family() == Family::Inet {
            let load = match way.direction {
                Direction::Egress => Expression::LoadOutInterface,
                Direction::Ingress => Expression::LoadInInterface,
            };
            let other = Expression::Compare(Comparison::Unequal, way.target.to_ne_bytes().to_vec());
            rules.push(vec![load, other, Expression::Accept]);
        }
        let mut conditions = self.conditions(way.direction);
        conditions.push(Expression::GoTo(way.chain(AIMED)));
        let mut addresses = self.look_up_addresses(way.direction, side(way.direction));
        if addresses.is_empty() {
            addresses.push(Vec::new());
        }
        rules.extend(addresses.into_iter().map(|address| [address, conditions.clone()].concat()));
        rules
    }

    /// The rules of a chain whose packets are aimed at.
    fn spare(&self, way: &Way) -> Vec<Vec<Expression>> {
        let mut rules = Vec::new();
        if way.fate == Fate::Refused {
            rules.extend(let_refusals_pass());
        }
        rules.push(spare_neighbour_discovery());
        rules.push(vec![
            Expression::LoadProtocol,
            Expression::LookUpMissing(live_set().named()),
            Expression::Accept,
        ]);
        let spared = self.look_up_addresses(way.direction, EXCEPT);
        rules.extend(spared.into_iter().map(|rule| [rule, vec![Expression::Accept]].concat()));
        let next = if self.sample.is_some() { SAMPLE } else { HIT };
        rules.push(vec![Expression::GoTo(way.chain(next))]);
        rules
    }

    fn has(&self, set: &str) -> bool {
        self.selection.sets.contains_key(set)
    }

    /// What must hold besides the address.
    fn conditions(&self, direction: Direction) -> Vec<Expression> {
        let mut rule = Vec::new();
        if self.has(PROTOCOL) {
            rule.push(Expression::LoadTransport(Register::FIRST));
            rule.push(Expression::LookUp(self.named(PROTOCOL)));
        }
        let ports = ports(direction);
        for (name, offset) in [(REMOTE, ports.remote), (LOCAL, ports.local)] {
            if self.has(name) {
                rule.push(Expression::LoadTransport(Register::FIRST));
                rule.push(load_port(Register(1), offset));
                rule.push(Expression::LookUp(self.named(name)));
            }
        }
        if self.new_only {
            rule.push(Expression::LoadBytes(
                Register::FIRST,
                PacketHeader::Transport,
                TCP_FLAGS,
                1,
            ));
            rule.push(Expression::And(vec![SYN | ACK]));
            rule.push(Expression::Compare(Comparison::Equal, vec![SYN]));
        }
        rule
    }

    /// For each of the sets of addresses that start so: goes on only with an address at the other end that
    /// it holds.
    fn look_up_addresses(&self, direction: Direction, start: &str) -> Vec<Vec<Expression>> {
        let look_up = |(version, with_ports, name): (Version, bool, String)| {
            let mut rule = is_version(version);
            let address = addresses(direction, version).remote;
            rule.push(load_address(Register::FIRST, version, address));
            if with_ports {
                let register = address_registers(version);
                rule.push(Expression::LoadTransport(Register(register)));
                rule.push(load_port(Register(register + 1), ports(direction).remote));
            }
            rule.push(Expression::LookUp(self.named(&name)));
            rule
        };
        self.selection.addresses(start).into_iter().map(look_up).collect()
    }

    /// The rules of a chain that takes some of the packets that match.
    fn choose(&self, way: &Way, sample: Sample) -> Vec<Vec<Expression>> {
        let go = Expression::GoTo(way.chain(HIT));
        match sample {
            Sample::Every(number) => vec![vec![
                Expression::NumberPackets(number.get()),
                Expression::Compare(Comparison::Equal, 0u32.to_ne_bytes().to_vec()),
                go,
            ]],
            Sample::Connections(share) => Version::BOTH
                .into_iter()
                .flat_map(|version| {
                    let of = |protocol: Option<Protocol>| {
                        let mut rule = is_version(version);
                        rule.extend(self.choose_connection(
                            way.direction,
                            version,
                            protocol,
                            share,
                        ));
                        rule.push(go.clone());
                        rule
                    };
                    [of(Some(Protocol::Tcp)), of(Some(Protocol::Udp)), of(None)]
                })
                .collect(),
            // A kind of sample that only a newer plugin knows does not get here: it cannot be read.
            _ => Vec::new(),
        }
    }

    /// Goes on with that share of connections. The key is the same for both directions of one: the other end
    /// comes first. Without a protocol that has ports, a connection is all between two addresses.
    fn choose_connection(
        &self,
        direction: Direction,
        version: Version,
        protocol: Option<Protocol>,
        share: Share,
    ) -> Vec<Expression> {
        let compare = |how, protocol| {
            let number = Expression::Compare(how, vec![version.number(protocol)]);
            [Expression::LoadTransport(Register::FIRST), number]
        };
        let mut rule: Vec<_> = match protocol {
            Some(protocol) => compare(Comparison::Equal, protocol).into(),
            None => Protocol::WITH_PORTS
                .into_iter()
                .flat_map(|one| compare(Comparison::Unequal, one))
                .collect(),
        };
        let (address, port) = (addresses(direction, version), ports(direction));
        // Behind the first four, which the hash goes into.
        let (start, each) = (4, address_registers(version));
        rule.push(load_address(Register(start), version, address.remote));
        rule.push(load_address(Register(start + each), version, address.local));
        let mut registers = 2 * each;
        if protocol.is_some() {
            rule.push(load_port(Register(start + registers), port.remote));
            rule.push(load_port(Register(start + registers + 1), port.local));
            registers += 2;
        }
        let modulus = u32::from(Share::WHOLE.of_ten_thousand());
        let limit = u32::from(share.of_ten_thousand());
        rule.push(Expression::Hash(Register(start), registers * 4, modulus, self.id.number()));
        rule.push(Expression::ToNetworkOrder);
        rule.push(Expression::Compare(Comparison::Below, limit.to_be_bytes().to_vec()));
        rule
    }

    /// The rules of a chain whose packets are hit.
    fn deal_with(&self, way: &Way) -> Vec<Vec<Expression>> {
        let count = Expression::Count(0);
        let forward = |index: u32| {
            vec![Expression::Count(0), Expression::LoadNumber(index), Expression::Forward]
        };
        match (way.fate, way.direction) {
            (Fate::Through(link), _) => vec![forward(link.cast_unsigned())],
            (Fate::Emulated, _) => vec![give_priority(hit(self.id))],
            (Fate::Queued(priority), _) => vec![give_priority(priority)],
            (Fate::Vanish, Direction::Egress) => vec![forward(NOWHERE)],
            (Fate::Vanish, Direction::Ingress) => vec![vec![count, Expression::Drop]],
            (Fate::Refused, _) => {
                let mut reset = is_protocol(TCP).to_vec();
                reset.extend([Expression::Count(0), Expression::Reject(Refuse::Reset)]);
                let other = vec![count, Expression::Reject(Refuse::PortUnreachable)];
                vec![reset, other]
            }
        }
    }

    /// `ether saddr != … meta priority set … fwd to …`, open or closed: what is on its way at the deadline
    /// arrives. What the kernel says of itself on a link that is set up (IPv6 multicast reports, when the
    /// pod routes) stays there.
    fn send_back(&self, way: &Way) -> Vec<Expression> {
        vec![
            Expression::LoadBytes(Register::FIRST, PacketHeader::Link, SOURCE_ADDRESS, 6),
            Expression::Compare(Comparison::Unequal, entry_address(self.id).to_vec()),
            Expression::LoadNumber(returning(self.id)),
            Expression::SetPriority,
            Expression::LoadNumber(way.target.cast_unsigned()),
            Expression::Forward,
        ]
    }

    fn named(&self, name: &str) -> SetName {
        SetName { name: name.to_owned(), id: self.set_id(name) }
    }

    /// Behind the one of `live`, in the order of their names.
    fn set_id(&self, name: &str) -> u32 {
        let before = self.selection.sets.keys().take_while(|other| *other != name).count();
        u32::try_from(before).unwrap_or(u32::MAX).saturating_add(2)
    }

    /// Compares what the kernel shows with what was asked for; returns what differs.
    pub fn compare(&self, seen: &Contents) -> Vec<String> {
        let mut differences = Vec::new();
        let chains: Vec<_> = self.chains().into_iter().map(|(_, chain)| chain).collect();
        if seen.chains != chains {
            differences.push(format!("chains: {:?}", seen.chains));
        }
        let written = self.rules();
        let same = seen.rules.len() == written.len()
            && seen.rules.iter().zip(&written).all(|((in_chain, read), (chain, written))| {
                in_chain == chain
                    && read.len() == written.len()
                    && read.iter().zip(written).all(|(read, written)| read.shows(written))
            });
        if !same {
            differences.push(format!("rules: {:?}", seen.rules));
        }
        for (name, ranges) in &self.selection.sets {
            let found = seen.sets.get(name);
            if found != Some(ranges) {
                let count = found.map_or(0, Vec::len);
                differences.push(format!("set {name}: {count} ranges of {}", ranges.len()));
            }
        }
        let mut protocols: Vec<_> = seen.live.iter().map(|element| element.protocol).collect();
        protocols.sort_unstable();
        let timed = |element: &Element| {
            element.timeout_ms.is_some_and(|ms| ms.abs_diff(self.timeout_ms) <= TICK_MS)
                && element.remaining_ms.is_some_and(|ms| ms <= self.timeout_ms + TICK_MS)
        };
        if protocols != PROTOCOLS || !seen.live.iter().all(timed) {
            differences.push(format!("expiry: {:?}", seen.live));
        }
        differences
    }
}

fn live_set() -> Set {
    Set { name: LIVE.to_owned(), id: 1, fields: &[Field::EtherType], holds: Holds::TimedKeys }
}

/// The priority of a fault's packets between `exit`, or the [emulator](super::emulator), and `egress`: above
/// all that the kernel gives to packets by itself, which are below 16.
pub const fn returning(id: FaultId) -> u32 {
    id.number() | 1 << 31
}

/// The priority of a fault's packets between `egress` and the emulator's table: no other fault's, as far as
/// 26 bits tell them apart. When there is no emulator any more, they go out with it: it is the number of
/// hardly any qdisc of a pod, and its last four bits are those of zero, which is what simple qdiscs go by
/// (`prio2band` of net/sched/sch_generic.c).
pub const fn hit(id: FaultId) -> u32 {
    let folded = id.number() ^ (id.number() >> 26);
    0x4000_0000 | ((folded << 4) & 0x3fff_fff0)
}

/// `counter meta priority set …`.
fn give_priority(priority: u32) -> Vec<Expression> {
    vec![Expression::Count(0), Expression::LoadNumber(priority), Expression::SetPriority]
}

/// `meta priority … meta priority set none accept`.
fn let_return(id: FaultId) -> Vec<Expression> {
    vec![
        Expression::LoadPriority,
        Expression::Compare(Comparison::Equal, returning(id).to_ne_bytes().to_vec()),
        Expression::LoadNumber(0),
        Expression::SetPriority,
        Expression::Accept,
    ]
}

/// `meta protocol ip` or `ip6`.
fn is_version(version: Version) -> Vec<Expression> {
    let protocol = match version {
        Version::V4 => PROTOCOLS[0],
        Version::V6 => PROTOCOLS[1],
    };
    vec![
        Expression::LoadProtocol,
        Expression::Compare(Comparison::Equal, protocol.to_be_bytes().to_vec()),
    ]
}

/// `meta l4proto …`, of either version of IP.
fn is_protocol(number: u8) -> [Expression; 2] {
    let compare = Expression::Compare(Comparison::Equal, vec![number]);
    [Expression::LoadTransport(Register::FIRST), compare]
}

/// Where something is in a header, of each end.
struct Ends {
    local: u32,
    remote: u32,
}

/// Sources come before destinations.
fn ends(direction: Direction, source: u32, destination: u32) -> Ends {
    match direction {
        Direction::Egress => Ends { local: source, remote: destination },
        Direction::Ingress => Ends { local: destination, remote: source },
    }
}

/// linux/ip.h, linux/ipv6.h.
fn addresses(direction: Direction, version: Version) -> Ends {
    match version {
        Version::V4 => ends(direction, 12, 16),
        Version::V6 => ends(direction, 8, 24),
    }
}

/// The same for TCP and UDP (linux/tcp.h, linux/udp.h).
fn ports(direction: Direction) -> Ends {
    ends(direction, 0, 2)
}

/// How many registers an address takes.
const fn address_registers(version: Version) -> u32 {
    match version {
        Version::V4 => 1,
        Version::V6 => 4,
    }
}

fn load_address(register: Register, version: Version, offset: u32) -> Expression {
    let length = address_registers(version) * 4;
    Expression::LoadBytes(register, PacketHeader::Network, offset, length)
}

fn load_port(register: Register, offset: u32) -> Expression {
    Expression::LoadBytes(register, PacketHeader::Transport, offset, 2)
}

/// `meta l4proto ipv6-icmp icmpv6 type 133-137 accept`.
fn spare_neighbour_discovery() -> Vec<Expression> {
    let (first, last) = NEIGHBOUR_DISCOVERY;
    let mut rule = is_protocol(ICMPV6).to_vec();
    rule.extend([
        Expression::LoadBytes(Register::FIRST, PacketHeader::Transport, 0, 1),
        Expression::Compare(Comparison::AtLeast, vec![first]),
        Expression::Compare(Comparison::AtMost, vec![last]),
        Expression::Accept,
    ]);
    rule
}

/// Lets resets and messages that something cannot be reached pass: the answer to what was refused in one
/// direction must not be refused in the other, which nobody would be told of.
fn let_refusals_pass() -> Vec<Vec<Expression>> {
    let mut reset = is_protocol(TCP).to_vec();
    reset.extend([
        Expression::LoadBytes(Register::FIRST, PacketHeader::Transport, TCP_FLAGS, 1),
        Expression::And(vec![RST]),
        Expression::Compare(Comparison::Unequal, vec![0]),
        Expression::Accept,
    ]);
    let mut rules = vec![reset];
    for (protocol, unreachable) in UNREACHABLE {
        let mut message = is_protocol(protocol).to_vec();
        message.extend([
            Expression::LoadBytes(Register::FIRST, PacketHeader::Transport, 0, 1),
            Expression::Compare(Comparison::Equal, vec![unreachable]),
            Expression::Accept,
        ]);
        rules.push(message);
    }
    rules
}

/// What a message of the transaction makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The table.
    Table,
    /// A chain that hooks into what leaves an interface.
    Egress,
    /// A chain that hooks into what an interface receives.
    Ingress,
    /// A chain that hooks into what the pod sends or receives over any interface.
    Inet,
    /// The chain that hooks into a link from which packets come out.
    Exit,
    /// A set, or elements of it.
    Set,
    /// A rule, or a chain that only rules lead to.
    Rule,
}

impl Part {
    fn refused(self, gate: &Gate, refusal: Refusal) -> Failure {
        let name = table_name(gate.id);
        let table = TableId { family: gate.family(), name: &name };
        let interfaces: Vec<_> =
            gate.label.interfaces.iter().map(|name| format!("`{name}`")).collect();
        let interfaces = interfaces.join(", ");
        let doing = match self {
            Self::Table => format!("make the {table}"),
            Self::Egress => format!("hook the {table} into the egress of {interfaces}"),
            Self::Ingress => format!("hook the {table} into the ingress of {interfaces}"),
            Self::Inet => format!("hook the {table} into the pod's traffic"),
            Self::Exit => {
                format!("hook the {table} into the ingress of {}", exit_name(gate.id, 0))
            }
            Self::Set => format!("make a set of the {table}"),
            Self::Rule => format!("make a rule of the {table}"),
        };
        match (self, refusal.errno) {
            (Self::Table, _) => kernel::without_nf_tables(&doing, refusal),
            (Self::Egress, Errno::EOPNOTSUPP) => kernel::lacks(&["the nf_tables egress hook"]),
            (Self::Ingress | Self::Exit, Errno::EOPNOTSUPP) => {
                kernel::lacks(&["the nf_tables ingress hook"])
            }
            (Self::Rule, Errno::EOPNOTSUPP | Errno::ENOENT) => {
                let mut parts = match gate.ways.first().map(|way| way.fate) {
                    Some(Fate::Refused) => vec!["nft_reject_inet"],
                    Some(Fate::Queued(_)) => vec!["nft_meta"],
                    _ => vec!["nft_fwd_netdev"],
                };
                parts.extend(gate.sample.map(|sample| match sample {
                    Sample::Every(_) => "nft_numgen",
                    _ => "nft_hash",
                }));
                kernel::lacks(&parts)
            }
            _ => KernelError::new(doing, refusal).into(),
        }
    }
}

/// A gate as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Its chains.
    pub chains: Vec<Chain>,
    /// Its rules, each with its chain's name.
    pub rules: Vec<(String, Vec<Expression>)>,
    /// What still matches.
    pub live: Vec<Element>,
    /// When that was read, by [`clock`]: large sets take their time.
    pub seen_ms: u64,
    /// The sets that say what is hit, by name.
    pub sets: BTreeMap<String, Vec<KeyRange>>,
}

impl Contents {
    /// Packets that were hit.
    pub fn packets(&self) -> u64 {
        self.expressions()
            .map(|one| if let Expression::Count(packets) = one { *packets } else { 0 })
            .sum()
    }

    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.rules.iter().flat_map(|(_, expressions)| expressions)
    }

    /// The interfaces that its chains hook into.
    pub fn interfaces(&self) -> Vec<Interface> {
        let sides = Direction::BOTH.map(|direction| direction.to_string());
        let chains = self.chains.iter().filter(|chain| {
            chain.hook.is_some() && sides.iter().any(|side| chain.name.starts_with(side))
        });
        let devices = chains.filter_map(|chain| chain.device.as_ref()?.parse().ok());
        let mut found: Vec<Interface> = Vec::new();
        for device in devices {
            if !found.contains(&device) {
                found.push(device);
            }
        }
        found
    }

    /// Which packets are hit.
    pub fn selection(&self) -> Selection {
        let hit = |direction: &Direction| {
            let name = direction.to_string();
            self.chains.iter().any(|chain| chain.hook.is_some() && chain.name.starts_with(&name))
        };
        let directions = Direction::BOTH.into_iter().filter(hit).collect();
        Selection { directions, sets: self.sets.clone() }
    }

    /// How much of them.
    pub fn sample(&self) -> Option<Sample> {
        let rules: Vec<_> =
            self.rules.iter().filter(|(chain, _)| chain.starts_with(SAMPLE)).collect();
        rules.iter().flat_map(|(_, rule)| rule).find_map(|expression| match expression {
            Expression::NumberPackets(number) => Some(Sample::Every((*number).try_into().ok()?)),
            Expression::Compare(Comparison::Below, limit) => {
                let limit = u32::from_be_bytes(*limit.first_chunk()?);
                Share::from_ten_thousandths(limit.try_into().ok()?).map(Sample::Connections)
            }
            _ => None,
        })
    }

    /// Whether only packets that open a connection are hit.
    pub fn is_new_only(&self) -> bool {
        self.expressions().any(|one| *one == Expression::And(vec![SYN | ACK]))
    }

    /// Whether the sender of what is hit is told.
    pub fn refuses(&self) -> bool {
        self.expressions().any(|one| matches!(one, Expression::Reject(_)))
    }

    /// For how long it was opened, in milliseconds, and when that ends, by [`clock`]; `None` when it is closed
    /// or has no end.
    pub fn timer(&self) -> Option<(u64, u64)> {
        let longest = self.live.iter().max_by_key(|element| element.remaining_ms)?;
        Some((longest.timeout_ms?, self.seen_ms.saturating_add(longest.remaining_ms?)))
    }

    /// For how much longer it is open, in milliseconds: `None` when it is closed, the maximum when it
    /// has no end.
    pub fn remaining_ms(&self) -> Option<u64> {
        self.live.iter().map(|element| element.remaining_ms.unwrap_or(u64::MAX)).max()
    }
}

/// The families that gates are of.
const FAMILIES: [Family; 2] = [Family::Netdev, Family::Inet];

/// Reads a gate. `None` when there is none.
pub fn read(kernel: &mut Kernel, id: FaultId) -> Result<Option<Contents>, KernelError> {
    let Some((family, live)) = find_live(kernel, id)? else { return Ok(None) };
    let seen_ms = clock::now_ms();
    let name = table_name(id);
    let table = TableId { family, name: &name };
    let netfilter = &mut kernel.netfilter;
    let chains =
        nftables::chains(netfilter, table).doing(|| format!("read the chains of the {table}"))?;
    let rules =
        nftables::rules(netfilter, table).doing(|| format!("read the rules of the {table}"))?;
    let mut sets = BTreeMap::new();
    for (_, expressions) in &rules {
        for expression in expressions {
            let Expression::LookUp(SetName { name, .. }) = expression else { continue };
            let Some((fields, holds)) = selection::shape(name) else { continue };
            if !sets.contains_key(name) {
                let ranges = nftables::ranges(netfilter, table, name, fields, holds)
                    .doing(|| format!("read the set {name} of the {table}"))?;
                sets.insert(name.clone(), ranges);
            }
        }
    }
    Ok(Some(Contents { chains, rules, live, seen_ms, sets }))
}

/// Reads only what still matches. `None` when there is no gate; empty when it is closed.
pub fn read_live(kernel: &mut Kernel, id: FaultId) -> Result<Option<Vec<Element>>, KernelError> {
    Ok(find_live(kernel, id)?.map(|(_, live)| live))
}

fn find_live(
    kernel: &mut Kernel,
    id: FaultId,
) -> Result<Option<(Family, Vec<Element>)>, KernelError> {
    let name = table_name(id);
    for family in FAMILIES {
        let table = TableId { family, name: &name };
        match nftables::protocols(&mut kernel.netfilter, table, LIVE) {
            Err(refusal) if is_missing(&refusal) => {}
            result => {
                let live = result.doing(|| format!("read the set {LIVE} of the {table}"))?;
                return Ok(Some((family, live)));
            }
        }
    }
    Ok(None)
}

/// No such table or set; or, of a kernel without that family, none of it.
fn is_missing(refusal: &Refusal) -> bool {
    matches!(refusal.errno, Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)
}

/// Whether it still lets packets be hit. When the kernel does not say, it may.
pub fn is_open(kernel: &mut Kernel, id: FaultId) -> bool {
    read_live(kernel, id).map_or(true, |live| live.is_some_and(|live| !live.is_empty()))
}

/// Has its sets of addresses hold what these do, and reads them back; the others stay as they are. A set that
/// it has and the selection has not is to be empty.
///
/// As long as little changes it changes at once: no packet meets half of it.
pub fn change_addresses(
    kernel: &mut Kernel,
    id: FaultId,
    wanted: &Selection,
) -> Result<(), Failure> {
    let name = table_name(id);
    let gone = || failure(FailureKind::Gone, format!("there is no table {name} any more"), None);
    let (family, _) = find_live(kernel, id)?.ok_or_else(gone)?;
    let table = TableId { family, name: &name };
    let before = read(kernel, id)?.ok_or_else(gone)?;
    let mut messages = Vec::new();
    let mut ranges = 0;
    for (set, old, new) in differences(&before, wanted) {
        let without = |these: &[KeyRange], others: &[KeyRange]| -> Vec<_> {
            these.iter().filter(|one| others.binary_search(one).is_err()).cloned().collect()
        };
        let (old, new) = (without(old, new), without(new, old));
        ranges += old.len() + new.len();
        messages.extend(nftables::delete_ranges(table, &set, &old));
        messages.extend(nftables::more_ranges(table, &set, &new));
    }
    let at_once = if ranges > SMALL { 1 } else { messages.len().max(1) };
    for messages in messages.chunks(at_once) {
        nftables::transact(&mut kernel.netfilter, messages).map_err(|(_, refusal)| {
            KernelError::new(format!("change the sets of the {table}"), refusal)
        })?;
    }
    let after = read(kernel, id)?.ok_or_else(gone)?;
    let wrong: Vec<_> = differences(&after, wanted).map(|(set, ..)| set.name).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let message = format!("the kernel does not hold the new addresses in {}", wrong.join(", "));
    Err(failure(FailureKind::Kernel, message, None))
}

/// The sets of addresses that hold something else than is wanted: what they hold, and what is wanted.
fn differences<'a>(
    seen: &'a Contents,
    wanted: &'a Selection,
) -> impl Iterator<Item = (Set, &'a [KeyRange], &'a [KeyRange])> {
    let names: BTreeSet<_> = seen.sets.keys().chain(wanted.sets.keys()).collect();
    names.into_iter().filter_map(|name| {
        let ranges = |sets: &'a BTreeMap<String, _>| -> &'a [KeyRange] {
            sets.get(name).map_or(&[], Vec::as_slice)
        };
        let (held, wanted) = (ranges(&seen.sets), ranges(&wanted.sets));
        let (fields, holds) = selection::shape(name)?;
        let differs = matches!(fields[0], Field::Ipv4 | Field::Ipv6) && held != wanted;
        differs.then(|| (Set { name: name.clone(), id: 0, fields, holds }, held, wanted))
    })
}

/// Closes it: nothing more is hit, and what was hit still comes out. One that is not there is fine.
pub fn close(kernel: &mut Kernel, id: FaultId) -> Result<(), KernelError> {
    change(kernel, id, "empty the set live of", |table| nftables::flush_set(table, LIVE))
}

/// Removes it, open or closed; one that is not there is fine.
pub fn remove(kernel: &mut Kernel, id: FaultId) -> Result<(), KernelError> {
    change(kernel, id, "delete", nftables::delete_table)
}

fn change(
    kernel: &mut Kernel,
    id: FaultId,
    doing: &str,
    message: impl Fn(TableId<'_>) -> Message,
) -> Result<(), KernelError> {
    let name = table_name(id);
    // A refusal would be harmless, but takes the kernel 12 ms: it waits for all readers of what never was.
    for Table { family, .. } in own_tables(kernel, id)? {
        let table = TableId { family, name: &name };
        match nftables::transact(&mut kernel.netfilter, &[message(table)]) {
            Err((_, refusal)) if !is_missing(&refusal) => {
                return Err(KernelError::new(format!("{doing} the {table}"), refusal));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Its tables that are there, open or closed, in words.
pub fn left(kernel: &mut Kernel, id: FaultId) -> Result<Vec<String>, KernelError> {
    let own = own_tables(kernel, id)?;
    Ok(own.iter().map(|Table { family, name, .. }| format!("table {family} {name}")).collect())
}

fn own_tables(kernel: &mut Kernel, id: FaultId) -> Result<Vec<Table>, KernelError> {
    let name = table_name(id);
    let mut tables =
        nftables::tables(&mut kernel.netfilter).doing(|| "list the nf_tables tables".to_owned())?;
    tables.retain(|table| table.name == name);
    Ok(tables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_tell_faults_apart() {
        let mut seen = std::collections::BTreeSet::new();
        for number in (0..1000).chain([0x10_0000, 0x0bad_cafe]) {
            let id = FaultId::new(number);
            for priority in [hit(id), returning(id)] {
                // The kernel's own are below 16.
                assert!(priority >= 16 && seen.insert(priority), "{id}: {priority:#x}");
            }
            // As of zero, to a qdisc that goes by the last four bits.
            assert_eq!(hit(id) & 0xf, 0);
        }
    }
}
