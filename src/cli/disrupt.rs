//! `disrupt`.

use clap::Args;
use pod_chaos_protocol::Latency;

use super::{CourseArgs, PodArgs, TrafficArgs, agent::ImageArgs};

/// Flags of `disrupt`.
#[derive(Debug, Args)]
#[command(after_help = "\
Times take a unit: 1.5s, 200ms, 50us, 5m. A bare number is milliseconds for
--delay and --variation, and seconds for --running-time and --warm-up.

Every packet that leaves the interface is held, so a request and its answer cost
one delay, and a new TCP connection one more. --to, --from and the other flags
about traffic hit less of it; docs/targets.md explains each.

kubectl takes -v for itself too, and may log a line; --variation keeps it quiet.")]
pub struct DisruptArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: PodArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: ImageArgs,
    /// Delay of each packet that is hit
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
    #[command(flatten)]
    #[allow(missing_docs)]
    pub course: CourseArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub traffic: TrafficArgs,
}
