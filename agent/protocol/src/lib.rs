//! What the `kubectl pod-chaos` plugin and its agent say to each other.
//!
//! The plugin runs `pod-chaos-agent serve` in the agent's container through `pods/exec`. Both sides
//! write one JSON value per line: the agent [`Event`]s on its stdout, the plugin [`Request`]s on its
//! stdin. The agent speaks first, with [`Event::Hello`], and the plugin sends nothing before it has
//! read that: a plan can therefore never reach an agent that does not understand it, nor one that
//! wakes up long after the plugin has gone. A new agent gets its first plan in its arguments, as
//! [`Carried`], which sees to the same in another way.
//!
//! The types hold no I/O and no Linux: the plugin builds for macOS and Windows with them. Numbers
//! that people write (`1.5s`, `100ms`) are parsed once, by the [`std::str::FromStr`] of their type,
//! which serde uses too.
#![forbid(unsafe_code)]

mod address;
mod burn;
mod carried;
mod chance;
mod distribution;
mod endpoint;
mod fault;
mod fill;
mod host;
mod loss;
mod message;
mod name;
mod netem;
mod observe;
mod percentage;
mod port;
mod probe;
mod process;
mod rate;
mod reorder;
mod sample;
mod signal;
mod size;
mod slot;
mod syscall;
mod time;
mod traffic;
mod words;

pub use address::{BadCidr, Cidr};
pub use burn::{
    BadIo, BadMemory, CpuBurn, CpuLoad, CpuUsage, CpuWhole, IoBurn, IoUsage, MemoryBurn,
    MemoryLoad, MemoryUsage, Pace,
};
pub use carried::Carried;
pub use chance::Chance;
pub use distribution::{BadDistribution, Distribution, Table};
pub use endpoint::{BadEndpoint, Endpoint};
pub use fault::{Fault, NetemFault, Partition, PartitionMode, Plan};
pub use fill::{DiskFill, DiskLoad, DiskUsage};
pub use host::{BadHost, Host, HostName, Peer};
pub use loss::{FourStates, GilbertElliott, Loss};
pub use message::{
    Backend, Ending, Event, Failure, FailureKind, FaultState, FaultStatus, Phase, Request,
};
pub use name::{BadName, FaultId, Interface};
pub use netem::{BadNetem, Netem};
pub use observe::{Carriage, Metrics, Observation};
pub use percentage::{BadPercentage, Percentage};
pub use port::{BadPorts, Ports, Protocol};
pub use probe::{BadProbe, Probe, ProbeHost};
pub use process::{
    BadProcesses, ContainerId, ProcessFault, ProcessInfo, ProcessPattern, ProcessPlan,
    ProcessStatus, Processes,
};
pub use rate::{BadRate, Cell, Link, Rate};
pub use reorder::Reorder;
pub use sample::{BadShare, Sample, Share};
pub use signal::{BadSignal, Disposition, ProcessSignal, SignalName, SignalPlan};
pub use size::{BadSize, Size};
pub use slot::{Distance, Slot};
pub use syscall::{
    Architecture, BadCall, BadErrorNumber, BadPath, BadSyscallFault, BadWhen, Call, CallCount,
    CallCounts, Calls, Chosen, ErrorNumber, FileArgument, PathPattern, Set, SyscallFault, When,
};
pub use time::{BadTime, Latency, RunTime};
pub use traffic::{BadTraffic, Direction, MAX_INTERFACES, Peers, Source, Target, Traffic, dns};
pub use words::BadOption;

/// The version of this protocol. Raised when an older peer would misunderstand a newer one; adding
/// an optional field or a variant that is only sent on request does not raise it.
pub const PROTOCOL: u16 = 1;

/// Names of agent containers and of everything the agent makes in the kernel start with this.
pub const OWNER: &str = "pod-chaos";

macro_rules! serde_as_text {
    ($type:ty) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}
pub(crate) use serde_as_text;
