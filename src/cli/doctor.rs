//! `doctor`.

use clap::{Args, ValueEnum};

use super::{NamespaceArgs, OutputArgs, agent::ImageArgs};
use crate::plan::{Labels, PodName};

/// Flags of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
  kubectl pod-chaos doctor -p web
  kubectl pod-chaos doctor -p web disrupt pause
  kubectl pod-chaos doctor -p web --probe

Nothing is changed: the API server is asked what it would do. --probe also puts in the
agent, and has it do a fault that hits nothing, to see what the node's kernel can do.
Exit code 3 says that something is in the way.")]
pub struct DoctorArgs {
    /// Only for these
    #[arg(value_enum, value_name = "FAULT")]
    pub faults: Vec<FaultKind>,
    /// Name of the pod; repeatable
    #[arg(short, long = "pod", value_name = "NAME", required_unless_present = "labels")]
    pub pods: Vec<PodName>,
    /// Pods with these labels, as app=db,tier!=cache
    #[arg(short = 'l', long = "selector", value_name = "LABELS", conflicts_with = "pods")]
    pub labels: Option<Labels>,
    /// Container of the pod; its only one or its default one when not given
    #[arg(short, long, value_name = "NAME")]
    pub container: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub namespace: NamespaceArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: ImageArgs,
    /// Put in the agent and ask the kernel
    #[arg(long)]
    pub probe: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub output: OutputArgs,
}

/// Faults by their commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FaultKind {
    /// A worse network
    Disrupt,
    /// No network
    Partition,
    /// Processes stand still
    Pause,
    /// Resources are used up
    Burn,
    /// Containers end
    Kill,
    /// Processes get a signal
    Signal,
}
