//! A worse network: the kernel's netem, on links of its own.
//!
//! The interface keeps its qdisc. Of what leaves, the [gate](super::gate) hands the packets that are hit to
//! the first link of a pair, which sends them through its qdiscs to the second, where the gate has them sent
//! out of the interface they were meant for. Of what comes in, it hands them to a link that sends them
//! through the same qdiscs and back to where they came in:
//!
//! ```text
//! pc-0badcafe    tbf 7063: rate 30gbit ── netem 7064:
//! pc-0badcafex   no qdisc
//! pc-0badcafei   tbf 7063: rate 30gbit ── netem 7064:
//! ```
//!
//! tbf is there because TCP hands over super-packets of up to 64 KiB: netem would treat each of them as
//! one packet; tbf splits what is larger than its burst. netem counts packets and not bytes, so it has
//! to come after that.
//!
//! For what comes in it is a link of the kind ifb, which is made for that: the interface receives each packet
//! again, past the programs and rules of its ingress that have seen it before (`ifb_ri_tasklet` of
//! drivers/net/ifb.c). Nothing else in the kernel can put a packet there.
//!
//! For what leaves, the links are of the kind veth, whose packets the node's end of the pod's wire receives like any other.
//! An ifb link marks its packets (`tc_skip_classify`, drivers/net/ifb.c), and the mark crosses the wire:
//! there they would pass over `tc ingress` and nf_tables `ingress`, which is where Cilium and Calico with
//! eBPF route and filter. What is left of this kind is `skb->redirected`, set by any forward of nf_tables:
//! a generic XDP program at the node's end does not see the packets (`netif_receive_generic_xdp` of
//! net/core/dev.c), one in the driver does.
//!
//! Limits: only Ethernet; veth takes the first bytes of a packet for a frame's header, which those of most
//! tunnels do not have. Where several CPUs send at the most that the pod can, the pair's second receives on
//! each of them, and a little more arrives out of order than over the pod's wire alone. An interface that
//! hands over packets with a checksum that its hardware has made of them whole (`CHECKSUM_COMPLETE`) has the
//! kernel check those by itself on ingress, and say so once in its log: `nf_do_netdev_egress` of
//! net/netfilter/nf_dup_netdev.c puts the frame's header back without that sum.

use nix::errno::Errno;
use pod_chaos_protocol::{
    Direction, Failure, FailureKind, FaultId, Interface, Netem, RunTime, Traffic,
};

use super::{
    clear::{list_qdiscs, own_links, undone, verified},
    entry_address, exit_name,
    gate::{self, Fate, Gate, Way},
    ingress_name,
    label::{Kind, Label},
    link_alias,
    selection::Selection,
    table_name, way_in,
};
use crate::{
    clock,
    error::{Doing, KernelError, failure},
    kernel::{self, Kernel},
    netlink::{
        Message,
        link::{self, Link},
        qdisc::{self, Handle, NetemOptions, Options, Qdisc},
    },
};

const TBF: Handle = Handle::qdisc(0x7063);
const NETEM: Handle = Handle::qdisc(0x7064);

/// 30 Gbit/s in bytes per second: above what goes through a pod's link, and the roundest number that
/// fits the 32 bits of `struct tc_ratespec`.
const TBF_RATE: u32 = 3_750_000_000;
/// What a frame may have on top of the interface's MTU: Ethernet, VLAN tags, and room to spare. With an
/// MTU of 1500 it makes a burst of 2000 bytes.
const TBF_BURST_ABOVE_MTU: u32 = 500;

/// netem holds packets for as long as the delay lasts, and drops what goes beyond its limit. It must not
/// turn a delay into a loss, so the limit is what a million packets per second (12 Gbit/s in full frames)
/// need, between these bounds. `tc` takes 1000 packets, which at 100 ms is full at 10,000 per second. The
/// upper bound, about 700 MB in full frames, is there for the node: something in the pod may flood.
const NETEM_LIMIT: (u64, u64) = (10_000, 300_000);
const NETEM_NANOS_PER_PACKET: u64 = 1_000;

