//! The gate: the nf_tables table through which a fault gets its packets, and which the kernel closes by
//! itself at the deadline.
//!
//! ```text
//! table netdev pod-chaos-0badcafe {
//!     comment "v1 netem eth0 from 123456 to 153456"
//!     set live { type ether_type; flags timeout; elements = { ip timeout 30s, ip6 timeout 30s } }
//!     chain egress {
//!         type filter hook egress device "eth0" priority filter; policy accept;
//!         meta priority 7063:7063 meta priority set none accept
//!         ip6 nexthdr ipv6-icmp icmpv6 type 133-137 accept
//!         meta protocol @live counter fwd to "pc-0badcafe"
//!     }
//!     chain exit {
//!         type filter hook ingress device "pc-0badcafex" priority filter; policy accept;
//!         ether saddr != 72:63:0b:ad:ca:fe meta priority set 7063:7063 fwd to "eth0"
//!     }
//! }
//! ```
//!
//! `exit` sends what comes out of the fault's links on its way, with a priority by which `egress` knows it
//! again. The priority is free to be used: the pair of links has just set it to zero (`____dev_forward_skb`
//! of linux/netdevice.h), and `egress` does so again. The packet's mark is not: the interface's own qdisc
//! and its `tc egress` programs come later, and may go by it.
//!
//! When the elements of `live` expire, the kernel stops matching, whoever is still alive. The table is
//! made in one transaction, expiry and rule together: there is no moment with a fault without an end.
//! ARP is not IP and passes by; of IPv6, neighbour discovery is spared, or the pod would drop off its
//! network instead of being slow on it.

use nix::errno::Errno;
use pod_chaos_protocol::{Failure, FaultId, Interface};

use super::{entry_address, exit_name, label::Label, table_name};
use crate::{
    error::{Doing, KernelError},
    kernel::{self, Kernel},
    netlink::{
        Message, Refusal,
        nftables::{self, Chain, Comparison, Element, Expression, Hook, PacketHeader},
    },
};

/// The set whose elements time the fault.
const LIVE: &str = "live";
/// The chain for packets that leave.
const EGRESS: &str = "egress";
/// The chain for packets that the fault is done with.
const EXIT: &str = "exit";

/// The priority of packets between `exit`, or the [emulator](super::emulator), and `egress`.
pub const RETURNING: u32 = 0x7063_7063;
/// The priority of packets between `egress` and the emulator's table. When there is no emulator any more,
/// they go out with it: it is the number of no qdisc of the pod, and its last four bits are those of zero,
/// which is what simple qdiscs go by (`prio2band` of net/sched/sch_generic.c).
pub const HIT: u32 = 0x7063_7060;

/// EtherTypes of IPv4 and IPv6 (linux/if_ether.h).
const PROTOCOLS: [u16; 2] = [0x0800, 0x86dd];
const IPV6: u16 = PROTOCOLS[1];
/// Offset of the source address in an Ethernet header (linux/if_ether.h).
const SOURCE_ADDRESS: u32 = 6;
/// Offset of the next header in an IPv6 header, and ICMPv6 as such (linux/ipv6.h, linux/in.h).
const NEXT_HEADER: u32 = 6;
const ICMPV6: u8 = 58;
/// From router solicitation to redirect (net/ndisc.h).
const NEIGHBOUR_DISCOVERY: (u8, u8) = (133, 137);

/// What the kernel's timer may be off by when it is read back: one tick of the slowest configuration,
/// 100 per second.
const TICK_MS: u64 = 10;

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
    /// The index of the interface that is hit.
    pub target: i32,
    /// What becomes of its packets.
    pub handover: Handover,
}

/// What becomes of the packets that are hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// They are handed to the link with this index, and come out of the other one of its pair.
    Link(i32),
    /// They are marked, for the table of the [emulator](super::emulator) to take them.
    Emulator,
}

impl Gate {
    /// Opens it.
    pub fn open(&self, kernel: &mut Kernel) -> Result<(), Failure> {
        let (parts, messages): (Vec<_>, Vec<_>) = self.transaction().into_iter().unzip();
        nftables::transact(&mut kernel.netfilter, &messages).map_err(|(index, refusal)| {
            index.map_or(Part::Table, |index| parts[index]).refused(self, refusal)
        })
    }

