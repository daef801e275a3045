//! `burn`.

use std::num::NonZeroU16;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use pod_chaos_protocol::{Pace, Percentage, RunTime, Size};

use super::{CourseArgs, process::ContainerArgs};

/// What `burn` uses up.
#[derive(Debug, Args)]
pub struct BurnCommand {
    /// What.
    #[command(subcommand)]
    pub what: BurnWhat,
}

/// Resources.
#[derive(Debug, Subcommand)]
pub enum BurnWhat {
    /// Use up processor time, in the container's own control group
    Cpu(Box<BurnCpuArgs>),
    /// Hold memory, in the container's own control group
    Memory(Box<BurnMemoryArgs>),
    /// Keep a disk busy, with reads and writes of the container's own
    Io(Box<BurnIoArgs>),
}

/// Flags of `burn cpu`.
#[derive(Debug, Args)]
#[command(after_help = "\
  kubectl pod-chaos burn cpu -p web --percent 80% -r 60
  kubectl pod-chaos burn cpu -p web --percent 50% --of node --ramp 30
  kubectl pod-chaos burn cpu -p web -c app --workers 2

It comes on top of what the container uses itself, and its limit holds for both: at the
limit the kernel makes all of its processes wait.")]
pub struct BurnCpuArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: ContainerArgs,
    /// Part of the whole that --of names
    #[arg(long, value_name = "PERCENT", required_unless_present = "workers")]
    pub percent: Option<Percentage>,
    /// What the percentage is of
    #[arg(long, value_enum, value_name = "WHOLE", default_value_t, conflicts_with = "workers")]
    pub of: WholeFlag,
    /// So many threads that never pause
    #[arg(long, value_name = "COUNT", conflicts_with = "percent")]
    pub workers: Option<NonZeroU16>,
    /// Grow to that evenly, in this time
    #[arg(long, value_name = "TIME")]
    pub ramp: Option<RunTime>,
    /// In the agent's own control group, which has no limit: the container pays nothing, its pod and node do
    #[arg(long)]
    pub own_cgroup: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub course: CourseArgs,
}

/// What a percentage is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WholeFlag {
    /// The container's limit
    #[default]
    Limit,
    /// One processor
    Core,
    /// All processors of the node
    Node,
}

/// Flags of `burn memory`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("load").required(true).args(["to", "size", "oom"]),
    after_help = "\
  kubectl pod-chaos burn memory -p web --to 80% -r 60
  kubectl pod-chaos burn memory -p web --size 500Mi --ramp 30
  kubectl pod-chaos burn memory -p web -c app --oom

It is held in the container's control group, where it counts against its limit, and is
nobody's own: what the kernel kills when the limit is reached is the app. With --to and
--size it gives way when the app grows, so that this does not come to pass."
)]
pub struct BurnMemoryArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: ContainerArgs,
    /// Have the container use that part of its limit, all in all (up to 98%)
    #[arg(long, value_name = "PERCENT")]
    pub to: Option<Percentage>,
    /// Hold so much, as 500Mi, beside what the container uses
    #[arg(long, value_name = "SIZE")]
    pub size: Option<Size>,
    /// Use up all of the limit, so that the kernel kills the app, and see it come back
    #[arg(long, conflicts_with = "detach")]
    pub oom: bool,
    /// Grow to that evenly, in this time
    #[arg(long, value_name = "TIME")]
    pub ramp: Option<RunTime>,
    /// Do it even if the node runs short of memory, and other pods are evicted
    #[arg(long)]
    pub allow_node_pressure: bool,
    /// In the agent's own control group, which has no limit: the container pays nothing, its pod and node do
    #[arg(long, requires = "size")]
    pub own_cgroup: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub course: CourseArgs,
}

/// Flags of `burn io`.
#[derive(Debug, Args)]
#[command(after_help = "\
  kubectl pod-chaos burn io -p web --path /data --write 20Mi -r 60
  kubectl pod-chaos burn io -p web --path /data --read max --write 5Mi --sync
  kubectl pod-chaos burn io -p web -c app --path /tmp --write max --block 1Mi

A file without a name in that folder is read and written, beside the kernel's cache. It
goes with who has it: nothing is left, however the fault ends.")]
pub struct BurnIoArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: ContainerArgs,
    /// Folder that the container can write to, as it sees it
    #[arg(long, value_name = "FOLDER")]
    pub path: String,
    /// How much to read each second, as 20Mi, or `max`
    #[arg(long, value_name = "SIZE", required_unless_present = "write")]
    pub read: Option<Pace>,
    /// How much to write each second, as 20Mi, or `max`
    #[arg(long, value_name = "SIZE")]
    pub write: Option<Pace>,
    /// Have each block that is written on the disk before the next one (fdatasync)
    #[arg(long, requires = "write")]
    pub sync: bool,
    /// What is read or written at a time, up to 16Mi
    #[arg(long, value_name = "SIZE", default_value = "64Ki")]
    pub block: Size,
    /// Of the file
    #[arg(long, value_name = "SIZE", default_value = "64Mi")]
    pub size: Size,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub course: CourseArgs,
}
