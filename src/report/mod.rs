//! What a person or a program reads: data on stdout, everything else on stderr.

pub mod expectation;
pub mod json;
pub mod progress;
pub mod text;

use std::time::Duration;

use pod_chaos_protocol::{Event, FaultId, FaultState, FaultStatus, ProcessStatus};

use crate::{cli::OutputFormat, exit::Error, plan::PodName};

/// A fault that an agent has told of.
#[derive(Clone, Debug)]
pub enum Told {
    /// Of the network.
    Network(Box<FaultStatus>),
    /// On processes.
    Process(ProcessStatus),
}

impl Told {
    /// Which one.
    pub fn id(&self) -> FaultId {
        match self {
            Self::Network(status) => status.fault,
            Self::Process(status) => status.fault,
        }
    }

    /// Whether it still does what it does.
    pub fn is_live(&self) -> bool {
        let state = match self {
            Self::Network(status) => status.state,
            Self::Process(status) => status.state,
        };
        state == FaultState::InForce
    }
}

/// Follows one fault on one pod.
pub trait Follow {
    /// Something worth a line, that is not data.
    fn note(&mut self, text: &str);
    /// The wait before the start.
    fn warming_up(&mut self, left: Duration, of: Duration);
    /// The agent said something.
    fn event(&mut self, event: &Event) -> Result<(), Error>;
    /// Time passes.
    fn time_left(&mut self, left: Duration);
    /// The plugin goes, the fault stays until `ender` ends it; `flags` name its pod.
    fn detached(&mut self, ender: &str, remaining_ms: u64, flags: &str);
    /// Nothing more to show.
    fn finish(&mut self);
}

/// The follower for that output format; a progress bar only where a person looks.
pub fn follow(output: OutputFormat, namespace: &str, name: &PodName) -> Box<dyn Follow> {
    Box::new(progress::Progress::new(output, namespace, name))
}