/// `get_jitter` of net/sched/sch_netem.c: above this a kernel caps it, or worse.
const JITTER_MAX_NANOS: u64 = i32::MAX as u64;

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The fault's id.
    pub id: FaultId,
    /// The interfaces that are hit.
    pub interfaces: Vec<(Interface, Link)>,
    /// Which of their packets.
    pub traffic: Traffic,
    /// How much worse it gets.
    pub netem: Netem,
    /// For how long, in milliseconds.
    pub timeout_ms: u64,
}

impl Plan {
    /// Refuses what the kernel would not do as asked.
    pub fn new(
        id: FaultId,
        interfaces: Vec<(Interface, Link)>,
        traffic: Traffic,
        netem: Netem,
        running_time: RunTime,
    ) -> Result<Self, Failure> {
        if let Some((interface, _)) = interfaces.iter().find(|(_, link)| !link.ethernet) {
            let message = format!("`{interface}` is not an Ethernet interface");
            let hint = "packets that go through a tunnel are hit on the interface it goes over";
            return Err(failure(FailureKind::Unsupported, message, Some(hint)));
        }
        let refuse = |message| Err(failure(FailureKind::BadRequest, message, None));
        if netem.jitter.as_nanos() > JITTER_MAX_NANOS {
            return refuse(format!("jitter {} is more than netem can do, 2.147s", netem.jitter));
        }
        let timeout_ms = running_time.as_nanos().div_ceil(1_000_000);
        Ok(Self { id, interfaces, traffic, netem, timeout_ms })
    }

    fn netem(&self) -> NetemOptions {
        let (delay, jitter) = (self.netem.delay.as_nanos(), self.netem.jitter.as_nanos());
        let (least, most) = NETEM_LIMIT;
        let limit = ((delay + jitter) / NETEM_NANOS_PER_PACKET).clamp(least, most);
        NetemOptions { delay, jitter, limit: u32::try_from(limit).unwrap_or(u32::MAX) }
    }

    /// For packets of at most so many bytes, without the Ethernet header.
    fn tbf(mtu: u32) -> Options {
        let burst = mtu.saturating_add(TBF_BURST_ABOVE_MTU);
        Options::Tbf { rate: TBF_RATE, burst }
    }

    /// The qdiscs of a link whose packets have at most so many bytes, in the order they are made: parent,
    /// own handle, parameters.
    pub fn qdiscs(&self, mtu: u32) -> [(Handle, Handle, Options); 2] {
        let netem = Options::Netem(self.netem());
        [(Handle::ROOT, TBF, Self::tbf(mtu)), (TBF.class(1), NETEM, netem)]
    }

    /// The ways of packets, without the links that they go through: interface, its position, direction.
    fn ways(&self) -> impl Iterator<Item = (&(Interface, Link), usize, Direction)> {
        let hit = |direction: &Direction| self.traffic.peers(*direction).is_some();
        self.interfaces.iter().enumerate().flat_map(move |(number, interface)| {
            let directions = Direction::BOTH.into_iter().filter(hit);
            directions.map(move |direction| (interface, number, direction))
        })
    }

