//! Which processes a fault is done to; the same flags for every fault on processes.

use clap::Args;
use pod_chaos_protocol::ProcessPattern;

use super::{CourseArgs, PodArgs, agent::ImageArgs};

/// Flags that say whose processes, and which.
#[derive(Debug, Args)]
pub struct ProcessArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub pod: PodArgs,
    /// Container of the pod; its only one or its default one when not given
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    /// Only processes whose name or command line this regular expression is found in
    #[arg(long = "process", value_name = "REGEX")]
    pub matching: Option<ProcessPattern>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: ImageArgs,
}

/// Flags of `pause`.
#[derive(Debug, Args)]
#[command(after_help = "\
  kubectl pod-chaos pause -p web -r 10
  kubectl pod-chaos pause -p web -c app --process '^java ' -r 1m

Every thread of every process stands still, and goes on where it was: at the deadline, on
Ctrl-C, or when the agent is killed. Its connections stay open, and what it does not
answer meanwhile fails or waits; so do the kubelet's probes, and a liveness probe that
fails often enough has the container restarted. What is started in the container
meanwhile, as by `kubectl exec`, runs.")]
pub struct PauseArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: ProcessArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub course: CourseArgs,
}
