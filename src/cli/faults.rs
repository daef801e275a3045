//! `status` and `revert`.

use clap::Args;

use super::{NamespaceArgs, OutputFormat};
use crate::plan::PodName;

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Name of the pod; every pod of the namespace that has an agent when not given
    #[arg(short, long, value_name = "NAME")]
    pub pod: Option<PodName>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub namespace: NamespaceArgs,
    /// How the result is printed on stdout
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}

/// Flags of `revert`.
#[derive(Debug, Args)]
pub struct RevertArgs {
    /// Name of the pod; every pod of the namespace that has an agent when not given
    #[arg(short, long, value_name = "NAME")]
    pub pod: Option<PodName>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub namespace: NamespaceArgs,
    /// How the result is printed on stdout
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}
