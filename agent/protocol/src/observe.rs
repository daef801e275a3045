//! What a container uses, second by second.

use serde::{Deserialize, Serialize};

use crate::{CallCount, ContainerId, CpuUsage, RunTime};

/// What to look at: the container that the agent's process is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Observation {
    /// How often.
    pub every: RunTime,
    /// For how long, at most.
    pub running_time: RunTime,
    /// The container's id, by which faults that count its system calls are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerId>,
}

/// What a container has used in a span, and what it has at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Metrics {
    /// Processor time in the span, by its control group.
    pub cpu: CpuUsage,
    /// Memory, by its control group, in bytes.
    pub memory_bytes: u64,
    /// The same without file contents that nobody has used of late: what the kubelet evicts pods by.
    pub working_set_bytes: u64,
    /// Processes, without the agent's.
    pub processes: u32,
    /// Their threads.
    pub threads: u32,
    /// How often these gave up the processor in the span, to wait for something.
    pub voluntary_switches: u64,
    /// And how often it was taken from them.
    pub involuntary_switches: u64,
    /// What the pod's interfaces received in the span, the loopback interface left out.
    pub received: Carriage,
    /// What they sent.
    pub sent: Carriage,
    /// System calls in the span that faults are about which count them, once for each such fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<CallCount>,
}

/// What interfaces have carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Carriage {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}
