//! Which container a fault is done to, and which of its processes; the same flags for every such fault.

use std::num::NonZeroU32;

use clap::Args;
use pod_chaos_protocol::{ProcessPattern, RunTime, SignalName};

use super::{CourseArgs, OutputArgs, PodArgs, agent::ImageArgs, at_least_one};

/// Flags that name a container.
#[derive(Clone, Debug, Args)]
pub struct ContainerArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub pod: PodArgs,
    /// Container of the pod; its only one or its default one when not given
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: ImageArgs,
}

/// Flags that say whose processes, and which.
#[derive(Clone, Debug, Args)]
pub struct ProcessArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub of: ContainerArgs,
    /// Only processes whose name or command line this regular expression is found in
    #[arg(long = "process", value_name = "REGEX")]
    pub matching: Option<ProcessPattern>,
}

/// Flags of `signal`.
#[derive(Debug, Args)]
#[command(after_help = "\
  kubectl pod-chaos signal HUP -p web
  kubectl pod-chaos signal USR1 -p web -c app --process '^worker'

Without --process it is for the container's main process. What a signal does is the
process's own affair, and is not undone; `kill` ends a container and watches it restart,
`pause` stops one for a while.")]
pub struct SignalArgs {
    /// Which one: HUP, SIGHUP or 1
    #[arg(value_name = "SIGNAL")]
    pub signal: SignalName,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: ProcessArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}

/// Flags of `kill`.
#[derive(Debug, Args)]
#[command(after_help = "\
  kubectl pod-chaos kill -p web
  kubectl pod-chaos kill -p web -c app --signal KILL
  kubectl pod-chaos kill -p web --every 30s --times 3
  kubectl pod-chaos kill -p web --process '^worker'

Without --process it is for the container's main process: the container ends, and the
kubelet starts it again if the pod says so. Then the agent ends too, and each time takes
a new one, which stays in the pod's spec. What a PodDisruptionBudget does not
allow takes --force.")]
pub struct KillArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: ProcessArgs,
    /// Signal to send; TERM to what handles it, else KILL, when not given
    #[arg(long, value_name = "SIGNAL")]
    pub signal: Option<SignalName>,
    /// Ask no PodDisruptionBudget
    #[arg(long)]
    pub force: bool,
    /// How often
    #[arg(long, value_name = "COUNT", default_value = "1", value_parser = at_least_one)]
    pub times: NonZeroU32,
    /// Time from one to the next; as soon as it is ready again when not given
    #[arg(long, value_name = "TIME", requires = "times")]
    pub every: Option<RunTime>,
    /// How long to wait each time until the container has ended and is ready again
    #[arg(long, value_name = "TIME", default_value = "2m")]
    pub timeout: RunTime,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
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
