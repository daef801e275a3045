//! What is to be done to a pod.

use serde::{Deserialize, Serialize};

use crate::{Backend, FaultId, Netem, Probe, RunTime, Traffic};

/// One fault, on one pod, for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Plan {
    /// Chosen by the plugin.
    pub id: FaultId,
    /// Counts from the moment the fault is in force.
    pub running_time: RunTime,
    /// What to do.
    pub fault: Fault,
    /// Which traffic it is done to.
    #[serde(default, skip_serializing_if = "Traffic::is_default")]
    pub traffic: Traffic,
    /// End faults that hit some of the same traffic first, instead of refusing to start.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// Try to reach this while it runs, and say when that succeeds again afterwards ([`crate::Event::Resumed`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// The kinds of fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fault {
    /// Slow, lossy, … traffic, by the kernel's netem.
    Netem(Box<NetemFault>),
    /// No traffic, by the kernel's nf_tables.
    Partition(Partition),
}

/// No way through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Partition {
    /// What becomes of a packet.
    pub mode: PartitionMode,
    /// End the pod's TCP connections that match, as soon as the partition is in force.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kill_connections: bool,
    /// Hit only what opens a TCP connection; those that are open go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_only: bool,
}

/// What a partition does to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PartitionMode {
    /// It vanishes, and its sender is told nothing.
    Drop,
    /// Its sender is told: TCP by a reset, everything else by an ICMP message that the port cannot be
    /// reached.
    Reject,
}

/// A worse network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetemFault {
    /// How much worse.
    pub netem: Netem,
    /// How to do it; `None` is the best that the kernel can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
}
