//! What the kernel holds of faults: read from it, and from nowhere else.

use std::collections::BTreeSet;

use pod_chaos_protocol::{
    Backend, Direction, Failure, FaultId, FaultState, FaultStatus, Interface, MAX_INTERFACES,
    Netem, Partition, PartitionMode, Traffic,
};

use crate::{
    clock,
    error::{Doing, KernelError},
    fault::{
        self,
        clear::list_qdiscs,
        counts::Counts,
        emulation,
        emulator::{self, tally},
        gate::{self, Contents},
        label::{Kind, Label},
        netem::NETEM,
        prio,
    },
    kernel::{self, Kernel},
    netlink::{
        link::{self, Link},
        netem::NetemOptions,
        nftables,
        qdisc::Qdisc,
    },
};

/// A fault, or what is left of one.
#[derive(Clone, Debug)]
pub struct Held {
    /// Which one.
    pub id: FaultId,
    /// Its table, when it has one.
    pub gate: Option<Contents>,
    /// What its table says about itself, when this agent can read it.
    pub label: Option<Label>,
    /// What netem has been told, and the MTU of its link, when its links are there.
    pub netem: Option<(NetemOptions, u32)>,
    /// What it has done to packets, as far as the kernel knows.
    pub counts: Counts,
    /// Whether its emulator lives.
    pub emulator: bool,
    /// What that has been told.
    pub emulated: Option<Netem>,
}

impl Held {
    /// Whether packets are hit.
    pub fn is_live(&self) -> bool {
        self.remaining_ms() > 0
    }

    /// Whether it is a process that does what it does.
    pub fn needs_agent(&self) -> bool {
        self.kind() == Kind::Emulated
    }

    /// Whether the process has died that it needs: what its gate lets in goes its way.
    pub fn is_abandoned(&self) -> bool {
        self.needs_agent() && !self.emulator && self.timer_ms() > 0
    }

    /// For how much longer, in milliseconds.
    pub fn remaining_ms(&self) -> u64 {
        if self.is_abandoned() { 0 } else { self.timer_ms() }
    }

    fn kind(&self) -> Kind {
        self.label.as_ref().map_or(Kind::Netem, |label| label.kind)
    }

    /// What the gate's timer has left.
    fn timer_ms(&self) -> u64 {
        self.gate.as_ref().and_then(Contents::remaining_ms).unwrap_or(0)
    }

    /// The interfaces that are hit: what the kernel hooks into, or else what the label says.
    pub fn interfaces(&self) -> Vec<Interface> {
        let hooked = self.gate.as_ref().map(Contents::interfaces).unwrap_or_default();
        if hooked.is_empty() {
            return self.label.as_ref().map(|label| label.interfaces.clone()).unwrap_or_default();
        }
        hooked
    }

    /// Which traffic is hit: what the kernel's sets hold.
    fn traffic(&self) -> Option<Traffic> {
        let gate = self.gate.as_ref()?;
        self.label.as_ref()?;
        let mut traffic = gate.selection().traffic();
        traffic.sample = gate.sample();
        Some(traffic)
    }

    /// What is done to it, if it is a partition.
    fn partition(&self) -> Option<Partition> {
        let gate = self.gate.as_ref().filter(|_| self.kind() == Kind::Partition)?;
        let mode = if gate.refuses() { PartitionMode::Reject } else { PartitionMode::Drop };
        Some(Partition { mode, kill_connections: false, new_only: gate.is_new_only() })
    }

    /// For how long it has been in force, or was, in milliseconds.
    pub fn age_ms(&self) -> u64 {
        self.label
            .as_ref()
            .map_or(0, |label| clock::now_ms().min(label.to_ms).saturating_sub(label.from_ms))
    }

    /// What netem does, or the emulator, as a person would ask for it.
    fn parameters(&self) -> Option<Netem> {
        let Some((options, mtu)) = &self.netem else { return self.emulated.clone() };
        let shapes = self.label.as_ref().map(|label| label.shapes.clone()).unwrap_or_default();
        emulation::parameters(options, &shapes, *mtu)
    }

    /// As the plugin is told. `None` for links without a table, which hit nothing and nobody.
    pub fn status(&self) -> Option<FaultStatus> {
        let directions = self.gate.as_ref()?.selection().directions;
        let partition = self.partition();
        let backend = match (self.kind(), partition) {
            (_, Some(Partition { mode: PartitionMode::Reject, .. })) => Backend::InetReject,
            (_, Some(_)) => Backend::NetdevDrop,
            (Kind::Emulated, None) => Backend::Userspace,
            (Kind::Prio, None) => Backend::Prio,
            (_, None) => Backend::by_netem(&directions),
        };
        let interfaces = self.interfaces();
        if interfaces.is_empty() {
            return None;
        }
        let done =
            self.counts.done.or_else(|| self.emulator.then(|| tally::ask(self.id)).flatten());
        Some(FaultStatus {
            fault: self.id,
            state: if self.is_live() { FaultState::InForce } else { FaultState::Expired },
            interfaces,
            traffic: self.traffic(),
            backend,
            netem: self.parameters(),
            partition,
            age_ms: self.age_ms(),
            remaining_ms: self.remaining_ms(),
            packets: self.counts.hit,
            delayed: done.map(|done| done.delayed),
            dropped: done.map(|done| done.dropped),
        })
    }
}

