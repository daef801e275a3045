//! `version`.

use clap::Args;

use super::{OutputArgs, PickArgs};

/// Flags of `version`.
#[derive(Debug, Args)]
#[command(after_help = "Without a word on which pods, no agent is asked, nor is a cluster.")]
pub struct VersionArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub pick: PickArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}