    /// How many links that takes.
    fn count_links(&self) -> usize {
        let links = |(_, _, direction)| match direction {
            Direction::Egress => 2,
            Direction::Ingress => 1,
        };
        self.ways().map(links).sum()
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The gate, as it was asked for.
    pub gate: Gate,
}

/// Puts the fault in force. When that fails, it undoes what it has made.
pub fn apply(kernel: &mut Kernel, plan: &Plan) -> Result<Applied, Failure> {
    make(kernel, plan).map_err(|failure| undone(kernel, plan.id, failure))
}

/// Reads the fault back, compares it with what was asked for, and undoes it when they differ.
pub fn verify(kernel: &mut Kernel, plan: &Plan, applied: &Applied) -> Result<(), Failure> {
    let compared = compare(kernel, plan, applied);
    verified(kernel, plan.id, compared)
}

fn make(kernel: &mut Kernel, plan: &Plan) -> Result<Applied, Failure> {
    let mut ways = Vec::new();
    for ((interface, link), number, direction) in plan.ways() {
        let entry = make_links(kernel, plan, link.mtu, number, direction)?;
        let (interface, target) = (interface.clone(), link.index);
        ways.push(Way { number, interface, target, direction, fate: Fate::Through(entry) });
    }
    let from_ms = clock::now_ms();
    let interfaces = plan.interfaces.iter().map(|(name, _)| name.clone()).collect();
    let label = Label { kind: Kind::Netem, interfaces, from_ms, to_ms: from_ms + plan.timeout_ms };
    let selection = Selection::new(&plan.traffic);
    let Plan { id, timeout_ms, .. } = *plan;
    let sample = plan.traffic.sample;
    let gate = Gate { id, label, timeout_ms, ways, selection, sample, new_only: false };
    gate.open(kernel)?;
    Ok(Applied { gate })
}

/// Makes the links of one way with their qdiscs, and returns the index of the one that packets go into. No
/// packet comes near it yet.
fn make_links(
    kernel: &mut Kernel,
    plan: &Plan,
    mtu: u32,
    number: usize,
    direction: Direction,
) -> Result<i32, Failure> {
    let name = &way_in(plan.id, number, direction);
    let (names, kind, message) = match direction {
        Direction::Egress => {
            let exit = exit_name(plan.id, number);
            let pair = link::create_pair([name, &exit], entry_address(plan.id), mtu);
            (vec![name.clone(), exit], "veth", pair)
        }
        Direction::Ingress => {
            let name = ingress_name(plan.id, number);
            let link = link::create_ifb(&name, mtu);
            (vec![name], "ifb", link)
        }
    };
    kernel.route.request(&message).map_err(|refusal| match refusal.errno {
        Errno::EOPNOTSUPP => kernel::lacks(&[kind]),
        _ => KernelError::new(format!("make the link {name}"), refusal).into(),
    })?;
    let mut links = own_links(kernel, plan.id)?;
    links.retain(|link| names.contains(&link.name));
    let Some(entry) = links.iter().find(|link| link.name == *name).map(|link| link.index) else {
        let message = format!("the link {name} was gone as soon as it was made");
        return Err(failure(FailureKind::Kernel, message, None));
    };
    for Link { index, name, .. } in &links {
        let mut request = |message: &Message, what: &str| {
            kernel.route.request(message).doing(|| format!("{what} of the link {name}"))
        };
        request(&link::set_alias(*index, &link_alias(plan.id)), "set the alias")?;
        // Else it would get an address that the pod's processes can see. A kernel without IPv6 refuses.
        let _ = request(&link::set_no_addresses(*index), "switch off the addresses");
    }
    for (parent, handle, options) in plan.qdiscs(mtu) {
        let message = qdisc::add(entry, parent, handle, &options);
        kernel.route.request(&message).map_err(|refusal| {
            if refusal.errno == Errno::ENOENT {
                return kernel::lacks(&missing_qdiscs(kernel, entry, plan, mtu));
            }
            let doing = format!("add the qdisc {} at {parent} of the link {name}", options.kind());
            KernelError::new(doing, refusal).into()
        })?;
    }
    // The second link first: the kernel uses a link's qdiscs from the moment when it is up and has a
    // carrier, which for the first of a pair to be set up is only noticed later, by a worker thread.
    let (first, second) = links.iter().partition::<Vec<_>, _>(|link| link.index == entry);
    for link in second.iter().chain(&first) {
        let message = link::set_up(link.index);
        kernel.route.request(&message).doing(|| format!("set the link {} up", link.name))?;
    }
    Ok(entry)
}

/// Finds out which kinds of qdisc the kernel does not have, by trying them on our own link.
fn missing_qdiscs(kernel: &mut Kernel, link: i32, plan: &Plan, mtu: u32) -> Vec<&'static str> {
    let kinds = [("sch_tbf", Plan::tbf(mtu)), ("sch_netem", Options::Netem(plan.netem()))];
    let missing = kinds.into_iter().filter(|(_, options)| {
        // There may be none.
        let _ = kernel.route.request(&qdisc::delete_root(link));
        let added = kernel.route.request(&qdisc::add(link, Handle::ROOT, TBF, options));
        added.is_err_and(|refusal| refusal.errno == Errno::ENOENT)
    });
    missing.map(|(module, _)| module).collect()
}

