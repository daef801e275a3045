//! `disrupt`.

use clap::Args;
use pod_chaos_protocol::{Interface, RunTime};

use super::{NetemArgs, OutputFormat, PodArgs, agent::ImageArgs};
use crate::plan::WarmUp;

/// Flags of `disrupt`.
#[derive(Debug, Args)]
#[command(after_help = "\
Any of the flags for delay, loss, damage and link makes a fault, alone or with
others. Their words are those of tc-netem(8); several go in quotes:

  kubectl pod-chaos disrupt -p web -d 100 -v 20 --distribution normal
  kubectl pod-chaos disrupt -p web --loss 'gemodel 1% 10%' --rate 1mbit
  kubectl pod-chaos disrupt -p web --profile 3g --loss 2%

Profiles: 2g, edge, 3g-slow, 3g, 3g-fast, 4g, lte, dial-up, dsl, cable, fiber,
wifi, satellite; docs/network.md has their figures.

Times take a unit: 1.5s, 200ms, 50us, 5m. A bare number is milliseconds, and
seconds for --running-time and --warm-up. Percentages are 10% or 10.

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
    #[command(flatten)]
    #[allow(missing_docs)]
    pub netem: NetemArgs,
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
