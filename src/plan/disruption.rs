//! What `disrupt` was asked to do.

use pod_chaos_protocol::{BadNetem, Carried, Fault, FaultId, Netem, NetemFault, Plan};

use super::{Image, WarmUp};
use crate::cli::DisruptArgs;

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

impl Disruption {
    /// Whether a new agent can have it in its arguments ([`Carried::LENGTH_MAX`]).
    pub fn fits_arguments(&self) -> bool {
        serde_json::to_string(&self.plan).is_ok_and(|json| json.len() <= Carried::LENGTH_MAX)
    }
}

impl TryFrom<&DisruptArgs> for Disruption {
    type Error = BadNetem;

    fn try_from(args: &DisruptArgs) -> Result<Self, BadNetem> {
        let netem = Netem::try_from(&args.netem)?;
        Ok(Self {
            plan: Plan {
                id: FaultId::new(rand::random()),
                running_time: args.running_time,
                fault: Fault::Netem(Box::new(NetemFault {
                    interface: args.interface.clone(),
                    netem,
                    backend: None,
                })),
            },
            image: args.agent.image.clone(),
            warm_up: args.warm_up,
            detach: args.detach,
        })
    }
}
