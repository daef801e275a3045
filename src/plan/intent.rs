//! A network fault and how to bring it about, whichever command asks for it.

use pod_chaos_protocol::{Carried, Fault, FaultId, Plan, Probe, ProbeHost, Target, Traffic};

use super::{Followed, Origin, WarmUp};
use crate::cli::CourseArgs;

/// A network fault and how to bring it about.
#[derive(Clone, Debug)]
pub struct Intent {
    /// For the agent.
    pub plan: Plan,
    /// Where an agent comes from when there is none.
    pub origin: Origin,
    /// Before the start.
    pub warm_up: WarmUp,
    /// Return as soon as the fault is in force.
    pub detach: bool,
    /// Targets that only the Kubernetes API knows.
    pub followed: Vec<Followed>,
    /// Leave the node's addresses alone, which only the pod tells.
    pub spare_node: bool,
}

impl Intent {
    /// With an id of its own.
    pub fn new(fault: Fault, traffic: Traffic, course: &CourseArgs, origin: Origin) -> Self {
        Self {
            plan: Plan {
                id: FaultId::new(rand::random()),
                running_time: course.running_time,
                fault,
                traffic,
                replace: false,
                probe: None,
            },
            origin,
            warm_up: course.warm_up,
            detach: course.detach,
            followed: Vec::new(),
            spare_node: true,
        }
    }

    /// Whether a new agent can have its plan in its arguments: it fits ([`Carried::LENGTH_MAX`]), and there are
    /// no names to be resolved first, for as long as name servers take.
    pub fn fits_arguments(plan: &Plan) -> bool {
        let is_name = |probe: &Probe| matches!(probe.host, ProbeHost::Name(_));
        !plan.traffic.targets().any(Target::is_open)
            && !plan.probe.as_ref().is_some_and(is_name)
            && serde_json::to_string(plan).is_ok_and(|json| json.len() <= Carried::LENGTH_MAX)
    }
}
