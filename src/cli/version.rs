//! `version`.

use clap::Args;

use super::{NamespaceArgs, OutputArgs};
use crate::plan::PodName;

/// Flags of `version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Ask the agents in this pod for theirs too
    #[arg(short, long, value_name = "NAME")]
    pub pod: Option<PodName>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub namespace: NamespaceArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}
