//! The command line, as clap structs; [`crate::plan`] makes sense of it.

mod agent;
mod burn;
mod course;
mod delete;
mod disrupt;
mod doctor;
mod fail;
mod faults;
mod fill;
mod image;
mod matrix;
mod netem;
mod observe;
mod partition;
mod process;
mod rbac;
mod restore;
mod select;
mod syscall;
mod traffic;
mod version;

use std::num::NonZeroU32;

use clap::{Parser, Subcommand};

pub use agent::{InstallArgs, UninstallArgs};
pub use burn::{BurnCommand, BurnCpuArgs, BurnIoArgs, BurnMemoryArgs, BurnWhat, WholeFlag};
pub use course::CourseArgs;
pub use delete::DeleteArgs;
pub use disrupt::{BackendFlag, DisruptArgs};
pub use doctor::{DoctorArgs, FaultKind};
pub use fail::{FailArgs, FailBy};
pub use faults::{RevertArgs, StatusArgs};
pub use fill::{FillCommand, FillDiskArgs, FillWhat};
pub use image::{ContentArgs, ImageAction, ImageCommand, LoadArgs, SaveArgs};
pub use matrix::MatrixArgs;
pub use netem::NetemArgs;
pub use observe::{MetricsFormat, ObserveArgs};
pub use partition::PartitionArgs;
pub use process::{ContainerArgs, KillArgs, PauseArgs, ProcessArgs, SignalArgs};
pub use rbac::{Level, RbacArgs};
pub use restore::RestoreArgs;
pub use select::{ConditionArgs, DryRun, PickArgs, PodArgs, TARGETS};
pub use syscall::{CallArgs, SyscallAction, SyscallArgs};
pub use traffic::{DirectionFlag, ProtocolFlag, TrafficArgs};
pub use version::VersionArgs;

use crate::plan::{Namespace, OutputFormat, WarmUp};

/// Break one pod on purpose, for a while.
///
/// Adds an ephemeral container with a small agent to the pod; nothing is installed on the cluster
/// or the nodes. Every fault has a deadline, and the kernel's own timer ends it.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl pod-chaos",
    bin_name = "kubectl pod-chaos",
    version,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// How much is said.
    #[command(flatten)]
    pub speech: SpeechArgs,
    /// Which cluster.
    #[command(flatten)]
    pub connection: ConnectionArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put the agent into a pod and leave it waiting
    Install(InstallArgs),
    /// End all faults of a pod and let its agents exit
    Uninstall(UninstallArgs),
    /// Make a pod's network worse
    Disrupt(Box<DisruptArgs>),
    /// Cut a pod off from others
    Partition(Box<PartitionArgs>),
    /// Have the processes of a container stand still
    Pause(Box<PauseArgs>),
    /// Use up a resource of a container
    Burn(BurnCommand),
    /// Fill up a disk of a container
    Fill(FillCommand),
    /// End a container's main process, and see it come back
    Kill(Box<KillArgs>),
    /// Have a pod go, and see another one come
    Delete(DeleteArgs),
    /// Have a pod serve nothing for a while
    Fail(Box<FailArgs>),
    /// Send a signal to processes of a container
    Signal(Box<SignalArgs>),
    /// Have system calls of a container fail, or take long
    Syscall(Box<SyscallArgs>),
    /// Show what a container uses, second by second
    Observe(Box<ObserveArgs>),
    /// Say whether faults can be done to a pod, and what is in the way
    Doctor(DoctorArgs),
    /// Show what is in force, read from the kernel
    Status(StatusArgs),
    /// End faults now
    Revert(RevertArgs),
    /// The agent's image, for nodes that no registry serves
    Image(ImageCommand),
    /// Print the roles that users need, for an administrator
    Rbac(RbacArgs),
    /// Show the version, and with a pod that of its agents
    Version(VersionArgs),
    /// Wait for the deadline of `fail --by image`, and put the images back
    #[command(hide = true)]
    Restore(RestoreArgs),
}

