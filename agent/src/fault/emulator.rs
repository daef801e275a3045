//! A worse network on the way out of one interface, where the kernel has no netem: the agent itself does what
//! netem would ([`crate::emulate`]).
//!
//! ```text
//! table netdev pod-chaos-0badcafe {                        the gate, with its timeout
//!     … meta protocol @live counter meta priority set 7063:7060
//! }
//! table netdev pod-chaos-0badcafe-emulator {
//!     flags owner                                          goes with the agent
//!     comment "pod-chaos emulator"
//!     chain parameters { comment "{\"delay\":\"100ms\"}" }  for `status`
//!     chain egress {
//!         type filter hook egress device "eth0" priority 1; policy accept;
//!         meta priority 7063:7060 ether type != 8021q ether type != 8021ad fwd to "pc-0badcafe"
//!     }
//!     chain exit { type filter hook ingress device "pc-0badcafex" priority filter; policy drop; }
//! }
//! pc-0badcafe ─ pc-0badcafex ─ packet socket ─ the agent ─ packet socket ─ eth0
//! ```
//!
//! The [gate](super::gate) marks the packets that are hit, and the emulator's table hands those that are
//! marked to the first link of a pair. The agent reads them from the second, by a packet socket, and sends
//! them out of the interface they were meant for, with the priority by which the gate lets them pass.
//!
//! There are two tables because they end differently. The gate has its deadline from the kernel, and any
//! agent may close it. The emulator's belongs to a socket of the process that does the work: when that dies,
//! however it does, the kernel deletes the table, and from this moment on the packets that the gate marks go
//! their way. Only what the agent held is lost. So it fails open, without a moment in between.
//!
//! Why not hold the packets in a netfilter queue: a socket is charged for a packet of its own until the
//! verdict, and TCP stops sending when it is charged for two ("TCP small queues"); queues see no egress hook,
//! so that the gate could not be the same; and kernels without netem are often without queues as well. Here
//! the packet's own end comes when the packet socket has its copy, and the socket is charged no longer.
//!
//! Super-packets (TCP's segmentation offload) stay whole when all that is asked for is a delay, which is the
//! same for all their parts. Otherwise the kernel cuts them before the first link, and what is done is done
//! to packets as they would be on the wire. Those of tunnels and of UDP are always cut: the header in front
//! of a frame cannot describe the one and does not on all kernels describe the other. Checksums that are left
//! to the hardware still are, unless a bit is to be changed.
//!
//! Measured (docs/backends.md has the whole of it and the command), on two processors of a virtual machine that
//! had other work: 0.1 ms on top of a delay; 155,000 packets of 100 bytes for each second of a processor; a TCP
//! stream of 2.0 Gbit/s through 10 ms, with 30 % of a processor, which is what its window allows, and of
//! 1.4 Gbit/s where super-packets are cut. The first packet that passes after SIGKILL was sent 0.4 ms later.
//!
//! Limits: as of [`super::netem`], and: packets of VLANs on top of the interface pass by; the mark of a packet
//! is lost; a packet is sent by the agent, so that a program that goes by the socket or the control group of
//! the sender does not know it again.

mod worker;

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use pod_chaos_protocol::{Failure, FailureKind, FaultId, Netem};

use self::worker::Worker;
use super::{
    Cleared,
    emulation::default_limit,
    emulator_table_name, entry_address, exit_name,
    gate::{self, Gate, HIT, Handover},
    label::{Kind, Label, Shapes},
    netem::{self, Plan},
    pair::{self, Pair},
    table_name,
};
use crate::{
    clock,
    emulate::{self, Emulator},
    error::{Doing, KernelError, failure},
    kernel::{self, Kernel},
    netlink::{
        Message, Refusal, ethtool,
        nftables::{self, COMMENT_MAX, Chain, Comparison, Expression, Hook, Monitor, PacketHeader},
    },
};

const EGRESS: &str = "egress";
const EXIT: &str = "exit";
const PARAMETERS: &str = "parameters";
const COMMENT: &str = "pod-chaos emulator";

/// Offset of the EtherType, which is a VLAN's where there is one (linux/if_ether.h).
const ETHER_TYPE: u32 = 12;
const VLANS: [u16; 2] = [0x8100, 0x88a8];

/// Kinds of super-packets that the header in front of a frame (linux/virtio_net.h) cannot describe, or not
/// on every kernel.
const SEGMENTATION_BUT_TCP: [&str; 9] = [
    "tx-udp-segmentation",
    "tx-sctp-segmentation",
    "tx-gso-list",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
];
/// All others.
const SEGMENTATION_OF_TCP: [&str; 4] = [
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
];

/// How long the worker has to let out what it holds, once the gate is closed, and to go. It needs a second
/// at most, see [`worker`].
const PATIENCE: Duration = Duration::from_millis(1_300);
const STEP: Duration = Duration::from_millis(5);

