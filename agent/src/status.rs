//! What the kernel holds of faults: read from it, and from nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use pod_chaos_protocol::{
    Backend, Direction, Failure, FaultId, FaultState, FaultStatus, Interface, Netem, Partition,
    PartitionMode, Traffic,
};

use crate::{
    clock,
    error::{Doing, KernelError},
    fault::{
        self, emulation, emulator,
        gate::{self, Contents},
        label::{Kind, Label},
        netem, prio,
    },
    kernel::{self, Kernel},
    netlink::{
        link::{self, Link},
        netem::NetemOptions,
        nftables,
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

    /// Packets that were hit.
    pub fn packets(&self) -> u64 {
        self.gate.as_ref().map_or(0, Contents::packets)
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
            packets: self.packets(),
        })
    }
}

/// All faults, and what is left of them: those with a table in the order of the tables, then links
/// without one.
pub fn scan(kernel: &mut Kernel) -> Result<Vec<Held>, Failure> {
    let doing = "list the nf_tables tables";
    let tables = nftables::tables(&mut kernel.netfilter)
        .map_err(|refusal| kernel::without_nf_tables(doing, refusal))?;
    let links = link::list(&mut kernel.route).doing(|| "list the interfaces".to_owned())?;
    let mut owners: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for link in &links {
        if let Some(id) = fault::owner_of(link) {
            owners.entry(id).or_default().push(link);
        }
    }
    let emulators: BTreeSet<_> =
        tables.iter().filter_map(|table| fault::id_of_emulator_table(&table.name)).collect();
    let mut held = Vec::new();
    for table in tables {
        let Some(id) = fault::id_of_table(&table.name) else { continue };
        let own = owners.remove(&id).unwrap_or_default();
        // One that went away while we looked is as good as empty.
        let gate = gate::read(kernel, id)?.unwrap_or_default();
        let mut label: Option<Label> = table.comment.and_then(|comment| comment.parse().ok());
        if let (Some(label), Some((timeout_ms, to_ms))) = (&mut label, gate.timer()) {
            label.set_right(timeout_ms, to_ms);
        }
        let netem = match &label {
            Some(Label { kind: Kind::Prio, interfaces, .. }) => {
                read_queue(kernel, interfaces, &links)?
            }
            _ => read_netem(kernel, id, &own)?,
        };
        held.push(Held {
            id,
            gate: Some(gate),
            label,
            netem,
            emulator: emulators.contains(&id),
            emulated: emulator::read_parameters(kernel, id)?,
        });
    }
    for (id, links) in owners {
        let netem = read_netem(kernel, id, &links)?;
        held.push(Held { id, gate: None, label: None, netem, emulator: false, emulated: None });
    }
    Ok(held)
}

fn read_netem(
    kernel: &mut Kernel,
    id: FaultId,
    links: &[&Link],
) -> Result<Option<(NetemOptions, u32)>, KernelError> {
    // All links of a fault are told the same, but for a limit that goes by their MTU.
    let ways = Direction::BOTH.map(|direction| fault::way_in(id, 0, direction));
    let entry = links.iter().find(|link| ways.contains(&link.name));
    let Some(entry) = entry else { return Ok(None) };
    Ok(netem::read_netem(kernel, entry.index)?.map(|options| (options, entry.mtu)))
}

/// The same of a fault that has a queue in its interfaces themselves.
fn read_queue(
    kernel: &mut Kernel,
    interfaces: &[Interface],
    links: &[Link],
) -> Result<Option<(NetemOptions, u32)>, KernelError> {
    let first = interfaces.first().map(ToString::to_string);
    let link = links.iter().find(|link| Some(&link.name) == first.as_ref());
    let Some(link) = link else { return Ok(None) };
    Ok(prio::read_netem(kernel, link.index)?.map(|options| (options, link.mtu)))
}
