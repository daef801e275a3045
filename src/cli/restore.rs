//! `restore`.

use clap::Args;
use pod_chaos_protocol::FaultId;

use super::NamespaceArgs;
use crate::plan::PodName;

/// Flags of `restore`, which only the Job of `fail --by image` runs.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Name of the pod
    #[arg(long, value_name = "NAME")]
    pub pod: PodName,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub namespace: NamespaceArgs,
    /// Its uid: another one of its name is left alone
    #[arg(long, value_name = "UID")]
    pub uid: String,
    /// The fault
    #[arg(long, value_name = "ID")]
    pub fault: FaultId,
}
