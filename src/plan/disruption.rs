//! What `disrupt` was asked to do.

use pod_chaos_protocol::{Fault, FaultId, Latency, Netem, NetemFault, Plan};

use super::{Image, WarmUp};
use crate::cli::DisruptArgs;

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
}

/// A network fault and how to bring it about.
#[derive(Clone, Debug)]
pub struct Disruption {
    /// For the agent.
    pub plan: Plan,
    /// Where an agent comes from when there is none.
    pub image: Image,
    /// Before the start.
    pub warm_up: WarmUp,
    /// Return as soon as the fault is in force.
    pub detach: bool,
}

impl TryFrom<&DisruptArgs> for Disruption {
    type Error = BadDisruption;

    fn try_from(args: &DisruptArgs) -> Result<Self, BadDisruption> {
        let (delay, jitter) = (args.delay, args.variation);
        if delay == Latency::ZERO {
            return Err(BadDisruption::NoDelay);
        }
        if jitter > delay {
            return Err(BadDisruption::TooMuchJitter { delay, jitter });
        }
        Ok(Self {
            plan: Plan {
                id: FaultId::new(rand::random()),
                running_time: args.running_time,
                fault: Fault::Netem(Box::new(NetemFault {
                    interface: args.interface.clone(),
                    netem: Netem { delay, jitter, ..Netem::default() },
                    backend: None,
                })),
            },
            image: args.agent.image.clone(),
            warm_up: args.warm_up,
            detach: args.detach,
        })
    }
}
