//! `disrupt`.

use clap::Args;
use pod_chaos_protocol::{Interface, Latency, RunTime};

use super::{OutputFormat, PodArgs, agent::ImageArgs};
use crate::plan::WarmUp;

/// Flags of `disrupt`.
#[derive(Debug, Args)]
#[command(after_help = "\
Times take a unit: 1.5s, 200ms, 50us, 5m. A bare number is milliseconds for
--delay and --variation, and seconds for --running-time and --warm-up.

Every packet that leaves the interface is held, so a request and its answer cost
one delay, and a new TCP connection one more.

kubectl takes -v for itself too, and may log a line; --variation keeps it quiet.")]
pub struct DisruptArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: PodArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: ImageArgs,
    /// Delay of each packet that leaves the pod
    #[arg(short, long, value_name = "TIME", allow_negative_numbers = true)]
    pub delay: Latency,
    /// Spread the delay evenly over delay ± this
    #[arg(
        short = 'v',
        long,
        visible_alias = "jitter",
        value_name = "TIME",
        default_value = "0",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    pub variation: Latency,
    /// Interface of the pod; the one that carries the default route when not given
    #[arg(short, long = "iface", visible_alias = "interface", value_name = "NAME")]
    pub interface: Option<Interface>,
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
    /// Return as soon as the fault is in force; the kernel ends it
    #[arg(long)]
    pub detach: bool,
    /// How the events are printed on stdout
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: OutputFormat,
}
