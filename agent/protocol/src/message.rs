//! The lines that go to the agent and the lines that come from it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    CallCounts, CpuUsage, Direction, DiskUsage, Endpoint, FaultId, Interface, IoUsage, MemoryUsage,
    Metrics, Netem, Observation, Partition, Plan, Probe, ProcessInfo, ProcessPlan, ProcessSignal,
    ProcessStatus, Processes, SignalPlan, Traffic,
};

/// A line from the plugin. An agent refuses a field that it does not know: what it leaves out might matter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// Put this fault in force and stay until it has ended. Answers: [`Event::Probed`],
    /// [`Event::InForce`], [`Event::Ended`], or [`Event::Failed`]. While it runs, a
    /// [`Request::Revert`] on the same stream ends it at once; the end of the stream does not.
    ///
    /// A plan that the container was given in its arguments ([`crate::Carried`]) and that has been
    /// acted upon is not put in force again: this request then joins it.
    Apply {
        /// The fault.
        plan: Plan,
    },
    /// The same for a fault on processes. Answers: [`Event::Found`], [`Event::ProcessInForce`],
    /// [`Event::Ended`], or [`Event::Failed`]. It lasts no longer than the agent that was asked.
    Disturb {
        /// The fault.
        plan: ProcessPlan,
    },
    /// Tell what the container that the asked process is in uses. Answers: one [`Event::Observed`] after each
    /// interval, up to the end of the time or of the stream.
    Observe {
        /// How often, and for how long.
        plan: Observation,
    },
    /// Send a signal, once. Answers: [`Event::Signals`], then nothing more, or [`Event::Failed`]. The stream ends
    /// when who was killed is gone; with the container's main process the agent goes too.
    Signal {
        /// Which one, to whom.
        plan: SignalPlan,
    },
    /// Have a process that is the same user as the container's main one, until the stream ends. Answer:
    /// [`Event::Anchored`], or [`Event::Failed`].
    Anchor {
        /// Whose main process.
        target: Processes,
    },
    /// What is in force? Answer: [`Event::Status`].
    Status,
    /// End faults now, and clear what earlier agents left. Answer: one [`Event::Ended`] for each
    /// fault found, then [`Event::Status`].
    Revert {
        /// Only this one; `None` ends all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<FaultId>,
    },
    /// What a target of the plugin's ([`crate::Source::Plugin`]) stands for now. Only on the stream of a fault
    /// that runs. Answer: [`Event::Retargeted`] or [`Event::Kept`].
    Retarget {
        /// The target's name in the plan.
        target: String,
        /// All of its endpoints, none of them if there are none any more.
        endpoints: Vec<Endpoint>,
    },
    /// As [`Request::Revert`] of everything; then the waiting agent exits, and its container with it. The same in all
    /// protocols.
    Stop,
}

