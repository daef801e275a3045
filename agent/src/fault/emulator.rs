//! A worse network where the kernel has no netem: the agent itself does what netem would
//! ([`crate::emulate`]).
//!
//! ```text
//! table netdev pod-chaos-0badcafe {                        the gate, with its timeout
//!     … chain hit-egress { counter meta priority set 7adc:afc0 }
//! }
//! table netdev pod-chaos-0badcafe-emulator {
//!     flags owner                                          goes with the agent
//!     comment "pod-chaos emulator"
//!     chain parameters { comment "{\"delay\":\"100ms\"}" }  for `status`
//!     chain egress {
//!         type filter hook egress device "eth0" priority 1; policy accept;
//!         meta priority 7adc:afc0 ether type != 8021q ether type != 8021ad fwd to "pc-0badcafe"
//!     }
//!     chain exit-egress {
//!         type filter hook ingress device "pc-0badcafex" priority filter; policy drop;
//!     }
//! }
//! pc-0badcafe ─ pc-0badcafex ─ packet socket ─ the agent ─ packet socket ─ eth0
//! ```
//!
//! The [gate](super::gate) marks the packets that are hit, and the emulator's table hands those that are
//! marked to the first link of a pair. The agent reads them from the second, by a packet socket, and sends
//! them out of the interface they were meant for, with the priority by which the gate lets them pass.
//!
//! Each direction over each interface has a pair, a chain and a thread of its own. What comes in is sent out
//! of the second link of its pair, where a filter (`tc filter … u32 … action mirred ingress redirect`) has
//! the interface receive it again. Its own filters and packet sockets see it twice: as it came, and when it
//! is let in.
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

pub mod tally;
mod worker;

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use nix::errno::Errno;
use pod_chaos_protocol::{Direction, Failure, FailureKind, FaultId, Netem};

use self::{
    tally::{Tally, Teller},
    worker::Worker,
};
use super::{
    Cleared,
    clear::{self, own_links, undone, verified},
    emulation::default_limit,
    emulator_table_name, entry_address,
    gate::{self, Fate, Gate, Way},
    label::{Kind, Label, Shapes},
    links::Pair,
    netem::Plan,
    numbered,
    selection::Selection,
    table_name,
};
use crate::{
    clock,
    emulate::{self, BYTES_MAX, Emulator},
    error::{Doing, KernelError, failure},
    kernel::{self, Kernel},
    netlink::{
        Message, Refusal, ethtool,
        link::Link,
        nftables::{
            self, COMMENT_MAX, Chain, Comparison, Expression, Family, Hook, Monitor, PacketHeader,
            Register, TableId,
        },
        redirect,
    },
};

/// What the names of chains start with to which the agent's links lead.
const EXIT: &str = "exit-";
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
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(5);

/// A way of packets through the agent: in one direction over one interface.
#[derive(Clone, Debug)]
struct Passage {
    /// The position of the interface among those of the fault.
    number: usize,
    direction: Direction,
    /// The interface.
    interface: Link,
    pair: Pair,
}

impl Passage {
    /// The link that the agent sends packets out of.
    fn out(&self) -> i32 {
        match self.direction {
            Direction::Egress => self.interface.index,
            Direction::Ingress => self.pair.exit.index,
        }
    }

    /// What sees the packets that the gate has marked.
    fn chain(&self) -> Chain {
        let hook = match self.direction {
            Direction::Egress => Hook::Egress,
            Direction::Ingress => Hook::Ingress,
        };
        let name = numbered(&self.direction.to_string(), self.number);
        Chain { name, hook: Some(hook.number()), device: Some(self.interface.name.clone()) }
    }

    /// What keeps the kernel from receiving those that the agent is to have.
    fn exit(&self) -> Chain {
        let name = numbered(&format!("{EXIT}{}", self.direction), self.number);
        let device = Some(self.pair.exit.name.clone());
        Chain { name, hook: Some(Hook::Ingress.number()), device }
    }

    /// Hands them over.
    fn rule(&self, id: FaultId) -> Vec<Expression> {
        let not = |kind: u16| Expression::Compare(Comparison::Unequal, kind.to_be_bytes().to_vec());
        vec![
            Expression::LoadPriority,
            Expression::Compare(Comparison::Equal, gate::hit(id).to_ne_bytes().to_vec()),
            Expression::LoadBytes(Register::FIRST, PacketHeader::Link, ETHER_TYPE, 2),
            not(VLANS[0]),
            not(VLANS[1]),
            Expression::LoadNumber(self.pair.entry.index.cast_unsigned()),
            Expression::Forward,
        ]
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
    /// In the order in which they are made.
    chains: Vec<Chain>,
    /// Each with its chain.
    rules: Vec<(String, Vec<Expression>)>,
}

impl Table {
    fn new(id: FaultId, passages: &[Passage]) -> Self {
        // No packet ever comes there: it is for notes.
        let parameters = Chain { name: PARAMETERS.to_owned(), hook: None, device: None };
        let chains = passages.iter().flat_map(|one| [one.chain(), one.exit()]);
        Self {
            name: emulator_table_name(id),
            chains: chains.chain([parameters]).collect(),
            rules: passages.iter().map(|one| (one.chain().name, one.rule(id))).collect(),
        }
    }

