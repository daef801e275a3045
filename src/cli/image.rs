//! `image`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};

use crate::{
    image::{Architecture, Format},
    plan::Image,
};

/// Flags of `image`.
#[derive(Debug, Args)]
pub struct ImageCommand {
    /// What to do.
    #[command(subcommand)]
    pub action: ImageAction,
}

/// What can be done with images.
#[derive(Debug, Subcommand)]
pub enum ImageAction {
    /// Write an image into a file
    Save(SaveArgs),
    /// Put an image into the nodes of a local cluster
    Load(LoadArgs),
}

/// What is in the image.
#[derive(Debug, Args)]
pub struct ContentArgs {
    /// Name of the image; localhost/pod-chaos-agent or localhost/kubectl-pod-chaos when not given
    #[arg(long, value_name = "IMAGE")]
    pub name: Option<Image>,
    /// Only for nodes of this architecture; this machine's for the docker format and for load, both
    /// for the oci format when not given
    #[arg(long, value_enum, value_name = "ARCH")]
    pub arch: Option<Architecture>,
    /// Binary of the agent, in place of those that the plugin brings; repeatable
    #[arg(long = "agent", value_name = "FILE")]
    pub agents: Vec<PathBuf>,
    /// The image of the plugin instead, which `fail --by image` needs: of these static builds for
    /// Linux, as they are released, or of the one that runs; repeatable
    #[arg(long = "plugin", value_name = "FILE", num_args = 0..=1, require_equals = true,
          conflicts_with = "agents")]
    pub plugins: Option<Vec<PathBuf>>,
}

/// Flags of `image save`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl pod-chaos image save -o agent.tar
  kubectl pod-chaos image save -o agent.tar --format oci

Prints the image's name and digest. skopeo, crane and oras push an OCI layout to
a registry; `docker load`, `podman load` and `ctr image import` read both formats.")]
pub struct SaveArgs {
    /// The file; - is stdout
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// How the image is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub format: Format,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub content: ContentArgs,
}

/// Flags of `image load`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("into").required(true).args(["kind", "minikube", "k3d", "containerd", "docker"]),
    after_help = "\
Examples:
  kubectl pod-chaos image load --kind
  kubectl pod-chaos image load --minikube=chaos
  kubectl pod-chaos image load --kind --plugin
  kubectl pod-chaos image load --containerd     # on the node itself, as root

Each calls the tool's own command, which has to be on the PATH."
)]
pub struct LoadArgs {
    /// Into the nodes of a kind cluster
    #[arg(long, value_name = "CLUSTER", num_args = 0..=1, require_equals = true)]
    pub kind: Option<Option<String>>,
    /// Into the nodes of a minikube profile
    #[arg(long, value_name = "PROFILE", num_args = 0..=1, require_equals = true)]
    pub minikube: Option<Option<String>>,
    /// Into the nodes of a k3d cluster
    #[arg(long, value_name = "CLUSTER", num_args = 0..=1, require_equals = true)]
    pub k3d: Option<Option<String>>,
    /// Into this machine's containerd, by its ctr
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true)]
    pub containerd: Option<Option<String>>,
    /// Into this machine's Docker engine
    #[arg(long)]
    pub docker: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub content: ContentArgs,
}