/// A line from the agent. A plugin passes over fields that it does not know, and over events of a kind that it does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// The first line, always, with these fields in all protocols.
    Hello {
        /// [`crate::PROTOCOL`] of the agent.
        protocol: u16,
        /// Version of the agent's package.
        version: String,
        /// Its process, in the process namespace of its container. Others of the namespace can be started from the
        /// same file by `/proc/PID/exe`.
        #[serde(default)]
        pid: u32,
    },
    /// What the agent found and chose; nothing has been changed yet.
    Probed {
        /// The interfaces that will be hit.
        interfaces: Vec<Interface>,
        /// How it will be done.
        backend: Backend,
        /// The kernel's release, as `uname -r` prints it.
        kernel: String,
    },
    /// The fault is in force, and was read back from the kernel.
    InForce {
        /// As read back.
        status: Box<FaultStatus>,
    },
    /// The processes that a fault will be done to; nothing has been changed yet.
    Found {
        /// In the order of their ids.
        processes: Vec<ProcessInfo>,
    },
    /// The fault on processes is in force, and was read back from the kernel.
    ProcessInForce {
        /// As read back.
        status: ProcessStatus,
    },
    /// There is a process that is the same user as the container's main one.
    Anchored {
        /// Its id, in the container's process namespace.
        pid: u32,
    },
    /// Signals that are about to be sent.
    Signals {
        /// In the order of their processes' ids.
        signals: Vec<ProcessSignal>,
    },
    /// What the container has used of processors, beside or with a fault that burns them.
    CpuUsed {
        /// When that was.
        phase: Phase,
        /// By its control group.
        usage: CpuUsage,
    },
    /// What the container uses of memory: before a fault that holds some, last while it is in force, and after it.
    MemoryUsed {
        /// When that was.
        phase: Phase,
        /// By its control group.
        usage: MemoryUsage,
    },
    /// How full the file system is: before a fault that fills it, last while it is in force, and after it.
    DiskUsed {
        /// When that was.
        phase: Phase,
        /// As `df` has it.
        usage: DiskUsage,
    },
    /// What has been read and written to keep a disk busy.
    IoUsed {
        /// When that was.
        phase: Phase,
        /// By who did it, and by the kernel.
        usage: IoUsage,
    },
    /// The kernel has killed processes of the container, because its memory was used up.
    OutOfMemory {
        /// How often, as the control group counts.
        kills: u64,
        /// Those that are gone, as far as they were seen before.
        processes: Vec<ProcessInfo>,
    },
    /// The system calls that a fault has seen and hit so far; once a second, when there are new ones.
    Calls {
        /// Since it has been in force.
        counts: CallCounts,
    },
    /// What a container uses.
    Observed {
        /// Since the last time.
        metrics: Metrics,
    },
    /// The fault is over.
    Ended {
        /// Which one.
        fault: FaultId,
        /// What ended it.
        by: Ending,
        /// For how long it was in force, in milliseconds.
        ran_ms: u64,
        /// Packets that it hit, if it is one that hits packets: a super-packet of TCP is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        packets: Option<u64>,
        /// As [`FaultStatus::delayed`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delayed: Option<u64>,
        /// As [`FaultStatus::dropped`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        dropped: Option<u64>,
        /// System calls that it saw and hit, if it is about these.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        calls: Option<CallCounts>,
        /// What the read-back afterwards still found of it: links, qdiscs, tables. Empty is clean.
        left: Vec<String>,
        /// What went wrong during the clean-up; each step was tried all the same.
        errors: Vec<String>,
    },
    /// Whether traffic passes again; said before [`Event::Ended`], if the plan has a probe.
    Resumed {
        /// What was tried to reach.
        probe: Probe,
        /// How long after the end a connection was begun that came about, in milliseconds; `None` when none did
        /// for some seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after_ms: Option<u64>,
        /// How many came about while the fault was in force.
        passed_meanwhile: u32,
    },
    /// A named target stands for other addresses than before, and the kernel holds them.
    Retargeted {
        /// Its name in the plan.
        target: String,
        /// How many were added.
        added: usize,
        /// How many were taken away.
        removed: usize,
        /// How many there are now.
        addresses: usize,
        /// Those that are left out because another fault hits them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        skipped: Vec<Endpoint>,
    },
    /// What a named target stands for is not known any more, or could not be changed: it stays what it was.
    Kept {
        /// Its name in the plan.
        target: String,
        /// Why.
        message: String,
    },
    /// Another fault was in the way, and has been ended because the plan says so; nothing is left of it.
    Replaced {
        /// Which one.
        fault: FaultId,
    },
    /// TCP connections were ended, because the plan says so.
    Killed {
        /// How many.
        connections: u32,
    },
    /// A fault that a process of the pod carries, of which that process does not say what can be understood: it may be
    /// of another version. Said before [`Event::Status`], which lacks it.
    Untold {
        /// Which one.
        fault: FaultId,
        /// What is wrong with its answer.
        why: String,
    },
    /// The faults that are in force now.
    Status {
        /// In the order of their tables.
        faults: Vec<FaultStatus>,
        /// Those on processes, of all containers of the pod.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        processes: Vec<ProcessStatus>,
    },
    /// The request could not be carried out; what had been begun was undone.
    Failed {
        /// Why.
        failure: Failure,
    },
    /// What only a later version says. Never sent.
    #[serde(other)]
    Unknown,
}

/// A time, seen from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// A moment before it.
    Before,
    /// All of its time.
    During,
    /// A moment after it.
    After,
}

impl fmt::Display for Phase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Before => "before",
            Self::During => "during",
            Self::After => "after",
        })
    }
}

/// A fault as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FaultStatus {
    /// Which one.
    pub fault: FaultId,
    /// Whether it still acts.
    pub state: FaultState,
    /// The interfaces that are hit.
    pub interfaces: Vec<Interface>,
    /// The traffic that is hit, as the kernel's sets have it: what was asked for, but in other words.
    /// `None` for what another version of the agent has made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
    /// How it is done.
    pub backend: Backend,
    /// The parameters of the kernel's qdisc; `None` when the qdisc has gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netem: Option<Netem>,
    /// What a partition does, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Partition>,
    /// Since when it has been in force, in milliseconds.
    pub age_ms: u64,
    /// What the kernel's timer has left, in milliseconds.
    pub remaining_ms: u64,
    /// Packets that it has hit so far: a super-packet of TCP is one.
    pub packets: u64,
    /// Packets that it has held for some time so far, those that it holds now included; as they would be on the
    /// wire, and each of two if it sends them twice. `None` of an agent that does not count them, or when a fault
    /// that needs its agent has lost it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delayed: Option<u64>,
    /// The same of packets that it has thrown away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
}