/// The table's chains and rules.
fn table(plan: &Plan, entry: i32) -> Table {
    let chain = |name: &str, hook: Hook, device: String| Chain {
        name: name.to_owned(),
        hook: hook as u32,
        device: Some(device),
    };
    let not = |kind: u16| Expression::Compare(Comparison::Unequal, kind.to_be_bytes().to_vec());
    Table {
        name: emulator_table_name(plan.id),
        egress: chain(EGRESS, Hook::Egress, plan.interface.to_string()),
        exit: chain(EXIT, Hook::Ingress, exit_name(plan.id)),
        rule: vec![
            Expression::LoadPriority,
            Expression::Compare(Comparison::Equal, HIT.to_ne_bytes().to_vec()),
            Expression::LoadBytes(PacketHeader::Link, ETHER_TYPE, 2),
            not(VLANS[0]),
            not(VLANS[1]),
            Expression::LoadNumber(entry.cast_unsigned()),
            Expression::Forward,
        ],
    }
}

/// What the table's notes say, in pieces that fit.
fn notes(netem: &Netem) -> Vec<String> {
    let mut netem = netem.clone();
    netem.distribution = netem.distribution.without_numbers();
    netem.slot = netem.slot.map(|slot| slot.without_numbers());
    let json = serde_json::to_string(&netem).unwrap_or_default();
    json.as_bytes()
        .chunks(COMMENT_MAX - 1)
        .map(|piece| String::from_utf8_lossy(piece).into_owned())
        .collect()
}

/// The emulator's table.
#[derive(Clone, Debug)]
struct Table {
    name: String,
    egress: Chain,
    exit: Chain,
    rule: Vec<Expression>,
}

