//! What is to be done to the processes of a container.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    CallCounts, CpuBurn, DiskFill, FaultId, FaultState, IoBurn, MemoryBurn, RunTime, SyscallFault,
    serde_as_text,
};

/// One fault, on processes of one container, for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProcessPlan {
    /// Chosen by the plugin.
    pub id: FaultId,
    /// Counts from the moment the fault is in force.
    pub running_time: RunTime,
    /// Whom it is done to.
    pub target: Processes,
    /// What is done to them.
    pub fault: ProcessFault,
}

/// Processes of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Processes {
    /// The container's name in its pod, for messages.
    pub container: String,
    /// Which run of that container: its successor after a restart has another id.
    pub id: ContainerId,
    /// Only those that match; all of them when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<ProcessPattern>,
}

/// The kinds of fault that last, and are done to processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ProcessFault {
    /// None of their threads runs.
    Pause,
    /// Beside them, processor time is used up.
    BurnCpu(CpuBurn),
    /// Beside them, memory is held.
    BurnMemory(MemoryBurn),
    /// Their system calls fail, take long, or are accompanied by a signal.
    Syscall(Box<SyscallFault>),
    /// Beside them, a disk is kept busy.
    BurnIo(IoBurn),
    /// Beside them, room on a disk is taken.
    FillDisk(DiskFill),
}

/// In a few words.
impl fmt::Display for ProcessFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pause => out.write_str("pause"),
            Self::BurnCpu(burn) => burn.fmt(out),
            Self::BurnMemory(burn) => burn.fmt(out),
            Self::Syscall(fault) => fault.fmt(out),
            Self::BurnIo(burn) => burn.fmt(out),
            Self::FillDisk(fill) => fill.fmt(out),
        }
    }
}

/// A fault on processes, as the process has it that carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProcessStatus {
    /// Which one.
    pub fault: FaultId,
    /// Whether it still acts.
    pub state: FaultState,
    /// Whom it was to be done to.
    pub target: Processes,
    /// What is done to them.
    pub doing: ProcessFault,
    /// How many processes it is done to.
    pub processes: u32,
    /// How many threads they have.
    pub threads: u32,
    /// Their system calls, if the fault is about these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<CallCounts>,
    /// Since when it has been in force, in milliseconds.
    pub age_ms: u64,
    /// What is left of its time, in milliseconds.
    pub remaining_ms: u64,
}

/// A process of the target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProcessInfo {
    /// Its id, in the container's process namespace.
    pub pid: u32,
    /// Its name, as `ps -o comm` prints it.
    pub name: String,
    /// How many threads it has.
    pub threads: u32,
}

/// Why text about processes was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadProcesses {
    /// Not what a container runtime calls a container.
    #[error(
        "`{0}` is not a container's id (hexadecimal digits, as containerd and CRI-O have them)"
    )]
    ContainerId(String),
    /// Not a regular expression.
    #[error("`{0}` is not a regular expression: {1}")]
    Pattern(String, String),
}

/// What a runtime calls one run of a container: hexadecimal digits. `containerd://ID` is taken too, as the
/// pod's status has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// The shortest that is unlikely to be part of another word.
    const MIN_LENGTH: usize = 12;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = BadProcesses;

    fn from_str(text: &str) -> Result<Self, BadProcesses> {
        let id = text.split_once("://").map_or(text, |(_, id)| id);
        let fits = (Self::MIN_LENGTH..=128).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_hexdigit());
        if fits { Ok(Self(id.to_owned())) } else { Err(BadProcesses::ContainerId(text.to_owned())) }
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

serde_as_text!(ContainerId);

/// A regular expression that is looked for in the command line of processes (its words with a space in
/// between), and in their names.
#[derive(Clone, Debug)]
pub struct ProcessPattern(regex_lite::Regex);

impl ProcessPattern {
    /// Whether a process with this name and command line is meant.
    pub fn matches(&self, name: &str, command_line: &str) -> bool {
        self.0.is_match(name) || self.0.is_match(command_line)
    }
}

impl FromStr for ProcessPattern {
    type Err = BadProcesses;

    fn from_str(text: &str) -> Result<Self, BadProcesses> {
        regex_lite::Regex::new(text)
            .map(Self)
            .map_err(|error| BadProcesses::Pattern(text.to_owned(), error.to_string()))
    }
}

impl PartialEq for ProcessPattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for ProcessPattern {}

impl fmt::Display for ProcessPattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.as_str())
    }
}

serde_as_text!(ProcessPattern);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_taken_as_the_status_has_them() {
        let digits = "0123456789abcdef".repeat(4);
        for text in [digits.clone(), format!("containerd://{digits}"), format!("cri-o://{digits}")]
        {
            assert_eq!(text.parse::<ContainerId>().unwrap().as_str(), digits);
        }
        for text in ["", "abc", "containerd://", "../../../../etc", "0123456789ab/"] {
            assert!(text.parse::<ContainerId>().is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_are_looked_for_in_name_and_command_line() {
        let pattern: ProcessPattern = "^nginx: worker".parse().unwrap();
        assert!(pattern.matches("nginx", "nginx: worker process"));
        assert!(!pattern.matches("nginx", "nginx: master process"));
        assert!("^ngin".parse::<ProcessPattern>().unwrap().matches("nginx", "/usr/sbin/nginx"));
        assert!("(".parse::<ProcessPattern>().is_err());
    }

    #[test]
    fn a_plan_is_read_back() {
        let json = r#"{"id":"0badcafe","running-time":"30s","target":{"container":"app","id":"0123456789abcdef","matching":"java"},"fault":"pause"}"#;
        let plan: ProcessPlan = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&plan).unwrap(), json);
    }
}
