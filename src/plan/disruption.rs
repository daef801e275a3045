//! What `disrupt` was asked to do.

use pod_chaos_protocol::{Fault, Latency, Netem, NetemFault};

use super::{BadTrafficFlags, Intent, traffic::traffic};
use crate::cli::{DirectionFlag, DisruptArgs};

/// Why the flags of `disrupt` make no sense together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadDisruption {
    /// No delay.
    #[error("a delay of 0 changes nothing")]
    NoDelay,
    /// Some packets would have to leave before they came.
    #[error("the variation ({jitter}) is larger than the delay ({delay})")]
    TooMuchJitter {
        /// As given.
        delay: Latency,
        /// As given.
        jitter: Latency,
    },
    /// About which traffic.
    #[error(transparent)]
    Traffic(#[from] BadTrafficFlags),
}

impl TryFrom<&DisruptArgs> for Intent {
    type Error = BadDisruption;

    fn try_from(args: &DisruptArgs) -> Result<Self, BadDisruption> {
        let (delay, jitter) = (args.delay, args.variation);
        if delay == Latency::ZERO {
            return Err(BadDisruption::NoDelay);
        }
        if jitter > delay {
            return Err(BadDisruption::TooMuchJitter { delay, jitter });
        }
        let traffic = traffic(&args.traffic, DirectionFlag::Egress)?;
        let fault = Fault::Netem(NetemFault { netem: Netem { delay, jitter } });
        let mut intent = Self::new(fault, traffic, &args.course, &args.agent.image);
        intent.plan.replace = args.traffic.replace;
        intent.spare_node = !args.traffic.include_probes;
        Ok(intent)
    }
}
