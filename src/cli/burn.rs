//! `burn`.

use std::num::NonZeroU16;

use clap::{Args, Subcommand, ValueEnum};
use pod_chaos_protocol::{Percentage, RunTime};

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
