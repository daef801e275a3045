//! `syscall matrix`.

use std::path::PathBuf;

use clap::Args;
use pod_chaos_protocol::RunTime;

use super::{OutputArgs, ProcessArgs};
use crate::plan::Url;

/// Flags of `syscall matrix`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl pod-chaos syscall matrix -p web --premade --url http://localhost:8080/
  kubectl pod-chaos syscall matrix -p web --faults mine.yaml --duration 30s --baseline 10s

For each fault of the list: a baseline, the fault, a baseline. A container that restarts
is observed on and hit again. What is measured is in metrics.csv and metrics.jsonl of the
folder, beside state.json, by which the same command goes on after an interruption.
docs/syscall.md has the list's form.")]
pub struct MatrixArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: ProcessArgs,
    /// The faults of ChaosOrca: seven calls, each with six errors and two delays
    #[arg(long, required_unless_present = "faults", conflicts_with = "faults")]
    pub premade: bool,
    /// A list of faults
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// How long each fault is in force
    #[arg(long, value_name = "TIME", default_value = "120s")]
    pub duration: RunTime,
    /// How long it is only measured before each, and after
    #[arg(long, value_name = "TIME", default_value = "120s")]
    pub baseline: RunTime,
    /// How often it is measured
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub every: RunTime,
    /// Ask this URL too, from here, each time by a new connection
    #[arg(long, value_name = "URL")]
    pub url: Option<Url>,
    /// Folder of what is written
    #[arg(long = "to", value_name = "FOLDER", default_value = "syscall-matrix")]
    pub folder: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}
