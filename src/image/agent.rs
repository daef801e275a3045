//! The agent's binaries that this plugin brings.

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

/// A binary of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// What it runs on.
    pub architecture: Architecture,
    /// The file.
    pub binary: Vec<u8>,
}

/// Why a file is no agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAgent {
    /// Of another format.
    #[error("it is no Linux program")]
    NotElf,
    /// For another processor; the number of `e_machine`.
    #[error("it is for another processor than amd64 or arm64 (ELF machine {0})")]
    OtherMachine(u16),
}

impl TryFrom<Vec<u8>> for Agent {
    type Error = BadAgent;

    /// Reads the architecture from the head of the file: `Elf64_Ehdr` of elf(5).
    fn try_from(binary: Vec<u8>) -> Result<Self, BadAgent> {
        let (Some(b"\x7fELF\x02\x01"), Some(&[low, high])) = (binary.get(..6), binary.get(18..20))
        else {
            return Err(BadAgent::NotElf);
        };
        let architecture = match u16::from_le_bytes([low, high]) {
            62 => Architecture::Amd64,
            183 => Architecture::Arm64,
            other => return Err(BadAgent::OtherMachine(other)),
        };
        Ok(Self { architecture, binary })
    }
}

/// The agents that were put into this plugin when it was built; a plain `cargo build` puts in none
/// (`build.rs`).
pub fn built_in() -> Vec<Agent> {
    let packed: [(Architecture, &[u8]); 2] = [
        (Architecture::Amd64, include_bytes!(concat!(env!("OUT_DIR"), "/agent-amd64.gz"))),
        (Architecture::Arm64, include_bytes!(concat!(env!("OUT_DIR"), "/agent-arm64.gz"))),
    ];
    let unpack = |(architecture, packed): (Architecture, &[u8])| {
        let mut binary = Vec::new();
        let read = GzDecoder::new(packed).read_to_end(&mut binary);
        (!packed.is_empty() && read.is_ok()).then_some(Agent { architecture, binary })
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
        let architecture = |file: Vec<u8>| Agent::try_from(file).map(|agent| agent.architecture);
        assert_eq!(architecture(file(62)), Ok(Architecture::Amd64));
        assert_eq!(architecture(file(183)), Ok(Architecture::Arm64));
        assert_eq!(architecture(file(40)), Err(BadAgent::OtherMachine(40)));
        assert_eq!(
            architecture(b"#!/bin/sh\nexit 0 # long enough".to_vec()),
            Err(BadAgent::NotElf)
        );
        assert_eq!(architecture(Vec::new()), Err(BadAgent::NotElf));
    }

    #[test]
    fn what_is_built_in_is_of_the_architecture_it_is_filed_under() {
        for agent in built_in() {
            let read = Agent::try_from(agent.binary).map(|read| read.architecture);
            assert_eq!(read, Ok(agent.architecture));
        }
    }
}
