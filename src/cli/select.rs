//! Which pods a command works on; the same flags for every command.

use clap::{Args, ValueEnum};
use pod_chaos_protocol::Percentage;

use super::NamespaceArgs;
use crate::plan::{
    Annotation, FieldSelector, Labels, Mode, NodeName, Pattern, Phase, PodName, Protected,
    TargetName,
};

/// The argument that names them.
pub const TARGETS: &str = "targets";

/// Flags that choose pods. Those that name some add up; of these, all conditions must hold.
#[derive(Clone, Debug, Default, Args)]
pub struct PickArgs {
    /// Pods, or what they belong to: web, deploy/web, sts/db, ds/log, rs/web-7d4b9c, job/load, svc/web
    #[arg(id = TARGETS, value_name = "TARGET")]
    pub targets: Vec<TargetName>,
    /// Name of the pod; repeatable
    #[arg(short, long = "pod", value_name = "NAME")]
    pub pods: Vec<PodName>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub conditions: ConditionArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub namespace: NamespaceArgs,
}

/// What must hold of a pod, and how many of those are taken of which it does.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = PODS)]
pub struct ConditionArgs {
    /// Pods of all namespaces
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub all_namespaces: bool,
    /// Pods with these labels, as app=db,tier!=cache
    #[arg(short = 'l', long = "selector", value_name = "LABELS")]
    pub labels: Option<Labels>,
    /// Pods with these fields, as spec.nodeName=node-1
    #[arg(long = "field-selector", value_name = "FIELDS")]
    pub fields: Option<FieldSelector>,
    /// Pods with this annotation; repeatable
    #[arg(long = "annotation", value_name = "KEY[=VALUE]")]
    pub annotations: Vec<Annotation>,
    /// Pods in whose name this regular expression is found
    #[arg(long = "pods", value_name = "REGEX")]
    pub named_like: Option<Pattern>,
    /// Pods with a container in whose name this is found; faults on processes hit all of these
    #[arg(long, value_name = "REGEX")]
    pub containers: Option<Pattern>,
    /// Pods on this node; repeatable
    #[arg(long = "node", value_name = "NAME")]
    pub nodes: Vec<NodeName>,
    /// Pods on nodes with these labels
    #[arg(long = "node-selector", value_name = "LABELS")]
    pub node_labels: Option<Labels>,
    /// Pods in this phase; only those that run when not given; repeatable
    #[arg(long = "phase", value_name = "PHASE")]
    pub phases: Vec<Phase>,
    /// Not the pods in whose name this regular expression is found; repeatable
    #[arg(long = "except", value_name = "REGEX")]
    pub except: Vec<Pattern>,
    /// How many of them: one, all, fixed=N, percent=N or random-max-percent=N
    #[arg(long, value_name = "MODE", default_value_t)]
    pub mode: Mode,
    /// Where the dice start that choose: the same pods again
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
}

/// Who tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// Nobody: it is only printed
    Client,
    /// The server: permissions and admission
    Server,
}

const PODS: &str = "Pods";
const SAFETY: &str = "Safety";

/// Flags of commands that do something to pods.
#[derive(Clone, Debug, Default, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct PodArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub pick: PickArgs,
    /// Print what would be sent to pods/ephemeralcontainers, and send nothing, or have the server try it
    #[arg(long, value_enum, value_name = "WHERE", help_heading = SAFETY)]
    pub dry_run: Option<DryRun>,
    /// Do it to several pods without asking first
    #[arg(short, long, help_heading = SAFETY)]
    pub yes: bool,
    /// Refuse when more than this part of a workload would be hit
    #[arg(long, value_name = "PERCENT", env = "POD_CHAOS_MAX_SHARE", help_heading = SAFETY)]
    pub max_share: Option<Percentage>,
    /// Namespaces whose pods are left alone, with * at the end of a name for the rest of it
    #[arg(
        long,
        value_name = "NAMES",
        env = "POD_CHAOS_PROTECTED",
        default_value_t,
        help_heading = SAFETY
    )]
    pub protected: Protected,
    /// Hit pods in these namespaces too
    #[arg(long, help_heading = SAFETY)]
    pub allow_protected: bool,
    /// Leave out pods that are refused, instead of doing nothing
    #[arg(long, help_heading = PODS)]
    pub skip_refused: bool,
    /// When one pod fails, end it on all others too
    #[arg(long, help_heading = PODS)]
    pub fail_fast: bool,
}