/// All faults, and what is left of them: those with a table in the order of the tables, then links
/// without one.
pub fn scan(kernel: &mut Kernel) -> Result<Vec<Held>, Failure> {
    let doing = "list the nf_tables tables";
    let tables = nftables::tables(&mut kernel.netfilter)
        .map_err(|refusal| kernel::without_nf_tables(doing, refusal))?;
    let links = list_links(kernel)?;
    let mut owners: BTreeSet<_> = links.iter().filter_map(fault::owner_of).collect();
    let emulators: BTreeSet<_> =
        tables.iter().filter_map(|table| fault::id_of_emulator_table(&table.name)).collect();
    let mut held = Vec::new();
    for table in tables {
        let Some(id) = fault::id_of_table(&table.name) else { continue };
        owners.remove(&id);
        // One that went away while we looked is as good as empty.
        let gate = gate::read(kernel, id)?.unwrap_or_default();
        let mut label: Option<Label> = table.comment.and_then(|comment| comment.parse().ok());
        if let (Some(label), Some((timeout_ms, to_ms))) = (&mut label, gate.timer()) {
            label.set_right(timeout_ms, to_ms);
        }
        let kind = label.as_ref().map_or(Kind::Netem, |label| label.kind);
        let qdiscs = read_qdiscs(kernel, id, label.as_ref(), &links)?;
        held.push(Held {
            id,
            counts: Counts::of(kind, &gate, &qdiscs.all),
            gate: Some(gate),
            label,
            netem: qdiscs.netem(),
            emulator: emulators.contains(&id),
            emulated: emulator::read_parameters(kernel, id)?,
        });
    }
    for id in owners {
        let netem = read_qdiscs(kernel, id, None, &links)?.netem();
        let counts = Counts::default();
        let (gate, label, emulator, emulated) = (None, None, false, None);
        held.push(Held { id, gate, label, netem, counts, emulator, emulated });
    }
    Ok(held)
}

/// What a fault has done to packets so far; nothing when it has been cleared.
pub fn counts(kernel: &mut Kernel, id: FaultId, label: Option<&Label>) -> Result<Counts, Failure> {
    let Some(gate) = gate::read(kernel, id)? else { return Ok(Counts::default()) };
    let kind = label.map_or(Kind::Netem, |label| label.kind);
    let links = list_links(kernel)?;
    let counts = Counts::of(kind, &gate, &read_qdiscs(kernel, id, label, &links)?.all);
    let asked = if kind == Kind::Emulated { tally::ask(id) } else { None };
    Ok(Counts { done: counts.done.or(asked), ..counts })
}

fn list_links(kernel: &mut Kernel) -> Result<Vec<Link>, KernelError> {
    link::list(&mut kernel.route).doing(|| "list the interfaces".to_owned())
}

/// The qdiscs of a fault, and the MTU of the first of the links that they are of.
#[derive(Default)]
struct Qdiscs {
    mtu: u32,
    all: Vec<Qdisc>,
}

impl Qdiscs {
    /// All netems of a fault are told the same, but for a limit that goes by the MTU of their link.
    fn netem(&self) -> Option<(NetemOptions, u32)> {
        let netem = self.all.iter().find(|qdisc| qdisc.handle == NETEM)?;
        Some((netem.netem()?, self.mtu))
    }
}

/// Those of its own links, or of its interfaces where it has its queues there.
fn read_qdiscs(
    kernel: &mut Kernel,
    id: FaultId,
    label: Option<&Label>,
    links: &[Link],
) -> Result<Qdiscs, KernelError> {
    let queued = label.filter(|label| label.kind == Kind::Prio);
    let names: Vec<String> = match queued {
        Some(label) => label.interfaces.iter().map(ToString::to_string).collect(),
        None => (0..MAX_INTERFACES)
            .flat_map(|number| Direction::BOTH.map(|way| fault::way_in(id, number, way)))
            .collect(),
    };
    let mut found = Qdiscs::default();
    for name in names {
        let is_it = |link: &&Link| {
            link.name == name && (queued.is_some() || fault::owner_of(link) == Some(id))
        };
        let Some(link) = links.iter().find(is_it) else { continue };
        let qdiscs = list_qdiscs(kernel, link.index)?;
        if queued.is_some() && !prio::are_ours(&qdiscs) {
            continue;
        }
        if found.all.is_empty() {
            found.mtu = link.mtu;
        }
        found.all.extend(qdiscs);
    }
    Ok(found)
}
