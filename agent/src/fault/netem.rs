//! A worse network on the way out of one interface: the kernel's netem, on a link of its own.
//!
//! The interface keeps its qdisc. The [gate](super::gate) hands the packets that are hit to the first link
//! of a pair, which sends them through its qdiscs to the second, where the gate has them sent out of the
//! interface they were meant for:
//!
//! ```text
//! pc-0badcafe    tbf 7063: rate 30gbit ── netem 7064:
//! pc-0badcafex   no qdisc
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
//! The links are of the kind veth, whose packets the node's end of the pod's wire receives like any other.
//! An ifb link marks its packets (`tc_skip_classify`, drivers/net/ifb.c), and the mark crosses the wire:
//! there they would pass over `tc ingress` and nf_tables `ingress`, which is where Cilium and Calico with
//! eBPF route and filter. What is left of this kind is `skb->redirected`, set by any forward of nf_tables:
//! a generic XDP program at the node's end does not see the packets (`netif_receive_generic_xdp` of
//! net/core/dev.c), one in the driver does.
//!
//! Limits: only Ethernet; veth takes the first bytes of a packet for a frame's header, which those of most
//! tunnels do not have. Where several CPUs send at the most that the pod can, the pair's second receives on
//! each of them, and a little more arrives out of order than over the pod's wire alone.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use pod_chaos_protocol::{Failure, FailureKind, FaultId, Interface, Netem, RunTime};

