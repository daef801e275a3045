//! What is to be done to a pod.

use serde::{Deserialize, Serialize};

use crate::{Backend, FaultId, Interface, Netem, RunTime};

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
}

/// The kinds of fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fault {
    /// Slow, lossy, … traffic, by the kernel's netem.
    Netem(Box<NetemFault>),
}

/// A worse network on one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NetemFault {
    /// The interface whose egress is hit; `None` is the one that carries the default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
    /// How much worse.
    pub netem: Netem,
    /// How to do it; `None` is the best that the kernel can.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
}
