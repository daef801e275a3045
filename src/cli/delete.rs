//! `delete`.

use clap::Args;
use pod_chaos_protocol::RunTime;

use super::{OutputArgs, PodArgs};
use crate::plan::GracePeriod;

/// Flags of `delete`.
#[derive(Debug, Args)]
#[command(after_help = "\
  kubectl pod-chaos delete -p web-7d4b9c-x2x7q
  kubectl pod-chaos delete -p web-0 --grace-period 0
  kubectl pod-chaos delete -p lonely --force

The pod is evicted, so that PodDisruptionBudgets hold, and watched until another one
has taken its place and is ready. It cannot be undone, so a pod that nothing brings
back is left alone without --force.")]
pub struct DeleteArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: PodArgs,
    /// Time its processes have between SIGTERM and SIGKILL, in whole seconds; the pod's own when not given
    #[arg(long, value_name = "TIME")]
    pub grace_period: Option<GracePeriod>,
    /// Ask no PodDisruptionBudget, and delete even what nothing brings back
    #[arg(long)]
    pub force: bool,
    /// How long to wait until it has gone and another one is ready
    #[arg(long, value_name = "TIME", default_value = "2m")]
    pub timeout: RunTime,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}