    /// The messages that open it, and what each is about.
    pub fn transaction(&self) -> Vec<(Part, Message)> {
        let table = table_name(self.id);
        let mut messages =
            vec![(Part::Table, nftables::new_table(&table, &self.label.to_string()))];
        messages.extend(self.chains().iter().map(|chain| {
            let part = if chain.name == EXIT { Part::Exit } else { Part::Egress };
            (part, nftables::new_chain(&table, chain))
        }));
        messages.extend([
            (Part::Set, nftables::new_protocol_set(&table, LIVE)),
            (Part::Set, nftables::new_protocols(&table, LIVE, &PROTOCOLS, self.timeout_ms)),
        ]);
        messages.extend(self.rules().iter().map(|(chain, expressions)| {
            (Part::Rule, nftables::new_rule(&table, chain, expressions))
        }));
        messages
    }

    fn chains(&self) -> Vec<Chain> {
        let chain = |name: &str, hook: Hook, device: String| Chain {
            name: name.to_owned(),
            hook: hook as u32,
            device: Some(device),
        };
        let egress = chain(EGRESS, Hook::Egress, self.label.interface.to_string());
        let exit = chain(EXIT, Hook::Ingress, exit_name(self.id));
        match self.handover {
            Handover::Link(_) => vec![egress, exit],
            Handover::Emulator => vec![egress],
        }
    }

    /// In their order, each with its chain.
    fn rules(&self) -> Vec<(&'static str, Vec<Expression>)> {
        let mut rules = vec![
            (EGRESS, let_return()),
            (EGRESS, spare_neighbour_discovery()),
            (EGRESS, self.hand_over()),
        ];
        if let Handover::Link(_) = self.handover {
            rules.push((EXIT, self.send_back()));
        }
        rules
    }

    /// `meta protocol @live counter fwd to …`, or `… meta priority set …`.
    fn hand_over(&self) -> Vec<Expression> {
        let mut rule = vec![
            Expression::LoadProtocol,
            Expression::LookUp(LIVE.to_owned()),
            Expression::Count(0),
        ];
        rule.extend(match self.handover {
            Handover::Link(entry) => {
                [Expression::LoadNumber(entry.cast_unsigned()), Expression::Forward]
            }
            Handover::Emulator => [Expression::LoadNumber(HIT), Expression::SetPriority],
        });
        rule
    }

    /// `ether saddr != … meta priority set … fwd to …`, open or closed: what is on its way at the deadline
    /// arrives. What the kernel says of itself on a link that is set up (IPv6 multicast reports, when the
    /// pod routes) stays there.
    fn send_back(&self) -> Vec<Expression> {
        vec![
            Expression::LoadBytes(PacketHeader::Link, SOURCE_ADDRESS, 6),
            Expression::Compare(Comparison::Unequal, entry_address(self.id).to_vec()),
            Expression::LoadNumber(RETURNING),
            Expression::SetPriority,
            Expression::LoadNumber(self.target.cast_unsigned()),
            Expression::Forward,
        ]
    }

    /// Compares what the kernel shows with what was asked for; returns what differs.
    pub fn compare(&self, seen: &Contents) -> Vec<String> {
        let mut differences = Vec::new();
        if seen.chains != self.chains() {
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

/// `meta priority … meta priority set none accept`.
fn let_return() -> Vec<Expression> {
    vec![
        Expression::LoadPriority,
        Expression::Compare(Comparison::Equal, RETURNING.to_ne_bytes().to_vec()),
        Expression::LoadNumber(0),
        Expression::SetPriority,
        Expression::Accept,
    ]
}

/// `ip6 nexthdr ipv6-icmp icmpv6 type 133-137 accept`. Not `meta l4proto`, which Linux 6.12 refuses in
/// an egress chain.
fn spare_neighbour_discovery() -> Vec<Expression> {
    let (first, last) = NEIGHBOUR_DISCOVERY;
    vec![
        Expression::LoadProtocol,
        Expression::Compare(Comparison::Equal, IPV6.to_be_bytes().to_vec()),
        Expression::LoadBytes(PacketHeader::Network, NEXT_HEADER, 1),
        Expression::Compare(Comparison::Equal, vec![ICMPV6]),
        Expression::LoadBytes(PacketHeader::Transport, 0, 1),
        Expression::Compare(Comparison::AtLeast, vec![first]),
        Expression::Compare(Comparison::AtMost, vec![last]),
        Expression::Accept,
    ]
}

/// What a message of the transaction makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The table.
    Table,
    /// The chain that hooks into the interface.
    Egress,
    /// The chain that hooks into the link from which packets come out.
    Exit,
    /// The set, or its elements.
    Set,
    /// A rule.
    Rule,
}

impl Part {
    fn refused(self, gate: &Gate, refusal: Refusal) -> Failure {
        let table = table_name(gate.id);
        let interface: &Interface = &gate.label.interface;
        let doing = match self {
            Self::Table => format!("make the table netdev {table}"),
            Self::Egress => {
                format!("hook the table netdev {table} into the egress of `{interface}`")
            }
            Self::Exit => {
                format!("hook the table netdev {table} into the ingress of {}", exit_name(gate.id))
            }
            Self::Set => format!("make the set {LIVE} of the table netdev {table}"),
            Self::Rule => format!("make a rule of the table netdev {table}"),
        };
        match (self, refusal.errno) {
            (Self::Table, _) => kernel::without_nf_tables(&doing, refusal),
            (Self::Egress, Errno::EOPNOTSUPP) => kernel::lacks(&["the nf_tables egress hook"]),
            (Self::Exit, Errno::EOPNOTSUPP) => kernel::lacks(&["the nf_tables ingress hook"]),
            (Self::Rule, Errno::EOPNOTSUPP | Errno::ENOENT) => kernel::lacks(&["nft_fwd_netdev"]),
            _ => KernelError::new(doing, refusal).into(),
        }
    }
}

/// A gate as the kernel shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Its base chains.
    pub chains: Vec<Chain>,
    /// Its rules, each with its chain's name.
    pub rules: Vec<(String, Vec<Expression>)>,
    /// What still matches.
    pub live: Vec<Element>,
}

impl Contents {
    /// Packets that were handed over.
    pub fn packets(&self) -> u64 {
        let expressions = self.rules.iter().flat_map(|(_, expressions)| expressions);
        expressions.map(|one| if let Expression::Count(packets) = one { *packets } else { 0 }).sum()
    }

