//! `fail`.

use clap::{Args, ValueEnum};
use pod_chaos_protocol::RunTime;

use super::{CourseArgs, PodArgs, agent::ImageArgs};
use crate::plan::{Image, ServiceAccountName};

/// What makes a pod fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum FailBy {
    /// Everything in and out is refused, and each container killed once
    #[default]
    Network,
    /// The containers get an image that cannot be pulled; a Job puts their own back
    Image,
}

/// Flags of `fail`.
#[derive(Debug, Args)]
#[command(after_help = "\
  kubectl pod-chaos fail -p web -r 60
  kubectl pod-chaos fail deploy/web --mode percent=50
  kubectl pod-chaos fail -p web --by image

The pod stays, but everything in and out is refused, the kubelet's probes too, and each
container is killed once. What the kubelet starts in their place is out of reach until
the deadline, which the kernel's timer keeps: a liveness probe that fails often enough
has it restarted again. What a PodDisruptionBudget does not allow takes --force.

With --by image no container of the pod runs meanwhile. A Job puts their images
back; where it does not get ready, nothing is changed. It needs the plugin's image
in the cluster, and leave to patch pods: `kubectl pod-chaos rbac --level images`.")]
pub struct FailArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: PodArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub agent: ImageArgs,
    /// What makes it fail
    #[arg(long, value_enum, value_name = "WHAT", default_value_t)]
    pub by: FailBy,
    /// Only cut the pod off, and kill nothing
    #[arg(long)]
    pub no_kill: bool,
    /// Ask no PodDisruptionBudget
    #[arg(long)]
    pub force: bool,
    /// End a fault that is in the way
    #[arg(long)]
    pub replace: bool,
    /// Image of the Job that puts images back: this plugin's
    #[arg(long, value_name = "IMAGE", env = "POD_CHAOS_RESTORER_IMAGE", default_value_t = Image::plugin())]
    pub restorer_image: Image,
    /// Service account of that Job; one that may patch this pod alone is made when not given
    #[arg(long, value_name = "NAME")]
    pub service_account: Option<ServiceAccountName>,
    /// How late that Job may be before the command puts the images back: for tests
    #[arg(long, hide = true, value_name = "TIME", default_value = "10s")]
    pub job_grace: RunTime,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub course: CourseArgs,
}
