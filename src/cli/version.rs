//! `version`.

use clap::Args;

use super::{NamespaceArgs, OutputFormat};
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
    /// How the result is printed on stdout
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}
