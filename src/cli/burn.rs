//! `burn`.

use std::num::NonZeroU16;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};
use pod_chaos_protocol::{Percentage, RunTime, Size};

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
    #[command(flatten)]
    #[allow(missing_docs)]
    pub course: CourseArgs,
}