/// Flags that say which cluster and as whom, as kubectl has them.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub struct ConnectionArgs {
    /// Path to the kubeconfig file
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<std::path::PathBuf>,
    /// Context of the kubeconfig; repeatable: the pods of all of these
    #[arg(long = "context", global = true, value_name = "NAME")]
    pub contexts: Vec<String>,
    /// Cluster of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    pub cluster: Option<String>,
    /// User of the kubeconfig
    #[arg(long, global = true, value_name = "NAME")]
    pub user: Option<String>,
    /// User to impersonate
    #[arg(long = "as", global = true, value_name = "USER")]
    pub impersonate: Option<String>,
    /// Group to impersonate, repeatable
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub impersonate_groups: Vec<String>,
    /// User id to impersonate
    #[arg(long = "as-uid", global = true, value_name = "UID")]
    pub impersonate_uid: Option<String>,
    /// Address of the API server
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<http::Uri>,
    /// Bearer token for it
    #[arg(long, global = true, value_name = "TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File with the certificates that its own is checked against
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "insecure_skip_tls_verify")]
    pub certificate_authority: Option<std::path::PathBuf>,
    /// Name that its certificate is to have
    #[arg(long, global = true, value_name = "NAME")]
    pub tls_server_name: Option<String>,
    /// Do not check its certificate
    #[arg(long, global = true)]
    pub insecure_skip_tls_verify: bool,
    /// How long one request may take, 0 for ever
    #[arg(long, global = true, value_name = "TIME", default_value = "30s")]
    pub request_timeout: WarmUp,
    /// How much is told of the way there: from 6 on each request and its answer
    #[arg(long, global = true, value_name = "LEVEL", default_value_t)]
    pub v: u8,
    /// Taken as kubectl takes it; nothing is kept there
    #[arg(long, global = true, value_name = "DIR", hide = true)]
    pub cache_dir: Option<std::path::PathBuf>,
}

impl ConnectionArgs {
    /// The same with what stood before the subcommand too: clap has what stands behind it take its place, also where a
    /// flag is repeatable.
    pub fn also(&mut self, leading: Leading) {
        let Leading { connection: before, .. } = leading;
        let together = |before: Vec<String>, all: &mut Vec<String>| {
            if before != *all {
                all.splice(0..0, before);
            }
        };
        together(before.contexts, &mut self.contexts);
        together(before.impersonate_groups, &mut self.impersonate_groups);
    }
}

/// What stands before the subcommand.
#[derive(Debug, Default, Parser)]
#[command(allow_external_subcommands = true, disable_help_subcommand = true)]
pub struct Leading {
    #[command(flatten)]
    speech: SpeechArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

impl Leading {
    /// Of a command line that has been understood as a whole.
    pub fn of(args: Vec<std::ffi::OsString>) -> Self {
        Self::try_parse_from(args).unwrap_or_default()
    }
}

/// The namespace that a command works in.
#[derive(Clone, Debug, Default, clap::Args)]
// clap has the heading of the flags before go on, of others that are flattened too.
#[command(next_help_heading = None::<&'static str>)]
pub struct NamespaceArgs {
    /// Namespace of the pod; the context's when not given
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<Namespace>,
}

/// Parses a count of which zero makes no sense.
fn at_least_one(text: &str) -> Result<NonZeroU32, String> {
    match text.parse::<u32>() {
        Ok(count) => NonZeroU32::new(count).ok_or_else(|| "it has to be at least 1".to_owned()),
        Err(_) => Err(format!("write a whole number from 1 to {}", u32::MAX)),
    }
}

/// The id of [`OutputArgs::output`]: there are other flags of that name.
pub const OUTPUT: &str = "output_format";

/// How data is printed.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OutputArgs {
    /// How it is printed on stdout: text, wide, json, yaml, name or jsonpath=PATH
    #[arg(id = OUTPUT, short = 'o', long = "output", value_name = "FORMAT", default_value_t)]
    pub format: OutputFormat,
}

/// What is said beside the data.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct SpeechArgs {
    /// Say nothing on stderr but errors
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// No colours and no bold letters, as with the variable NO_COLOR
    #[arg(long, global = true)]
    pub no_color: bool,
}