/// Whether a fault acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FaultState {
    /// It does what it is there for.
    InForce,
    /// The kernel has ended it; what is left matches nothing and waits to be cleared.
    Expired,
}

/// How a network fault is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Backend {
    /// An nf_tables netdev egress chain sends the traffic through netem on a link of its own.
    NetdevEgress,
    /// nf_tables netdev chains send the traffic of both directions through netem on links of their own.
    NetdevBoth,
    /// An nf_tables netdev ingress chain sends the traffic through netem on a link of its own.
    NetdevIngress,
    /// nf_tables netdev chains make the traffic vanish.
    NetdevDrop,
    /// nf_tables inet chains refuse the traffic.
    InetReject,
    /// nf_tables inet chains have the interface's own qdisc send the traffic through netem: for kernels
    /// without the egress hook.
    Prio,
    /// An nf_tables netdev egress chain hands the traffic to the agent, which does what netem would: for
    /// kernels without it. It lasts as long as the agent lives.
    Userspace,
    /// As only a later version does it. Never sent.
    #[serde(other)]
    Unknown,
}

impl Backend {
    /// How netem gets the packets of these directions, where nf_tables has all hooks.
    pub fn by_netem(directions: &[Direction]) -> Self {
        match directions {
            [Direction::Egress, Direction::Ingress] => Self::NetdevBoth,
            [Direction::Ingress] => Self::NetdevIngress,
            _ => Self::NetdevEgress,
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::NetdevEgress => "netem behind an nf_tables egress hook",
            Self::NetdevIngress => "netem behind an nf_tables ingress hook",
            Self::NetdevBoth => "netem behind nf_tables egress and ingress hooks",
            Self::NetdevDrop => "an nf_tables netdev drop",
            Self::InetReject => "an nf_tables inet reject",
            Self::Prio => "netem in a queue of the interface itself",
            Self::Userspace => "the agent itself, behind an nf_tables egress hook",
            Self::Unknown => "a way that this version does not know",
        })
    }
}

/// What ended a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Ending {
    /// The kernel's timer, at the deadline.
    Timer,
    /// A request to revert.
    Request,
    /// Someone else cleared it.
    Elsewhere,
    /// The timer of the process that carries it, at the deadline.
    Deadline,
    /// All processes that it was done to have ended.
    Gone,
    /// The end of the agent that did it.
    Agent,
    /// What only a later version knows. Never sent.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Ending {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Timer => "the kernel's timer",
            Self::Request => "request",
            Self::Elsewhere => "someone else",
            Self::Deadline => "its deadline",
            Self::Gone => "the end of its processes",
            Self::Agent => "the end of its agent",
            Self::Unknown => "what this version does not know",
        })
    }
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of reason.
    pub kind: FailureKind,
    /// What was being done, to what, and what went wrong; lower case, no full stop.
    pub message: String,
    /// What the user can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Kinds of failure, as far as a caller acts differently on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The request makes no sense to this agent.
    BadRequest,
    /// No such interface, no default route, no such fault.
    NotFound,
    /// Another fault is in the way.
    Conflict,
    /// The fault was in force, has ended, and somebody has cleared it before it could be read back.
    Gone,
    /// This kernel cannot do it.
    Unsupported,
    /// This agent may not do it: another one with more capabilities might.
    NotPermitted,
    /// The kernel refused a step, or read back differently; everything was undone.
    Kernel,
    /// As `Kernel`, and not everything could be undone.
    NotClean,
    /// What only a later version tells apart. Never sent.
    #[serde(other)]
    Unknown,
}

impl FailureKind {
    /// Whether nothing had been changed when the request failed.
    pub const fn nothing_touched(self) -> bool {
        matches!(self, Self::BadRequest | Self::NotFound | Self::Conflict | Self::Unsupported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the agent of 0.1.0 writes them, and as it reads what it has no words for.
    #[test]
    fn agents_that_count_only_what_is_hit_are_understood() {
        let ended = r#"{"event":"ended","fault":"0000000a","by":"timer","ran_ms":5,"packets":7,"left":[],"errors":[]}"#;
        let Ok(Event::Ended { packets: Some(7), delayed: None, dropped: None, .. }) =
            serde_json::from_str(ended)
        else {
            panic!("{ended}");
        };
        let status = r#"{"fault":"0000000a","state":"in-force","interfaces":["eth0"],"backend":"prio",
            "age-ms":1,"remaining-ms":2,"packets":7}"#;
        let status: FaultStatus = serde_json::from_str(status).unwrap();
        assert_eq!((status.packets, status.delayed, status.dropped), (7, None, None));
        let more = FaultStatus { delayed: Some(5), dropped: Some(2), ..status };
        let more = serde_json::to_value(more).unwrap();
        assert_eq!((&more["delayed"], &more["dropped"]), (&5.into(), &2.into()));
    }
}
