//! No way through: nf_tables alone, no link and no qdisc.
//!
//! - Drop: the [gate](super::gate) stands at the interface. Of what leaves, it hands the packets that are hit
//!   to an interface that does not exist, so that no sender is told; of what comes in, it drops them.
//! - Reject: the gate stands where the pod's own packets begin and end (hooks `output` and `input` of the
//!   family `inet`), because the kernel rejects nothing at the egress of an interface. Packets that the pod
//!   only forwards are not hit.
//!
//! Limits: a connection that is cut does not know it. TCP sends again and again, at longer and longer
//! intervals, so that it goes on some time after the end: up to as long again as the partition lasted.

use pod_chaos_protocol::{
    BadTraffic, Direction, Failure, FailureKind, FaultId, Interface, Partition, PartitionMode,
    Protocol, RunTime, Traffic,
};

use super::{
    clear::{undone, verified},
    gate::{self, Fate, Gate, Way},
    label::{Kind, Label, Shapes},
    selection::Selection,
    table_name,
};
use crate::{
    clock,
    error::{KernelError, failure},
    kernel::Kernel,
    netlink::link::Link,
};

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The fault's id.
    pub id: FaultId,
    /// The interfaces that are hit.
    pub interfaces: Vec<(Interface, Link)>,
    /// Which of their packets.
    pub traffic: Traffic,
    /// What becomes of them.
    pub partition: Partition,
    /// For how long, in milliseconds.
    pub timeout_ms: u64,
}

impl Plan {
    /// Refuses what makes no sense together.
    pub fn new(
        id: FaultId,
        interfaces: Vec<(Interface, Link)>,
        mut traffic: Traffic,
        partition: Partition,
        running_time: RunTime,
    ) -> Result<Self, Failure> {
        let refuse = |message: String| Err(failure(FailureKind::BadRequest, message, None));
        if partition.new_only {
            // Nothing else has a packet that opens a connection.
            if let Some(protocol) = traffic.protocol.filter(|protocol| *protocol != Protocol::Tcp) {
                return refuse(format!("{protocol} has no connections that could be opened"));
            }
            traffic.protocol = Some(Protocol::Tcp);
            traffic.check().map_err(|error| bad_traffic(&error))?;
        }
        if partition.new_only && partition.kill_connections {
            return refuse("connections cannot both be killed and go on".to_owned());
        }
        if partition.kill_connections && traffic.sample.is_some() {
            return refuse("which connections a sample takes, only their packets tell".to_owned());
        }
        let timeout_ms = running_time.as_nanos().div_ceil(1_000_000);
        Ok(Self { id, interfaces, traffic, partition, timeout_ms })
    }

    fn gate(&self) -> Gate {
        let fate = match self.partition.mode {
            PartitionMode::Reject => Fate::Refused,
            _ => Fate::Vanish,
        };
        let mut ways = Vec::new();
        for (number, (interface, link)) in self.interfaces.iter().enumerate() {
            for direction in Direction::BOTH {
                if self.traffic.peers(direction).is_some() {
                    let (interface, target) = (interface.clone(), link.index);
                    ways.push(Way { number, interface, target, direction, fate });
                }
            }
        }
        let from_ms = clock::now_ms();
        let Self { id, timeout_ms, .. } = *self;
        let interfaces = self.interfaces.iter().map(|(name, _)| name.clone()).collect();
        let to_ms = from_ms + timeout_ms;
        Gate {
            id,
            label: Label {
                kind: Kind::Partition,
                interfaces,
                from_ms,
                to_ms,
                shapes: Shapes::default(),
            },
            timeout_ms,
            ways,
            selection: Selection::new(&self.traffic),
            sample: self.traffic.sample,
            new_only: self.partition.new_only,
        }
    }
}

/// As the plugin is told that nothing would be hit.
pub fn bad_traffic(error: &BadTraffic) -> Failure {
    failure(FailureKind::BadRequest, error.to_string(), error.hint())
}

/// Puts the fault in force. When that fails, it undoes what it has made.
pub fn apply(kernel: &mut Kernel, plan: &Plan) -> Result<Gate, Failure> {
    let gate = plan.gate();
    let opened = gate.open(kernel);
    opened.map_err(|failure| undone(kernel, plan.id, failure))?;
    Ok(gate)
}

/// Reads the fault back, compares it with what was asked for, and undoes it when they differ.
pub fn verify(kernel: &mut Kernel, plan: &Plan, gate: &Gate) -> Result<(), Failure> {
    let compared = compare(kernel, gate).map_err(Failure::from);
    verified(kernel, plan.id, compared)
}

fn compare(kernel: &mut Kernel, gate: &Gate) -> Result<Vec<String>, KernelError> {
    Ok(match gate::read(kernel, gate.id)? {
        Some(contents) => gate.compare(&contents),
        None => vec![format!("no table {}", table_name(gate.id))],
    })
}
