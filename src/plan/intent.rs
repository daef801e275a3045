//! A network fault and how to bring it about, whichever command asks for it.

use pod_chaos_protocol::{Fault, FaultId, Plan, Traffic};

use super::{Image, WarmUp};
use crate::cli::CourseArgs;

/// A network fault and how to bring it about.
#[derive(Clone, Debug)]
pub struct Intent {
    /// For the agent.
    pub plan: Plan,
    /// Where an agent comes from when there is none.
    pub image: Image,
    /// Before the start.
    pub warm_up: WarmUp,
    /// Return as soon as the fault is in force.
    pub detach: bool,
    /// Leave the node's addresses alone, which only the pod tells.
    pub spare_node: bool,
}

impl Intent {
    /// With an id of its own.
    pub fn new(fault: Fault, traffic: Traffic, course: &CourseArgs, image: &Image) -> Self {
        Self {
            plan: Plan {
                id: FaultId::new(rand::random()),
                running_time: course.running_time,
                fault,
                traffic,
                replace: false,
            },
            image: image.clone(),
            warm_up: course.warm_up,
            detach: course.detach,
            spare_node: true,
        }
    }
}