impl Table {
    fn messages(&self, notes: &[String]) -> Vec<Message> {
        let mut messages = vec![
            nftables::new_owned_table(&self.name, COMMENT),
            nftables::new_later_chain(&self.name, &self.egress),
            nftables::new_dropping_chain(&self.name, &self.exit),
            nftables::new_notes_chain(&self.name, PARAMETERS),
            nftables::new_rule(&self.name, EGRESS, &self.rule),
        ];
        messages.extend(notes.iter().map(|note| nftables::new_note(&self.name, PARAMETERS, note)));
        messages
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The gate, as it was asked for.
    pub gate: Gate,
    /// The emulator's table, likewise.
    table: Table,
}

/// Puts the fault in force, and starts the thread that does it. When that fails, it undoes what it has made.
pub fn apply(kernel: &mut Kernel, plan: &Plan) -> Result<Applied, Failure> {
    make(kernel, plan).map_err(|failure| netem::undone(kernel, plan.id, failure))
}

/// Reads the fault back, compares it with what was asked for, and undoes it when they differ.
pub fn verify(kernel: &mut Kernel, plan: &Plan, applied: &Applied) -> Result<(), Failure> {
    let compared = compare(kernel, plan, applied).map_err(Failure::from).and_then(|differences| {
        if differences.is_empty() {
            return Ok(());
        }
        let message =
            format!("the kernel does not hold what was asked for: {}", differences.join("; "));
        Err(failure(FailureKind::Kernel, message, None))
    });
    compared.map_err(|failure| {
        wait_for_worker(kernel, plan.id);
        netem::undone(kernel, plan.id, failure)
    })
}

/// Ends the fault and clears what it has made, as [`netem::revert`] does.
pub fn revert(kernel: &mut Kernel, id: FaultId) -> Cleared {
    wait_for_worker(kernel, id);
    let mut cleared = netem::revert(kernel, id);
    match is_at_work(kernel, id) {
        Ok(false) => {}
        // Nobody but its owner may delete it; that does not run, and will when it does. It hits nothing.
        Ok(true) => cleared.left.push(format!("table netdev {}", emulator_table_name(id))),
        Err(error) => cleared.errors.push(error.to_string()),
    }
    cleared
}

/// Closes the gate, and waits until the worker has let out what it holds.
fn wait_for_worker(kernel: &mut Kernel, id: FaultId) {
    let _ = gate::close(kernel, id);
    let start = Instant::now();
    while start.elapsed() < PATIENCE && is_at_work(kernel, id).unwrap_or(false) {
        std::thread::sleep(STEP);
    }
}

fn make(kernel: &mut Kernel, plan: &Plan) -> Result<Applied, Failure> {
    let pair = pair::make(kernel, plan.id, plan.mtu)?;
    let entry = pair.entry.index;
    cut_super_packets(plan, &pair)?;
    pair::set_up(kernel, &pair)?;
    let table = table(plan, entry);
    let worker = prepare(plan, &pair, &table)?;
    let (from_ms, interface) = (clock::now_ms(), plan.interface.clone());
    let to_ms = from_ms + plan.timeout_ms;
    let shapes = Shapes::default();
    let label = Label { kind: Kind::Emulated, interface, from_ms, to_ms, shapes };
    let Plan { id, timeout_ms, target, .. } = *plan;
    let gate = Gate { id, label, timeout_ms, target, handover: Handover::Emulator };
    gate.open(kernel)?;
    // What comes before it runs waits in its socket.
    worker.start(to_ms).map_err(|error| {
        failure(FailureKind::Kernel, format!("failed to start a thread: {error}"), None)
    })?;
    Ok(Applied { gate, table })
}

/// Has the kernel cut super-packets on their way into the first link, all or those that it has to.
fn cut_super_packets(plan: &Plan, pair: &Pair) -> Result<(), Failure> {
    let mut kinds = SEGMENTATION_BUT_TCP.to_vec();
    if !emulate::keeps_super_packets(&plan.netem) {
        kinds.extend(SEGMENTATION_OF_TCP);
    }
    ethtool::switch_off(pair.entry.index, &kinds).map_err(|refusal| match refusal.errno {
        Errno::ENOENT | Errno::EPROTONOSUPPORT => kernel::lacks(&["ethtool's netlink interface"]),
        _ => {
            let doing = format!("switch off segmentation on the link {}", pair.entry.name);
            KernelError::new(doing, refusal).into()
        }
    })
}

/// Makes all that the worker needs: sockets, and its table, into which nothing comes yet.
fn prepare(plan: &Plan, pair: &Pair, table: &Table) -> Result<Worker, Failure> {
    let seed = plan.netem.seed.unwrap_or_else(any_seed);
    let netem = Netem { seed: Some(seed), ..plan.netem.clone() };
    let limit = netem.limit.map_or_else(|| default_limit(&netem, plan.mtu), NonZeroU32::get);
    let emulator = Emulator::new(&netem, limit, seed);
    let sockets = worker::Sockets::open(pair.exit.index, plan.target).map_err(|error| {
        let hint = "the agent's container needs the capability NET_RAW";
        let hint = (error.raw_os_error() == Some(Errno::EPERM as i32)).then_some(hint);
        failure(FailureKind::Kernel, format!("failed to open a packet socket: {error}"), hint)
    })?;
    let largest = if emulate::keeps_super_packets(&plan.netem) { u32::MAX } else { plan.mtu };
    let monitor = Monitor::open().doing(|| "listen to nf_tables".to_owned())?;
    let mut kernel = Kernel::open()?;
    nftables::transact(&mut kernel.netfilter, &table.messages(&notes(&netem)))
        .map_err(|(_, refusal)| refused(plan, table, refusal))?;
    let own_address = entry_address(plan.id);
    Ok(Worker::new(plan.id, (kernel, monitor, sockets), emulator, own_address, largest))
}

fn refused(plan: &Plan, table: &Table, refusal: Refusal) -> Failure {
    let doing = format!("make the table netdev {}", table.name);
    match refusal.errno {
        Errno::EOPNOTSUPP | Errno::ENOENT => {
            kernel::lacks(&["the nf_tables egress hook or nft_fwd_netdev"])
        }
        Errno::ENODEV => {
            failure(FailureKind::NotFound, format!("interface `{}` has gone", plan.interface), None)
        }
        _ => KernelError::new(doing, refusal).into(),
    }
}

/// One that nobody has asked for.
fn any_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(clock::now_ns())
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
    let links = pair::own_links(kernel, plan.id)?;
    if links.len() != 2 || !links.iter().all(|link| link.up) {
        differences.push(format!("links: {links:?}"));
    }
    let Table { name, egress, exit, rule } = &applied.table;
    let netfilter = &mut kernel.netfilter;
    let chains =
        nftables::chains(netfilter, name).doing(|| format!("read the chains of {name}"))?;
    if chains != [egress.clone(), exit.clone()] {
        differences.push(format!("chains of {name}: {chains:?}"));
    }
    let rules = nftables::rules(netfilter, name).doing(|| format!("read the rules of {name}"))?;
    let hits = rules.iter().find(|(chain, _)| chain == EGRESS);
    if hits.is_none_or(|(_, read)| read != rule) {
        differences.push(format!("rules of {name}: {rules:?}"));
    }
    if read_parameters(kernel, plan.id)?.is_none() {
        differences.push(format!("no parameters in {name}"));
    }
    Ok(differences)
}

/// Whether the fault's worker lives.
pub fn is_at_work(kernel: &mut Kernel, id: FaultId) -> Result<bool, KernelError> {
    let name = emulator_table_name(id);
    let tables =
        nftables::tables(&mut kernel.netfilter).doing(|| "list the nf_tables tables".to_owned())?;
    Ok(tables.iter().any(|table| table.name == name))
}

/// What the emulator has been told, while it lives.
pub fn read_parameters(kernel: &mut Kernel, id: FaultId) -> Result<Option<Netem>, KernelError> {
    let name = emulator_table_name(id);
    match nftables::notes(&mut kernel.netfilter, &name, PARAMETERS) {
        Err(refusal) if refusal.errno == Errno::ENOENT => Ok(None),
        notes => {
            let notes = notes.doing(|| format!("read the parameters in the table {name}"))?;
            Ok(serde_json::from_str(&notes.concat()).ok())
        }
    }
}
