//! When a fault starts and ends, and how it is followed; the same flags for every fault.

use clap::Args;
use pod_chaos_protocol::RunTime;

use super::OutputArgs;
use crate::plan::WarmUp;

/// Flags of a fault's course.
#[derive(Debug, Args)]
pub struct CourseArgs {
    /// How long, counted from the moment the fault is in force
    #[arg(short, long, value_name = "TIME", default_value_t = RunTime::DEFAULT, allow_negative_numbers = true)]
    pub running_time: RunTime,
    /// Wait this long before the start
    #[arg(
        short,
        long,
        value_name = "TIME",
        default_value = "0",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    pub warm_up: WarmUp,
    /// Return as soon as the fault is in force; it ends all the same
    #[arg(long)]
    pub detach: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}