    /// The interface that is hit.
    pub fn interface(&self) -> Option<Interface> {
        let chain = self.chains.iter().find(|chain| chain.hook == Hook::Egress as u32)?;
        chain.device.as_ref()?.parse().ok()
    }

    /// For how much longer it is open, in milliseconds: `None` when it is closed, the maximum when it
    /// has no end.
    pub fn remaining_ms(&self) -> Option<u64> {
        self.live.iter().map(|element| element.remaining_ms.unwrap_or(u64::MAX)).max()
    }
}

/// Reads a gate. `None` when there is none.
pub fn read(kernel: &mut Kernel, id: FaultId) -> Result<Option<Contents>, KernelError> {
    let Some(live) = read_live(kernel, id)? else { return Ok(None) };
    let table = table_name(id);
    let netfilter = &mut kernel.netfilter;
    let chains =
        nftables::chains(netfilter, &table).doing(|| format!("read the chains of {table}"))?;
    let rules =
        nftables::rules(netfilter, &table).doing(|| format!("read the rules of {table}"))?;
    Ok(Some(Contents { chains, rules, live }))
}

/// Reads only what still matches. `None` when there is no gate; empty when it is closed.
pub fn read_live(kernel: &mut Kernel, id: FaultId) -> Result<Option<Vec<Element>>, KernelError> {
    let table = table_name(id);
    match nftables::protocols(&mut kernel.netfilter, &table, LIVE) {
        Err(refusal) if refusal.errno == Errno::ENOENT => Ok(None),
        result => result.map(Some).doing(|| format!("read the set {LIVE} of the table {table}")),
    }
}

/// Whether it still lets packets be hit. When the kernel does not say, it may.
pub fn is_open(kernel: &mut Kernel, id: FaultId) -> bool {
    read_live(kernel, id).map_or(true, |live| live.is_some_and(|live| !live.is_empty()))
}

/// Closes it: nothing more is hit, and what was hit still comes out. One that is not there is fine.
pub fn close(kernel: &mut Kernel, id: FaultId) -> Result<(), KernelError> {
    let table = table_name(id);
    change(kernel, &nftables::flush_set(&table, LIVE))
        .doing(|| format!("empty the set {LIVE} of the table {table}"))
}

/// Removes it, open or closed; one that is not there is fine.
pub fn remove(kernel: &mut Kernel, id: FaultId) -> Result<(), KernelError> {
    let table = table_name(id);
    change(kernel, &nftables::delete_table(&table)).doing(|| format!("delete the table {table}"))
}

fn change(kernel: &mut Kernel, message: &Message) -> Result<(), Refusal> {
    match nftables::transact(&mut kernel.netfilter, std::slice::from_ref(message)) {
        Err((_, refusal)) if refusal.errno != Errno::ENOENT => Err(refusal),
        _ => Ok(()),
    }
}

/// Whether its table is there, open or closed.
pub fn exists(kernel: &mut Kernel, id: FaultId) -> Result<bool, KernelError> {
    let name = table_name(id);
    let tables =
        nftables::tables(&mut kernel.netfilter).doing(|| "list the nf_tables tables".to_owned())?;
    Ok(tables.iter().any(|table| table.name == name))
}
