//! What is put into images: the agent's binaries that this plugin brings, and the plugin itself.

use std::{fmt, io::Read as _};

use clap::ValueEnum;
use flate2::read::GzDecoder;

/// The architecture of a node, as Kubernetes and container images name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// AArch64.
    Arm64,
}

impl Architecture {
    /// That of this machine, if it is one of them: the nodes of a local cluster have the same.
    pub fn of_this_machine() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::Amd64),
            "aarch64" => Some(Self::Arm64),
            _ => None,
        }
    }

    /// As `uname -m` prints it.
    pub const fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// As an image's configuration has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// What a program is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To wait beside a pod's containers.
    Agent,
    /// To run in the cluster what else runs on somebody's machine.
    Plugin,
}

impl Kind {
    /// Its file in the image; that of the agent is started by `src/cluster/agent.rs`.
    pub const fn file(self) -> &'static str {
        match self {
            Self::Agent => "pod-chaos-agent",
            Self::Plugin => "kubectl-pod_chaos",
        }
    }

    /// What it does when it is told nothing else.
    pub const fn command(self) -> &'static str {
        match self {
            Self::Agent => "wait",
            Self::Plugin => "--help",
        }
    }
}

/// A static binary for Linux.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// What it is there for.
    pub kind: Kind,
    /// What it runs on.
    pub architecture: Architecture,
    /// The file.
    pub binary: Vec<u8>,
}

/// Why a file is no agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProgram {
    /// Of another format.
    #[error("it is no Linux program")]
    NotElf,
    /// For another processor; the number of `e_machine`.
    #[error("it is for another processor than amd64 or arm64 (ELF machine {0})")]
    OtherMachine(u16),
    /// The image has no loader and no libraries.
    #[error("it is not static: it needs libraries, which the image does not have")]
    Dynamic,
}

impl Program {
    /// Reads the architecture from the head of the file: `Elf64_Ehdr` of elf(5).
    pub fn new(kind: Kind, binary: Vec<u8>) -> Result<Self, BadProgram> {
        let (Some(b"\x7fELF\x02\x01"), Some(&[low, high])) = (binary.get(..6), binary.get(18..20))
        else {
            return Err(BadProgram::NotElf);
        };
        let architecture = match u16::from_le_bytes([low, high]) {
            62 => Architecture::Amd64,
            183 => Architecture::Arm64,
            other => return Err(BadProgram::OtherMachine(other)),
        };
        if has_interpreter(&binary) {
            return Err(BadProgram::Dynamic);
        }
        Ok(Self { kind, architecture, binary })
    }
}

/// Whether it asks for a loader: one of its `Elf64_Phdr` is `PT_INTERP` (elf(5)).
fn has_interpreter(binary: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, length: usize| {
        let bytes = binary.get(at..at.checked_add(length)?)?;
        bytes
            .iter()
            .rev()
            .try_fold(0, |sum: usize, byte| sum.checked_mul(256)?.checked_add(usize::from(*byte)))
    };
    let (Some(table), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2))
    else {
        return false;
    };
    let mut entries = (0..count).filter_map(|index| number(table.checked_add(index * size)?, 4));
    entries.any(|kind| u32::try_from(kind) == Ok(PT_INTERP))
}

/// The agents that were put into this plugin when it was built; a plain `cargo build` puts in none
/// (`build.rs`).
pub fn built_in() -> Vec<Program> {
    let packed: [(Architecture, &[u8]); 2] = [
        (Architecture::Amd64, include_bytes!(concat!(env!("OUT_DIR"), "/agent-amd64.gz"))),
        (Architecture::Arm64, include_bytes!(concat!(env!("OUT_DIR"), "/agent-arm64.gz"))),
    ];
    let unpack = |(architecture, packed): (Architecture, &[u8])| {
        let mut binary = Vec::new();
        let read = GzDecoder::new(packed).read_to_end(&mut binary);
        (!packed.is_empty() && read.is_ok()).then_some(Program {
            kind: Kind::Agent,
            architecture,
            binary,
        })
    };
    packed.into_iter().filter_map(unpack).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_architecture_from_the_head() {
        let file = |machine: u8| {
            let mut file = b"\x7fELF\x02\x01".to_vec();
            file.resize(64, 0);
            file[18] = machine;
            file
        };
        let architecture =
            |file: Vec<u8>| Program::new(Kind::Agent, file).map(|agent| agent.architecture);
        assert_eq!(architecture(file(62)), Ok(Architecture::Amd64));
        assert_eq!(architecture(file(183)), Ok(Architecture::Arm64));
        assert_eq!(architecture(file(40)), Err(BadProgram::OtherMachine(40)));
        assert_eq!(
            architecture(b"#!/bin/sh\nexit 0 # long enough".to_vec()),
            Err(BadProgram::NotElf)
        );
        assert_eq!(architecture(Vec::new()), Err(BadProgram::NotElf));
    }

    #[test]
    fn what_needs_a_loader_is_told() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let is_static = cfg!(target_feature = "crt-static");
        assert_eq!(Program::new(Kind::Plugin, own).is_ok(), is_static && cfg!(target_os = "linux"));
    }

    #[test]
    fn what_is_built_in_is_of_the_architecture_it_is_filed_under() {
        for agent in built_in() {
            let read = Program::new(Kind::Agent, agent.binary).map(|read| read.architecture);
            assert_eq!(read, Ok(agent.architecture));
        }
    }
}
