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
//! to come after that. What netem sends twice it puts in at the top, into tbf, which hardly holds it up.
//! What tbf adds to a packet is 50 ns in 1500 bytes: a rate of netem's own above tbf's is not felt.
//!
//! A packet that netem corrupts has one bit changed anywhere in its frame, in the Ethernet header too: the
//! gate lets it out whatever it says there.
//!
//! For what comes in it is a link of the kind ifb, which is made for that: the interface receives each packet
//! again, past the programs and rules of its ingress that have seen it before (`ifb_ri_tasklet` of
//! drivers/net/ifb.c). Nothing else in the kernel can put a packet there.
//!
//! For what leaves, the links are of the kind veth, whose packets the node's end of the pod's wire receives
//! like any other. An ifb link marks its packets (`tc_skip_classify`, drivers/net/ifb.c), and the mark crosses the wire:
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
    emulation,
    gate::{self, Fate, Gate, Way},
    label::{Kind, Label, Shapes},
    links::{self, Pair},
    selection::Selection,
    table_name, way_in,
};
use crate::{
    clock,
    error::{KernelError, failure},
    kernel::{self, Kernel},
    netlink::{
        link::Link,
        netem::NetemOptions,
        qdisc::{self, Handle, Options, Qdisc},
    },
};

/// The qdisc that cuts super-packets.
pub const TBF: Handle = Handle::qdisc(0x7063);
/// The one that does it.
pub const NETEM: Handle = Handle::qdisc(0x7064);

/// 30 Gbit/s in bytes per second: above what goes through a pod's link, and the roundest number that
/// fits the 32 bits of `struct tc_ratespec`.
const TBF_RATE: u32 = 3_750_000_000;
/// What a frame may have on top of the interface's MTU: Ethernet, VLAN tags, and room to spare. With an
/// MTU of 1500 it makes a burst of 2000 bytes.
const TBF_BURST_ABOVE_MTU: u32 = 500;

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
        netem.check().map_err(|error| {
            failure(FailureKind::BadRequest, error.to_string(), Some(error.hint()))
        })?;
        let timeout_ms = running_time.as_nanos().div_ceil(1_000_000);
        Ok(Self { id, interfaces, traffic, netem, timeout_ms })
    }

    fn netem(&self, mtu: u32) -> Options {
        Options::Netem(Box::new(emulation::options(&self.netem, mtu)))
    }

    /// For packets of at most so many bytes, without the Ethernet header.
    fn tbf(mtu: u32) -> Options {
        let burst = mtu.saturating_add(TBF_BURST_ABOVE_MTU);
        Options::Tbf { rate: TBF_RATE, burst }
    }

    /// The qdiscs of a link whose packets have at most so many bytes, in the order they are made: parent,
    /// own handle, parameters.
    pub fn qdiscs(&self, mtu: u32) -> [(Handle, Handle, Options); 2] {
        self.qdiscs_at(Handle::ROOT, mtu)
    }

    /// The same, below this one.
    pub fn qdiscs_at(&self, parent: Handle, mtu: u32) -> [(Handle, Handle, Options); 2] {
        [(parent, TBF, Self::tbf(mtu)), (TBF.class(1), NETEM, self.netem(mtu))]
    }

    /// The ways of packets, without the links that they go through: interface, its position, direction.
    pub(super) fn ways(&self) -> impl Iterator<Item = (&(Interface, Link), usize, Direction)> {
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
    let (to_ms, shapes) = (from_ms + plan.timeout_ms, Shapes::of(&plan.netem));
    let label = Label { kind: Kind::Netem, interfaces, from_ms, to_ms, shapes };
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
    match direction {
        Direction::Egress => {
            let pair = Pair::make(kernel, plan.id, (number, direction), mtu)?;
            add_qdiscs(kernel, &pair.entry, &plan.qdiscs(mtu))?;
            pair.set_up(kernel)?;
            Ok(pair.entry.index)
        }
        Direction::Ingress => {
            let link = links::make_single(kernel, plan.id, number, mtu)?;
            add_qdiscs(kernel, &link, &plan.qdiscs(mtu))?;
            links::set_up(kernel, &link)?;
            Ok(link.index)
        }
    }
}

