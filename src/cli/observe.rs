//! `observe`.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use pod_chaos_protocol::RunTime;

use super::process::ContainerArgs;
use crate::plan::Url;

/// Flags of `observe`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl pod-chaos observe -p web
  kubectl pod-chaos observe -p web -c app -r 60 -o csv >web.csv
  kubectl pod-chaos observe -p web --url http://localhost:8080/
  kubectl pod-chaos observe -p web --listen 127.0.0.1:9500

Read from the container's control group and from /proc by a process of the
agent's in the container itself, which needs no capability. A container that
restarts is observed on.")]
pub struct ObserveArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: ContainerArgs,
    /// How long; until it is interrupted when not given
    #[arg(short, long, value_name = "TIME")]
    pub running_time: Option<RunTime>,
    /// How often
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub every: RunTime,
    /// Have Prometheus get the same from this address of this machine, at /metrics
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Ask this URL too, from here, each time by a new connection
    #[arg(long, value_name = "URL")]
    pub url: Option<Url>,
    /// How it is printed on stdout
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    pub output: MetricsFormat,
}

/// How metrics are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum MetricsFormat {
    /// A table that grows
    #[default]
    Text,
    /// Comma-separated values, with a head
    Csv,
    /// JSON, a line each time
    Json,
}
