//! `fail`.

use clap::Args;

use super::{CourseArgs, PodArgs, agent::ImageArgs};

/// Flags of `fail`.
#[derive(Debug, Args)]
#[command(after_help = "\
  kubectl pod-chaos fail -p web -r 60
  kubectl pod-chaos fail deploy/web --mode percent=50

The pod stays, but everything in and out is refused, the kubelet's probes too, and each
container is killed once. What the kubelet starts in their place is out of reach until
the deadline, which the kernel's timer keeps: a liveness probe that fails often enough
has it restarted again.")]
pub struct FailArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: PodArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: ImageArgs,
    /// Only cut the pod off, and kill nothing
    #[arg(long)]
    pub no_kill: bool,
    /// End a fault that is in the way
    #[arg(long)]
    pub replace: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub course: CourseArgs,
}
