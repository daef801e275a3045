//! What the kernel holds of faults: read from it, and from nowhere else.

use std::collections::{BTreeMap, BTreeSet};

use pod_chaos_protocol::{Backend, Failure, FaultId, FaultState, FaultStatus, Interface, Netem};

use crate::{
    clock,
    error::{Doing, KernelError},
    fault::{
        self, emulation, emulator,
        gate::{self, Contents},
        label::{Kind, Label},
        netem, pair,
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

    /// Whether the process has died that it needs: what its gate lets in goes its way.
    pub fn is_abandoned(&self) -> bool {
        self.kind() == Kind::Emulated && !self.emulator && self.timer_ms() > 0
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

    /// The interface that is hit: what the kernel hooks into, or else what the label says.
    pub fn interface(&self) -> Option<Interface> {
        let hooked = self.gate.as_ref().and_then(Contents::interface);
        hooked.or_else(|| self.label.as_ref().map(|label| label.interface.clone()))
    }

    /// For how long it has been in force, or was, in milliseconds.
    pub fn age_ms(&self) -> u64 {
        self.label
            .as_ref()
            .map_or(0, |label| clock::now_ms().min(label.to_ms).saturating_sub(label.from_ms))
    }

    /// What netem does, as a person would ask for it.
    fn parameters(&self) -> Option<Netem> {
        let (options, mtu) = self.netem.as_ref()?;
        let shapes = self.label.as_ref().map(|label| label.shapes.clone()).unwrap_or_default();
        emulation::parameters(options, &shapes, *mtu)
    }

    /// As the plugin is told. `None` for links without a table, which hit nothing and nobody.
    pub fn status(&self) -> Option<FaultStatus> {
        self.gate.as_ref()?;
        Some(FaultStatus {
            fault: self.id,
            state: if self.is_live() { FaultState::InForce } else { FaultState::Expired },
            interface: self.interface()?,
            backend: match self.kind() {
                Kind::Netem => Backend::NetdevEgress,
                Kind::Emulated => Backend::Userspace,
            },
            netem: self.parameters().or_else(|| self.emulated.clone()),
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
    for link in links {
        if let Some(id) = fault::owner_of(&link) {
            owners.entry(id).or_default().push(link);
        }
    }
    let emulators: BTreeSet<_> =
        tables.iter().filter_map(|table| fault::id_of_emulator_table(&table.name)).collect();
    let mut held = Vec::new();
    for table in tables {
        let Some(id) = fault::id_of_table(&table.name) else { continue };
        let links = owners.remove(&id).unwrap_or_default();
        held.push(Held {
            id,
            // One that went away while we looked is as good as empty.
            gate: Some(gate::read(kernel, id)?.unwrap_or_default()),
            label: table.comment.and_then(|comment| comment.parse().ok()),
            netem: read_netem(kernel, id, &links)?,
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
    links: &[Link],
) -> Result<Option<(NetemOptions, u32)>, KernelError> {
    let Some(entry) = pair::entry_of(id, links) else { return Ok(None) };
    Ok(netem::read_netem(kernel, entry.index)?.map(|options| (options, entry.mtu)))
}
