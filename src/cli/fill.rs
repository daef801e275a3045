//! `fill`.

use clap::{ArgGroup, Args, Subcommand};
use pod_chaos_protocol::{Percentage, Size};

use super::{CourseArgs, process::ContainerArgs};

/// What `fill` fills.
#[derive(Debug, Args)]
pub struct FillCommand {
    /// What.
    #[command(subcommand)]
    pub what: FillWhat,
}

/// What can be full.
#[derive(Debug, Subcommand)]
pub enum FillWhat {
    /// Take the room on a file system of the container's
    Disk(Box<FillDiskArgs>),
}

/// Flags of `fill disk`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("load").required(true).args(["to", "size"]),
    after_help = "\
  kubectl pod-chaos fill disk -p web --path /data --to 100% -r 60
  kubectl pod-chaos fill disk -p web -c app --path /tmp --size 2Gi

The room is taken by a file without a name, which goes with who has it: nothing is left,
however the fault ends. A disk of the node's keeps 15%, as the kubelet evicts pods below."
)]
pub struct FillDiskArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: ContainerArgs,
    /// Folder that the container can write to, as it sees it
    #[arg(long, value_name = "FOLDER")]
    pub path: String,
    /// Have so much of the file system used, as `df` counts
    #[arg(long, value_name = "PERCENT")]
    pub to: Option<Percentage>,
    /// Take so much, as 2Gi
    #[arg(long, value_name = "SIZE")]
    pub size: Option<Size>,
    /// Do it even if the node runs short of room, and other pods are evicted
    #[arg(long)]
    pub allow_node_pressure: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub course: CourseArgs,
}
