//! `rbac`.

use clap::{Args, ValueEnum};

/// Flags of `rbac`.
#[derive(Debug, Args)]
#[command(after_help = "\
An administrator applies it once, and binds the role where it is wanted:

  kubectl pod-chaos rbac | kubectl apply -f -
  kubectl create rolebinding chaos -n demo --clusterrole=pod-chaos --user=jane")]
pub struct RbacArgs {
    /// Which faults the roles are for
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t)]
    pub level: Level,
}

/// Which faults a role is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Network faults: ClusterRole pod-chaos-network
    Network,
    /// Faults on processes: ClusterRole pod-chaos-process
    Process,
    /// Whole pods: ClusterRole pod-chaos-pods
    Pods,
    /// To annotate pods that have a fault, with leave to patch them: ClusterRole pod-chaos-audit
    Audit,
    /// For `fail --by image`: ClusterRole pod-chaos-images
    Images,
    /// Each of them, and ClusterRole pod-chaos, which is made of the others than audit and images
    #[default]
    All,
}
