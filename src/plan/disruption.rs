//! What `disrupt` was asked to do.

use pod_chaos_protocol::{Backend, BadNetem, Fault, Netem, NetemFault};

use super::{
    BadTrafficFlags, Intent,
    traffic::{followed, traffic},
};
use crate::cli::{BackendFlag, DirectionFlag, DisruptArgs};

/// Why the flags of `disrupt` make no sense together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDisruption {
    /// Those of netem's options.
    #[error(transparent)]
    Netem(#[from] BadNetem),
    /// About which traffic.
    #[error(transparent)]
    Traffic(#[from] BadTrafficFlags),
}

impl BadDisruption {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Netem(error) => error.hint(),
            Self::Traffic(_) => "`kubectl pod-chaos disrupt --help` explains the flags",
        }
    }
}

impl TryFrom<&DisruptArgs> for Intent {
    type Error = BadDisruption;

    fn try_from(args: &DisruptArgs) -> Result<Self, BadDisruption> {
        let mut netem = Netem::try_from(&args.netem)?;
        // One flag, for the only dice that are thrown or else for those that choose pods: a kernel that cannot
        // repeat what it does to packets (before Linux 6.6) can still have the same pods hit again.
        let conditions = &args.target.pick.conditions;
        netem.seed = conditions.seed.filter(|_| !conditions.mode.draws());
        let traffic = traffic(&args.traffic, DirectionFlag::Egress)?;
        let backend = args.backend.map(|flag| match flag {
            BackendFlag::Netem => Backend::by_netem(&traffic.directions()),
            BackendFlag::Prio => Backend::Prio,
            BackendFlag::Userspace => Backend::Userspace,
        });
        let fault = Fault::Netem(Box::new(NetemFault { netem, backend }));
        let mut intent = Self::new(fault, traffic, &args.course, args.agent.origin());
        intent.plan.replace = args.traffic.replace;
        intent.followed = followed(&args.traffic);
        intent.spare_node = !args.traffic.include_probes;
        Ok(intent)
    }
}