/// Adds qdiscs to a link, in their order: parent, own handle, parameters.
pub(super) fn add_qdiscs(
    kernel: &mut Kernel,
    link: &Link,
    qdiscs: &[(Handle, Handle, Options)],
) -> Result<(), Failure> {
    for (parent, handle, options) in qdiscs {
        let message = qdisc::add(link.index, *parent, *handle, options);
        kernel.route.request(&message).map_err(|refusal| {
            if refusal.errno == Errno::ENOENT {
                return lacks_qdiscs(kernel, link.index, qdiscs);
            }
            let (kind, name) = (options.kind(), &link.name);
            let doing = format!("add the qdisc {kind} at {parent} of {name}");
            KernelError::new(doing, refusal).into()
        })?;
    }
    Ok(())
}

/// Says which kinds of qdisc the kernel does not have.
fn lacks_qdiscs(kernel: &mut Kernel, link: i32, qdiscs: &[(Handle, Handle, Options)]) -> Failure {
    let mut missing = Vec::new();
    for (.., options) in qdiscs {
        let module = match options.kind() {
            "tbf" => "sch_tbf",
            "netem" => "sch_netem",
            "prio" => "sch_prio",
            // Always there.
            _ => continue,
        };
        let asked = kernel.route.request(&qdisc::ask_for(link, options.kind()));
        if asked.is_err_and(|refusal| refusal.errno == Errno::ENOENT) {
            missing.push(module);
        }
    }
    kernel::lacks(&missing)
}

/// What of the fault the kernel shows differently.
fn compare(kernel: &mut Kernel, plan: &Plan, applied: &Applied) -> Result<Vec<String>, Failure> {
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
        differences.extend(compare_qdiscs(&name, &qdiscs, plan.qdiscs(link.mtu))?);
    }
    Ok(differences)
}

/// What is different about the qdiscs of a link from those that were asked for.
pub(super) fn compare_qdiscs(
    link: &str,
    found: &[Qdisc],
    asked: impl IntoIterator<Item = (Handle, Handle, Options)>,
) -> Result<Vec<String>, Failure> {
    let mut differences = Vec::new();
    for (parent, handle, options) in asked {
        let same = found.iter().find(|qdisc| {
            qdisc.parent == parent
                && (qdisc.handle == handle || handle == Handle::ANY)
                && qdisc.kind == options.kind()
        });
        match (same, &options) {
            (None, options) => {
                let kind = options.kind();
                differences.push(format!("no {kind} of {link} at {parent}, but {found:?}"));
            }
            (Some(qdisc), Options::Netem(asked)) => {
                differences.extend(compare_netem(qdisc, asked)?);
            }
            (Some(_), _) => {}
        }
    }
    Ok(differences)
}

/// What of netem's options the kernel shows differently.
fn compare_netem(qdisc: &Qdisc, asked: &NetemOptions) -> Result<Vec<String>, Failure> {
    match qdisc.netem() {
        // A kernel without seeds ignores one.
        Some(NetemOptions { seed: None, .. }) if asked.seed.is_some() => {
            Err(kernel::lacks(&["seeds of netem, which Linux has from 6.6 on"]))
        }
        Some(read) => Ok(emulation::differences(&read, asked)),
        None => Ok(vec![format!("netem cannot be read: {qdisc:?}")]),
    }
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
        let (delay, jitter) = (delay.parse().unwrap(), jitter.parse().unwrap());
        let netem = Netem { delay, jitter, ..Netem::default() };
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
    fn a_frame_of_any_mtu_passes_the_token_bucket() {
        assert_eq!(Plan::tbf(1500), Options::Tbf { rate: TBF_RATE, burst: 2000 });
        assert_eq!(Plan::tbf(9001), Options::Tbf { rate: TBF_RATE, burst: 9501 });
    }

    #[test]
    fn what_the_kernel_would_do_differently_is_refused() {
        let message = |plan: Result<Plan, Failure>| plan.unwrap_err().message;
        assert_eq!(
            message(plan("3s", "2200ms", "30")),
            "a jitter of 2.2s is more than netem can do, 2.147483647s"
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