/// What of the fault the kernel shows differently.
fn compare(
    kernel: &mut Kernel,
    plan: &Plan,
    applied: &Applied,
) -> Result<Vec<String>, KernelError> {
    let Some(contents) = gate::read(kernel, plan.id)? else {
        return Ok(vec![format!("no table {}", table_name(plan.id))]);
    };
    let mut differences = applied.gate.compare(&contents);
    let links = own_links(kernel, plan.id)?;
    if links.len() != plan.count_links() || !links.iter().all(|link| link.up) {
        differences.push(format!("links: {links:?}"));
    }
    for ((_, link), number, direction) in plan.ways() {
        let name = way_in(plan.id, number, direction);
        let entry = links.iter().find(|link| link.name == name).map(|link| link.index);
        let gated =
            applied.gate.ways.iter().find(|way| (way.number, way.direction) == (number, direction));
        let (Some(entry), true) = (entry, gated.map(|way| way.fate) == entry.map(Fate::Through))
        else {
            differences.push(format!("link {name}: {entry:?}"));
            continue;
        };
        let qdiscs = list_qdiscs(kernel, entry)?;
        for (parent, handle, options) in plan.qdiscs(link.mtu) {
            let found = qdiscs.iter().find(|qdisc| qdisc.parent == parent);
            let same = found.is_some_and(|qdisc| {
                qdisc.kind == options.kind()
                    && qdisc.handle == handle
                    && match options {
                        Options::Netem(netem) => {
                            qdisc.netem().is_some_and(|read| same_netem(read, netem))
                        }
                        Options::Tbf { .. } => true,
                    }
            });
            if !same {
                differences
                    .push(format!("qdisc of {name} at {parent}: {found:?} instead of {options:?}"));
            }
        }
    }
    Ok(differences)
}

/// Kernels before 4.15 only know ticks of 64 ns.
fn same_netem(read: NetemOptions, asked: NetemOptions) -> bool {
    read.limit == asked.limit
        && read.delay.abs_diff(asked.delay) < 64
        && read.jitter.abs_diff(asked.jitter) < 64
}

/// What netem on this link of ours has been told, when it is there.
pub fn read_netem(kernel: &mut Kernel, link: i32) -> Result<Option<NetemOptions>, KernelError> {
    Ok(list_qdiscs(kernel, link)?.iter().find(|qdisc| qdisc.handle == NETEM).and_then(Qdisc::netem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(ethernet: bool) -> Link {
        let name = "eth0".to_owned();
        Link { index: 2, name, up: true, ethernet, mtu: 1500, kind: None, alias: None }
    }

    fn plan(delay: &str, jitter: &str, running_time: &str) -> Result<Plan, Failure> {
        plan_on(&link(true), delay, jitter, running_time)
    }

    fn plan_on(
        link: &Link,
        delay: &str,
        jitter: &str,
        running_time: &str,
    ) -> Result<Plan, Failure> {
        let netem = Netem { delay: delay.parse().unwrap(), jitter: jitter.parse().unwrap() };
        let interface = ("eth0".parse().unwrap(), link.clone());
        Plan::new(
            FaultId::new(1),
            vec![interface],
            Traffic::default(),
            netem,
            running_time.parse().unwrap(),
        )
    }

    #[test]
    fn a_delay_is_no_loss_at_a_million_packets_per_second() {
        assert_eq!(plan("1ms", "0", "30").unwrap().netem().limit, 10_000);
        assert_eq!(plan("100ms", "10ms", "30").unwrap().netem().limit, 110_000);
        assert_eq!(plan("240s", "0", "30").unwrap().netem().limit, 300_000);
    }

    #[test]
    fn a_frame_of_any_mtu_passes_the_token_bucket() {
        assert_eq!(Plan::tbf(1500), Options::Tbf { rate: TBF_RATE, burst: 2000 });
        assert_eq!(Plan::tbf(9001), Options::Tbf { rate: TBF_RATE, burst: 9501 });
    }

    #[test]
    fn what_the_kernel_would_do_differently_is_refused() {
        let message = |plan: Result<Plan, Failure>| plan.unwrap_err().message;
        assert_eq!(
            message(plan("3s", "2200ms", "30")),
            "jitter 2.2s is more than netem can do, 2.147s"
        );
        assert_eq!(
            message(plan_on(&link(false), "100ms", "0", "30")),
            "`eth0` is not an Ethernet interface"
        );
    }

    #[test]
    fn parts_of_a_millisecond_count_as_a_whole_one() {
        assert_eq!(plan("1ms", "0", "20.5ms").unwrap().timeout_ms, 21);
    }
}
