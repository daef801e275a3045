//! `partition`.

use clap::Args;
use pod_chaos_protocol::Probe;

use super::{CourseArgs, PodArgs, TrafficArgs, agent::ImageArgs};

/// Flags of `partition`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(after_help = "\
Without --to, --from and --direction, the pod is cut off in both directions.

  kubectl pod-chaos partition -p web --to 10.0.0.0/8
  kubectl pod-chaos partition -p web --to 10.96.0.10:5432 --reject
  kubectl pod-chaos partition -p web --from 10.0.3.0/24 --kill-connections

What is dropped hangs; a connection that is cut may go on late: up to as long again as
the partition lasted. What is rejected fails at once.")]
pub struct PartitionArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: PodArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: ImageArgs,
    /// Let packets vanish, without a word to who sends them [default]
    #[arg(long, conflicts_with = "reject")]
    pub drop: bool,
    /// Refuse packets: TCP by a reset, everything else by ICMP
    #[arg(long)]
    pub reject: bool,
    /// End the pod's open TCP connections that match
    #[arg(long, conflicts_with_all = ["new_only", "every", "connections"])]
    pub kill_connections: bool,
    /// Hit only what opens a TCP connection; those that are open go on
    #[arg(long)]
    pub new_only: bool,
    /// Try to reach this host and TCP port from the pod meanwhile, and say when that succeeds again
    #[arg(long, value_name = "HOST:PORT")]
    pub probe: Option<Probe>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub course: CourseArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub traffic: TrafficArgs,
}
