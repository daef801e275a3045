//! `disrupt`.

use clap::{Args, ValueEnum};

use super::{CourseArgs, NetemArgs, PodArgs, TrafficArgs, agent::ImageArgs};

/// Flags of `disrupt`.
#[derive(Debug, Args)]
#[command(after_help = "\
Any of the flags for delay, loss, damage and link makes a fault, alone or with
others. Their words are those of tc-netem(8); several go in quotes:

  kubectl pod-chaos disrupt -p web -d 100 -v 20 --distribution normal
  kubectl pod-chaos disrupt -p web --loss 'gemodel 1% 10%' --rate 1mbit
  kubectl pod-chaos disrupt -p web --profile 3g --loss 2% --to 10.0.0.0/8

Profiles: 2g, edge, 3g-slow, 3g, 3g-fast, 4g, lte, dial-up, dsl, cable, fiber,
wifi, satellite; docs/network.md has their figures.

Times take a unit: 1.5s, 200ms, 50us, 5m. A bare number is milliseconds, and
seconds for --running-time and --warm-up. Percentages are 10% or 10.

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
    #[command(flatten)]
    #[allow(missing_docs)]
    pub netem: NetemArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub course: CourseArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub traffic: TrafficArgs,
    /// Do it this way, whatever the kernel has
    #[arg(long, value_enum, value_name = "NAME", hide = true)]
    pub backend: Option<BackendFlag>,
}

/// The values of `--backend`, which is for tests: the agent knows best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BackendFlag {
    /// The kernel's netem, on links of the fault's own.
    Netem,
    /// The kernel's netem, in a queue of the interface itself.
    Prio,
    /// The agent.
    Userspace,
}
