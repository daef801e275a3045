//! What the kernel holds of faults: read from it, and from nowhere else.

use std::collections::BTreeMap;

use pod_chaos_protocol::{
    Backend, Direction, Failure, FaultId, FaultState, FaultStatus, Interface, Latency, Netem,
    Partition, PartitionMode, Traffic,
};

use crate::{
    clock,
    error::{Doing, KernelError},
    fault::{
        self,
        gate::{self, Contents},
        label::{Kind, Label},
        netem,
    },
    kernel::{self, Kernel},
    netlink::{
        link::{self, Link},
        nftables,
        qdisc::NetemOptions,
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
    /// What netem has been told, when its links are there.
    pub netem: Option<NetemOptions>,
}

impl Held {
    /// Whether packets are hit.
    pub fn is_live(&self) -> bool {
        self.remaining_ms() > 0
    }

    /// For how much longer, in milliseconds.
    pub fn remaining_ms(&self) -> u64 {
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
        let gate = self.gate.as_ref()?;
        self.label.as_ref().filter(|label| label.kind == Kind::Partition)?;
        let mode = if gate.refuses() { PartitionMode::Reject } else { PartitionMode::Drop };
        Some(Partition { mode, kill_connections: false, new_only: gate.is_new_only() })
    }

    /// For how long it has been in force, or was, in milliseconds.
    pub fn age_ms(&self) -> u64 {
        self.label
            .as_ref()
            .map_or(0, |label| clock::now_ms().min(label.to_ms).saturating_sub(label.from_ms))
    }

    /// As the plugin is told. `None` for links without a table, which hit nothing and nobody.
    pub fn status(&self) -> Option<FaultStatus> {
        let directions = self.gate.as_ref()?.selection().directions;
        let partition = self.partition();
        let backend = match (partition, &directions[..]) {
            (Some(Partition { mode: PartitionMode::Reject, .. }), _) => Backend::InetReject,
            (Some(_), _) => Backend::NetdevDrop,
            (None, directions) => netem_backend(directions),
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
            netem: self.netem.and_then(parameters),
            partition,
            age_ms: self.age_ms(),
            remaining_ms: self.remaining_ms(),
            packets: self.packets(),
        })
    }
}

/// How netem gets the packets of these directions.
pub fn netem_backend(directions: &[Direction]) -> Backend {
    match directions {
        [Direction::Egress, Direction::Ingress] => Backend::NetdevBoth,
        [Direction::Ingress] => Backend::NetdevIngress,
        _ => Backend::NetdevEgress,
    }
}

/// `None` when the kernel holds more than anyone could have asked for.
fn parameters(options: NetemOptions) -> Option<Netem> {
    Some(Netem {
        delay: Latency::from_nanos(options.delay).ok()?,
        jitter: Latency::from_nanos(options.jitter).ok()?,
    })
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
        });
    }
    for (id, links) in owners {
        let netem = read_netem(kernel, id, &links)?;
        held.push(Held { id, gate: None, label: None, netem });
    }
    Ok(held)
}

fn read_netem(
    kernel: &mut Kernel,
    id: FaultId,
    links: &[Link],
) -> Result<Option<NetemOptions>, KernelError> {
    // All links of a fault are told the same.
    let ways = Direction::BOTH.map(|direction| fault::way_in(id, 0, direction));
    let entry = links.iter().find(|link| ways.contains(&link.name));
    entry.map_or(Ok(None), |entry| netem::read_netem(kernel, entry.index))
}
