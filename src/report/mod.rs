//! What a person or a program reads: data on stdout, everything else on stderr.

mod board;
pub mod document;
pub mod expectation;
pub mod json;
pub mod metrics;
mod progress;
pub mod prometheus;
pub mod recording;
mod speech;
pub mod table;
pub mod text;

use std::time::Duration;

use pod_chaos_protocol::{Event, FaultId, FaultState, FaultStatus, ProcessStatus};
use serde_json::Value;

pub use board::Board;
pub use speech::{be_quiet, say};

use crate::{
    cluster::{Chosen, Scope, Swap},
    exit::{Error, Exit},
    plan::PodName,
};

/// Where a pod is, and its name.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its namespace, and in which context.
    pub scope: Scope,
    /// Its name.
    pub name: PodName,
}

impl Place {
    /// That of a pod that was chosen.
    pub fn of(Chosen { cluster, name, .. }: &Chosen) -> Self {
        Self { scope: cluster.scope().clone(), name: name.clone() }
    }
}

/// A fault, and who has told of it.
#[derive(Clone, Debug)]
pub enum Told {
    /// Of the network, as an agent says.
    Network(Box<FaultStatus>),
    /// On processes, as an agent says.
    Process(Box<ProcessStatus>),
    /// On images, as the pod has it.
    Images(Box<ImageStatus>),
    /// Of that one an agent only says that it is carried, and why it is not known what it does.
    #[allow(missing_docs)]
    Nothing { fault: FaultId, why: String },
}

/// A pod's images, replaced.
#[derive(Clone, Debug)]
pub struct ImageStatus {
    /// By what.
    pub swap: Swap,
    /// Since when, in seconds.
    pub age_s: u64,
    /// For how long, in seconds.
    pub left_s: u64,
}

impl Told {
    /// Replaced images, `now` by the API server's clock.
    pub fn images(swap: Swap, now: u64) -> Self {
        let (age_s, left_s) = (now.saturating_sub(swap.since), swap.until.saturating_sub(now));
        Self::Images(Box::new(ImageStatus { swap, age_s, left_s }))
    }
}

impl Told {
    /// Which one.
    pub fn id(&self) -> FaultId {
        match self {
            Self::Network(status) => status.fault,
            Self::Process(status) => status.fault,
            Self::Images(one) => one.swap.fault,
            Self::Nothing { fault, .. } => *fault,
        }
    }

    /// Whether it still does what it does.
    pub fn is_live(&self) -> bool {
        let state = match self {
            Self::Network(status) => status.state,
            Self::Process(status) => status.state,
            Self::Images(_) | Self::Nothing { .. } => FaultState::InForce,
        };
        state == FaultState::InForce
    }
}

/// Follows one fault on one pod. Whoever reads what it prints, and goes, does not stop the fault.
pub trait Follow {
    /// Something worth a line, that is not data.
    fn note(&mut self, text: &str);
    /// Something went wrong that does not end the invocation yet.
    fn error(&mut self, error: &Error);
    /// The wait before the start.
    fn warming_up(&mut self, left: Duration, of: Duration);
    /// The agent said something.
    fn event(&mut self, event: &Event) -> Result<(), Error>;
    /// Something else happened: as a line for people, and as an event of [`json`].
    fn tell(&mut self, text: String, event: &Value) -> Result<(), Error>;
    /// What it has come to.
    fn outcome(&mut self, outcome: &Result<Exit, Error>);
    /// Time passes.
    fn time_left(&mut self, left: Duration);
    /// The plugin goes, the fault stays until `ender` ends it; `flags` name its pod.
    fn detached(&mut self, ender: &str, remaining_ms: u64, flags: &str);
    /// Nothing more to show.
    fn finish(&mut self);
}