    fn id(&self) -> TableId<'_> {
        table_id(&self.name)
    }

    fn messages(&self, notes: &[String]) -> Vec<Message> {
        let id = self.id();
        let chain = |chain: &Chain| match chain.hook {
            Some(_) if chain.name.starts_with(EXIT) => nftables::new_dropping_chain(id, chain),
            Some(_) => nftables::new_later_chain(id, chain),
            None => nftables::new_chain(id, chain),
        };
        let mut messages = vec![nftables::new_owned_table(id, COMMENT)];
        messages.extend(self.chains.iter().map(chain));
        messages.extend(self.rules.iter().map(|(chain, rule)| nftables::new_rule(id, chain, rule)));
        messages.extend(notes.iter().map(|note| nftables::new_note(id, PARAMETERS, note)));
        messages
    }
}

fn table_id(name: &str) -> TableId<'_> {
    TableId { family: Family::Netdev, name }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The gate, as it was asked for.
    pub gate: Gate,
    /// The emulator's table, likewise.
    table: Table,
    passages: Vec<Passage>,
}

/// Puts the fault in force, and starts the threads that do it. When that fails, it undoes what it has made.
pub fn apply(kernel: &mut Kernel, plan: &Plan) -> Result<Applied, Failure> {
    make(kernel, plan).map_err(|failure| {
        wait_for_worker(kernel, plan.id);
        undone(kernel, plan.id, failure)
    })
}

/// Reads the fault back, compares it with what was asked for, and undoes it when they differ.
pub fn verify(kernel: &mut Kernel, plan: &Plan, applied: &Applied) -> Result<(), Failure> {
    let compared = compare(kernel, plan, applied).map_err(Failure::from);
    if compared.as_ref().map_or(true, |differences| !differences.is_empty()) {
        wait_for_worker(kernel, plan.id);
    }
    verified(kernel, plan.id, compared)
}

/// Ends the fault and clears what it has made, as [`clear::revert`] does.
pub fn revert(kernel: &mut Kernel, id: FaultId) -> Cleared {
    wait_for_worker(kernel, id);
    let mut cleared = clear::revert(kernel, id);
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
    let mut passages = Vec::new();
    for ((_, link), number, direction) in plan.ways() {
        let pair = Pair::make(kernel, plan.id, (number, direction), link.mtu)?;
        let passage = Passage { number, direction, interface: link.clone(), pair };
        cut_super_packets(plan, &passage.pair)?;
        passage.pair.set_up(kernel)?;
        if direction == Direction::Ingress {
            hand_back(kernel, &passage)?;
            passage.pair.wait_for_exit(kernel)?;
        }
        passages.push(passage);
    }
    let table = Table::new(plan.id, &passages);
    let workers = prepare(plan, &passages, &table)?;
    let gate = gate(plan);
    gate.open(kernel)?;
    // Its timer may have started later than its label says: large sets are loaded first.
    let to_ms = clock::now_ms() + plan.timeout_ms;
    for worker in workers {
        // What comes before it runs waits in its socket.
        worker.start(to_ms).map_err(|error| {
            failure(FailureKind::Kernel, format!("failed to start a thread: {error}"), None)
        })?;
    }
    Ok(Applied { gate, table, passages })
}

fn gate(plan: &Plan) -> Gate {
    let from_ms = clock::now_ms();
    let ways = plan.ways().map(|((interface, link), number, direction)| Way {
        number,
        interface: interface.clone(),
        target: link.index,
        direction,
        fate: Fate::Emulated,
    });
    Gate {
        id: plan.id,
        label: Label {
            kind: Kind::Emulated,
            interfaces: plan.interfaces.iter().map(|(name, _)| name.clone()).collect(),
            from_ms,
            to_ms: from_ms + plan.timeout_ms,
            // The table's notes have them.
            shapes: Shapes::default(),
        },
        timeout_ms: plan.timeout_ms,
        ways: ways.collect(),
        selection: Selection::new(&plan.traffic),
        sample: plan.traffic.sample,
        new_only: false,
    }
}

