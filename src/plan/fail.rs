//! What `fail` was asked to do.

use pod_chaos_protocol::{Fault, Partition, PartitionMode, Traffic};

use super::Intent;
use crate::cli::FailArgs;

impl From<&FailArgs> for Intent {
    fn from(args: &FailArgs) -> Self {
        let fault = Fault::Partition(Partition {
            mode: PartitionMode::Reject,
            kill_connections: true,
            new_only: false,
        });
        let everyone = Traffic::default();
        let traffic = Traffic { ingress: everyone.egress.clone(), ..everyone };
        let mut intent = Self::new(fault, traffic, &args.course, args.agent.origin());
        intent.plan.replace = args.replace;
        // The kubelet is to see it too.
        intent.spare_node = false;
        intent
    }
}
