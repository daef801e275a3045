//! What `partition` was asked to do.

use pod_chaos_protocol::{Fault, Partition, PartitionMode};

use super::{
    BadTrafficFlags, Intent,
    traffic::{followed, traffic},
};
use crate::cli::{DirectionFlag, PartitionArgs};

impl TryFrom<&PartitionArgs> for Intent {
    type Error = BadTrafficFlags;

    fn try_from(args: &PartitionArgs) -> Result<Self, BadTrafficFlags> {
        let traffic = traffic(&args.traffic, DirectionFlag::Both)?;
        let fault = Fault::Partition(Partition {
            mode: if args.reject { PartitionMode::Reject } else { PartitionMode::Drop },
            kill_connections: args.kill_connections,
            new_only: args.new_only,
        });
        let mut intent = Self::new(fault, traffic, &args.course, args.agent.origin());
        intent.plan.replace = args.traffic.replace;
        intent.plan.probe.clone_from(&args.probe);
        intent.followed = followed(&args.traffic);
        intent.spare_node = !args.traffic.include_probes;
        Ok(intent)
    }
}