/// Has the interface receive what the agent sends out of the second link.
fn hand_back(kernel: &mut Kernel, passage: &Passage) -> Result<(), Failure> {
    let Passage { interface, pair: Pair { exit, .. }, .. } = passage;
    let messages = [redirect::prepare(exit.index), redirect::receive(exit.index, interface.index)];
    for message in messages {
        kernel.route.request(&message).map_err(|refusal| {
            if refusal.errno == Errno::ENOENT {
                return kernel::lacks(&["sch_ingress, cls_u32 or act_mirred"]);
            }
            let doing = format!("have {} receive what {} sends", interface.name, exit.name);
            KernelError::new(doing, refusal).into()
        })?;
    }
    Ok(())
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

/// Makes all that the threads need: sockets, and their table, into which nothing comes yet.
fn prepare(plan: &Plan, passages: &[Passage], table: &Table) -> Result<Vec<Worker>, Failure> {
    let seed = plan.netem.seed.unwrap_or_else(any_seed);
    let netem = Netem { seed: Some(seed), ..plan.netem.clone() };
    let mut owner = Kernel::open()?;
    nftables::transact(&mut owner.netfilter, &table.messages(&notes(&netem)))
        .map_err(|(_, refusal)| refused(table, refusal))?;
    let owner = Arc::new(Mutex::new(Some(owner)));
    let tallies: Vec<_> = passages.iter().map(|_| Arc::<Tally>::default()).collect();
    // What they do is not less for not being told.
    let mut teller = Teller::new(plan.id, &tallies).ok();
    let mut workers = Vec::new();
    for ((number, passage), tally) in (0..).zip(passages).zip(tallies) {
        let mtu = passage.interface.mtu;
        let limit = netem.limit.map_or_else(|| default_limit(&netem, mtu), NonZeroU32::get);
        // Each has dice of its own; the first one's are those that were asked for.
        let bytes = BYTES_MAX / passages.len();
        let emulator = Emulator::new(&netem, (limit, bytes), seed.wrapping_add(number));
        let priority = gate::returning(plan.id);
        let exit = passage.pair.exit.index;
        let sockets = worker::Sockets::open(exit, passage.out(), priority).map_err(|error| {
            let hint = "the agent's container needs the capability NET_RAW";
            let hint = (error.raw_os_error() == Some(Errno::EPERM as i32)).then_some(hint);
            let message = format!("failed to open a packet socket: {error}");
            failure(FailureKind::Kernel, message, hint)
        })?;
        let largest = if emulate::keeps_super_packets(&plan.netem) { u32::MAX } else { mtu };
        let monitor = Monitor::open().doing(|| "listen to nf_tables".to_owned())?;
        let kernel = Kernel::open()?;
        workers.push(Worker {
            id: plan.id,
            owner: Arc::clone(&owner),
            kernel,
            monitor,
            sockets,
            emulator,
            tally,
            teller: teller.take(),
            own_address: entry_address(plan.id),
            largest,
        });
    }
    Ok(workers)
}

fn refused(table: &Table, refusal: Refusal) -> Failure {
    let doing = format!("make the {}", table.id());
    match refusal.errno {
        Errno::EOPNOTSUPP | Errno::ENOENT => {
            kernel::lacks(&["the nf_tables egress hook or nft_fwd_netdev"])
        }
        Errno::ENODEV => {
            let message = "an interface of the fault has gone".to_owned();
            failure(FailureKind::NotFound, message, None)
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
    let links = own_links(kernel, plan.id)?;
    if links.len() != 2 * applied.passages.len() || !links.iter().all(|link| link.up) {
        differences.push(format!("links: {links:?}"));
    }
    let Table { name, chains, rules } = &applied.table;
    let (netfilter, id) = (&mut kernel.netfilter, applied.table.id());
    let seen = nftables::chains(netfilter, id).doing(|| format!("read the chains of the {id}"))?;
    if seen != *chains {
        differences.push(format!("chains of {name}: {seen:?}"));
    }
    let mut seen =
        nftables::rules(netfilter, id).doing(|| format!("read the rules of the {id}"))?;
    seen.retain(|(chain, _)| chain != PARAMETERS);
    if seen != *rules {
        differences.push(format!("rules of {name}: {seen:?}"));
    }
    let ingress = applied.passages.iter().filter(|one| one.direction == Direction::Ingress);
    for Passage { interface, pair: Pair { exit, .. }, .. } in ingress {
        let receivers = redirect::receivers(&mut kernel.route, exit.index)
            .doing(|| format!("read the filters of the link {}", exit.name))?;
        if receivers != [interface.index] {
            differences.push(format!("receivers of what {} sends: {receivers:?}", exit.name));
        }
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
    match nftables::notes(&mut kernel.netfilter, table_id(&name), PARAMETERS) {
        Err(refusal) if refusal.errno == Errno::ENOENT => Ok(None),
        notes => {
            let notes = notes.doing(|| format!("read the parameters in the table {name}"))?;
            Ok(serde_json::from_str(&notes.concat()).ok())
        }
    }
}