use super::{
    Cleared, emulation,
    gate::{self, Gate, Handover},
    label::{Kind, Label, Shapes},
    pair::{self, entry_of, own_links},
    table_name,
};
use crate::{
    clock,
    error::{Doing, KernelError, failure},
    kernel::{self, Kernel},
    netlink::{
        link::{self, Link},
        netem::NetemOptions,
        qdisc::{self, Handle, Options, Qdisc},
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

/// Packets that netem still holds at the end are let out at their time, for at most this long.
const DRAIN_MAX: Duration = Duration::from_secs(1);
const DRAIN_STEP: Duration = Duration::from_millis(5);

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The fault's id.
    pub id: FaultId,
    /// The interface that is hit.
    pub interface: Interface,
    /// Its index.
    pub target: i32,
    /// Its largest packet, in bytes.
    pub mtu: u32,
    /// How much worse it gets.
    pub netem: Netem,
    /// For how long, in milliseconds.
    pub timeout_ms: u64,
}

impl Plan {
    /// Refuses what the kernel would not do as asked.
    pub fn new(
        id: FaultId,
        (interface, link): (Interface, &Link),
        netem: Netem,
        running_time: RunTime,
    ) -> Result<Self, Failure> {
        if !link.ethernet {
            let message = format!("`{interface}` is not an Ethernet interface");
            let hint = "packets that go through a tunnel are hit on the interface it goes over";
            return Err(failure(FailureKind::Unsupported, message, Some(hint)));
        }
        netem.check().map_err(|error| {
            failure(FailureKind::BadRequest, error.to_string(), Some(error.hint()))
        })?;
        let timeout_ms = running_time.as_nanos().div_ceil(1_000_000);
        Ok(Self { id, interface, target: link.index, mtu: link.mtu, netem, timeout_ms })
    }

    fn netem(&self) -> Options {
        Options::Netem(Box::new(emulation::options(&self.netem, self.mtu)))
    }

    fn tbf(&self) -> Options {
        let burst = self.mtu.saturating_add(TBF_BURST_ABOVE_MTU);
        Options::Tbf { rate: TBF_RATE, burst }
    }

    /// The qdiscs in the order they are made: parent, own handle, parameters.
    pub fn qdiscs(&self) -> [(Handle, Handle, Options); 2] {
        [(Handle::ROOT, TBF, self.tbf()), (TBF.class(1), NETEM, self.netem())]
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The gate, as it was asked for.
    pub gate: Gate,
    /// The index of the link into which packets go.
    pub entry: i32,
}

impl Applied {
    /// When the kernel ends it, in milliseconds of [`crate::clock`].
    pub fn to_ms(&self) -> u64 {
        self.gate.label.to_ms
    }
}

/// Puts the fault in force. When that fails, it undoes what it has made.
pub fn apply(kernel: &mut Kernel, plan: &Plan) -> Result<Applied, Failure> {
    make(kernel, plan).map_err(|failure| undone(kernel, plan.id, failure))
}

/// Reads the fault back, compares it with what was asked for, and undoes it when they differ.
pub fn verify(kernel: &mut Kernel, plan: &Plan, applied: &Applied) -> Result<(), Failure> {
    let compared = compare(kernel, plan, applied).and_then(|differences| {
        if differences.is_empty() {
            return Ok(());
        }
        let message =
            format!("the kernel does not hold what was asked for: {}", differences.join("; "));
        Err(failure(FailureKind::Kernel, message, None))
    });
    compared.map_err(|failure| undone(kernel, plan.id, failure))
}

/// Ends the fault and clears what it has made, by the id in the names: of this process or another one, in
/// force or expired, whole or half made. What is not there is fine.
pub fn revert(kernel: &mut Kernel, id: FaultId) -> Cleared {
    let mut cleared = Cleared::default();
    let mut note = |result: Result<(), KernelError>| {
        let done = result.is_ok();
        cleared.errors.extend(result.err().map(|error| error.to_string()));
        done
    };
    // The way in is closed first, and the way out only when the packets on their way have taken it.
    note(gate::close(kernel, id));
    let closed =
        gate::read_live(kernel, id).is_ok_and(|live| live.is_none_or(|live| live.is_empty()));
    let links = own_links(kernel, id).unwrap_or_default();
    if let (true, Some(entry)) = (closed, entry_of(id, &links)) {
        drain(kernel, entry.index);
    }
    let removed = note(gate::remove(kernel, id));
    // The kernel drops what an open gate hands to a link that is gone.
    for link in links.iter().filter(|_| closed || removed) {
        match kernel.route.request(&link::delete(link.index)) {
            // The other one of the pair went with the first.
            Err(refusal) if refusal.errno == Errno::ENODEV => {}
            deleted => {
                note(deleted.doing(|| format!("delete the link {}", link.name)));
            }
        }
    }
    match gate::exists(kernel, id) {
        Ok(false) => {}
        Ok(true) => cleared.left.push(format!("table netdev {}", table_name(id))),
        Err(error) => cleared.errors.push(error.to_string()),
    }
    match own_links(kernel, id) {
        Ok(links) => cleared.left.extend(links.iter().map(|link| format!("link {}", link.name))),
        Err(error) => cleared.errors.push(error.to_string()),
    }
    cleared
}

fn make(kernel: &mut Kernel, plan: &Plan) -> Result<Applied, Failure> {
    let entry = make_links(kernel, plan)?;
    let (from_ms, interface) = (clock::now_ms(), plan.interface.clone());
    let (to_ms, shapes) = (from_ms + plan.timeout_ms, Shapes::of(&plan.netem));
    let label = Label { kind: Kind::Netem, interface, from_ms, to_ms, shapes };
    let Plan { id, timeout_ms, target, .. } = *plan;
    let gate = Gate { id, label, timeout_ms, target, handover: Handover::Link(entry) };
    gate.open(kernel)?;
    Ok(Applied { gate, entry })
}

/// Makes the pair of links with its qdiscs, and returns the index of the first. No packet comes near it yet.
fn make_links(kernel: &mut Kernel, plan: &Plan) -> Result<i32, Failure> {
    let pair = pair::make(kernel, plan.id, plan.mtu)?;
    let Link { index: entry, name, .. } = &pair.entry;
    let entry = *entry;
    for (parent, handle, options) in plan.qdiscs() {
        let message = qdisc::add(entry, parent, handle, &options);
        kernel.route.request(&message).map_err(|refusal| {
            if refusal.errno == Errno::ENOENT {
                return kernel::lacks(&missing_qdiscs(kernel, entry, plan));
            }
            let doing = format!("add the qdisc {} at {parent} of the link {name}", options.kind());
            KernelError::new(doing, refusal).into()
        })?;
    }
    pair::set_up(kernel, &pair)?;
    Ok(entry)
}

/// Finds out which kinds of qdisc the kernel does not have, by trying them on our own link.
fn missing_qdiscs(kernel: &mut Kernel, link: i32, plan: &Plan) -> Vec<&'static str> {
    let kinds = [("sch_tbf", plan.tbf()), ("sch_netem", plan.netem())];
    let missing = kinds.into_iter().filter(|(_, options)| {
        // There may be none.
        let _ = kernel.route.request(&qdisc::delete_root(link));
        let added = kernel.route.request(&qdisc::add(link, Handle::ROOT, TBF, options));
        added.is_err_and(|refusal| refusal.errno == Errno::ENOENT)
    });
    missing.map(|(module, _)| module).collect()
}

/// What of the fault the kernel shows differently.
fn compare(kernel: &mut Kernel, plan: &Plan, applied: &Applied) -> Result<Vec<String>, Failure> {
    let Some(contents) = gate::read(kernel, plan.id)? else {
        return Ok(vec![format!("no table {}", table_name(plan.id))]);
    };
    let mut differences = applied.gate.compare(&contents);
    let links = own_links(kernel, plan.id)?;
    let entry = entry_of(plan.id, &links).map(|link| link.index);
    if links.len() != 2 || !links.iter().all(|link| link.up) || entry != Some(applied.entry) {
        differences.push(format!("links: {links:?}"));
    }
    let qdiscs = list_qdiscs(kernel, applied.entry)?;
    for (parent, handle, options) in plan.qdiscs() {
        let found = qdiscs.iter().find(|qdisc| {
            qdisc.parent == parent && qdisc.handle == handle && qdisc.kind == options.kind()
        });
        match (found, options) {
            (None, options) => {
                let kind = options.kind();
                differences.push(format!("no {kind} at {parent}, but {qdiscs:?}"));
            }
            (Some(_), Options::Tbf { .. }) => {}
            (Some(qdisc), Options::Netem(asked)) => match qdisc.netem() {
                // A kernel without seeds ignores one.
                Some(NetemOptions { seed: None, .. }) if asked.seed.is_some() => {
                    return Err(kernel::lacks(&["seeds of netem, which Linux has from 6.6 on"]));
                }
                Some(read) => differences.extend(emulation::differences(&read, &asked)),
                None => differences.push(format!("netem cannot be read: {qdisc:?}")),
            },
        }
    }
    Ok(differences)
}

/// Undoes what was begun, and says so when that fails too.
pub fn undone(kernel: &mut Kernel, id: FaultId, failure: Failure) -> Failure {
    let cleared = revert(kernel, id);
    if cleared.is_clean() {
        return failure;
    }
    let rest = [cleared.errors, cleared.left].concat().join("; ");
    Failure {
        kind: FailureKind::NotClean,
        message: format!("{}; and undoing it failed: {rest}", failure.message),
        hint: failure.hint,
    }
}

/// What netem on this link of ours has been told, when it is there.
pub fn read_netem(kernel: &mut Kernel, link: i32) -> Result<Option<NetemOptions>, KernelError> {
    Ok(list_qdiscs(kernel, link)?.iter().find(|qdisc| qdisc.handle == NETEM).and_then(Qdisc::netem))
}

fn list_qdiscs(kernel: &mut Kernel, link: i32) -> Result<Vec<Qdisc>, KernelError> {
    qdisc::list(&mut kernel.route, link).doing(|| format!("list the qdiscs of link {link}"))
}

/// Waits until the link holds no packets: without a way out they would be lost.
fn drain(kernel: &mut Kernel, link: i32) {
    let start = Instant::now();
    let holds_packets = |kernel: &mut Kernel| {
        let qdiscs = list_qdiscs(kernel, link).unwrap_or_default();
        qdiscs.iter().any(|qdisc| qdisc.parent == Handle::ROOT && qdisc.queued > 0)
    };
    while start.elapsed() < DRAIN_MAX && holds_packets(kernel) {
        thread::sleep(DRAIN_STEP);
    }
    // The last ones have left the qdisc, and wait for the kernel to receive them at the other end.
    thread::sleep(DRAIN_STEP);
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
        let interface = ("eth0".parse().unwrap(), link);
        Plan::new(FaultId::new(1), interface, netem, running_time.parse().unwrap())
    }

    #[test]
    fn a_frame_of_any_mtu_passes_the_token_bucket() {
        let mut plan = plan("100ms", "0", "30").unwrap();
        assert_eq!(plan.tbf(), Options::Tbf { rate: TBF_RATE, burst: 2000 });
        plan.mtu = 9001;
        assert_eq!(plan.tbf(), Options::Tbf { rate: TBF_RATE, burst: 9501 });
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
