//! Faults on processes: what they come to in a container.

use k8s_openapi::api::core::v1::Pod;
use pod_chaos_protocol::{FaultId, ProcessFault, ProcessPattern, ProcessPlan, Request, RunTime};

use super::{
    fault::{self, Job},
    start::{Aim, Wanted},
};
use crate::{
    cli::{ConnectionArgs, ContainerArgs, CourseArgs},
    cluster::{
        AgentSpec, Capability, Chosen, Domain, Following, ProcessRole, Role, TargetContainer, User,
    },
    exit::{Error, Exit},
    plan::Origin,
};

/// What was asked for.
pub(super) struct Wish<'a> {
    pub target: &'a ContainerArgs,
    /// Only those that match.
    pub matching: Option<&'a ProcessPattern>,
    /// What is hit, in a few words before the container's name.
    pub what: &'a str,
    pub course: &'a CourseArgs,
    /// What the people and programs will see that depend on the container.
    pub expectation: &'a str,
    pub fault: ProcessFault,
    /// What an agent needs for it where the processes are another user's.
    pub capabilities: &'a [Capability],
    /// Whether it is carried by a process in the target container itself, which the agent then only brings.
    pub inside: bool,
    /// Whether it is meant to end the container, by the kernel's hand.
    pub ends_container: bool,
    /// What the container's spec says against it: a refusal, or what is worth a word before it begins.
    pub check: &'a dyn Fn(&TargetContainer) -> Result<Option<String>, Error>,
}

pub(super) async fn run(connection: &ConnectionArgs, wish: Wish<'_>) -> Result<Exit, Error> {
    let (pods, course) = (&wish.target.pod, wish.course);
    fault::run(connection, pods, course, wish).await
}

/// The containers that these flags mean in this pod.
pub(super) fn containers(args: &ContainerArgs, pod: &Pod) -> Result<Vec<TargetContainer>, Error> {
    match (&args.container, &args.pod.pick.conditions.containers) {
        (None, Some(pattern)) => TargetContainer::matching(pod, pattern),
        (named, _) => TargetContainer::choose(pod, named.as_deref()).map(|one| vec![one]),
    }
}

/// The agent beside that container, with these capabilities where the processes are another user's.
pub(super) fn agent(
    origin: Origin,
    pod: &Pod,
    container: &TargetContainer,
    capabilities: &[Capability],
) -> AgentSpec {
    AgentSpec { origin, role: Role::Process(container.role(pod, capabilities)) }
}

impl Wanted for Wish<'_> {
    type Deed = Job;

    fn domain(&self) -> Domain {
        Domain::Processes
    }

    fn running_time(&self) -> Option<RunTime> {
        Some(self.course.running_time)
    }

    fn aim(&mut self, Chosen { name, pod, .. }: &Chosen) -> Result<Vec<Aim<Job>>, Error> {
        let aim = |container: TargetContainer| {
            let warning = (self.check)(&container)?;
            let matching =
                self.matching.map_or(String::new(), |pattern| format!(" that match `{pattern}`"));
            let hit = format!("{} of container {}{matching}", self.what, container.container.name);
            let mut notes = vec![
                format!("pod/{name} to be hit: {hit}"),
                format!("pod/{name} to be seen: {}", self.expectation),
            ];
            notes.extend(warning.map(|warning| format!("pod/{name} {warning}")));
            Ok(self.aim_at(pod, container, notes))
        };
        containers(self.target, pod)?.into_iter().map(aim).collect()
    }

    /// The container may have been restarted.
    fn renew(&mut self, pod: &Pod, aim: &mut Aim<Job>) -> Result<(), Error> {
        let name = aim.deed.container.as_ref().map(|container| container.container.name.clone());
        let container = TargetContainer::choose(pod, name.as_deref())?;
        *aim = self.aim_at(pod, container, Vec::new());
        Ok(())
    }
}

impl Wish<'_> {
    fn aim_at(&self, pod: &Pod, container: TargetContainer, notes: Vec<String>) -> Aim<Job> {
        let role = container.role(pod, self.capabilities);
        let plan = ProcessPlan {
            id: FaultId::new(rand::random()),
            running_time: self.course.running_time,
            target: container.processes(self.matching.cloned()),
            fault: self.fault.clone(),
        };
        let job = Job {
            id: plan.id,
            request: Request::Disturb { plan },
            running_time: self.course.running_time,
            detach: self.course.detach,
            container: Some(container.clone()),
            ends_container: self.ends_container,
            more: more_capable(&role, self.capabilities),
            following: Following::nothing(),
            then: None,
        };
        let agent = AgentSpec { origin: self.target.agent.origin(), role: Role::Process(role) };
        Aim { agent, notes, inside: self.inside.then_some(container), plan: None, deed: job }
    }
}

/// The agent that may do what one without capabilities may not, as where Yama forbids to trace whom one has not
/// started (kernel.yama.ptrace_scope, Documentation/admin-guide/LSM/Yama.rst).
fn more_capable(role: &ProcessRole, capabilities: &[Capability]) -> Option<Role> {
    let (target, capabilities) = (role.target.clone(), capabilities.to_vec());
    role.capabilities.is_empty().then_some(Role::Process(ProcessRole {
        target,
        user: User::ROOT,
        capabilities,
    }))
}

/// The same of an agent of the same origin.
pub(super) fn more_capable_agent(
    spec: &AgentSpec,
    capabilities: &[Capability],
) -> Option<AgentSpec> {
    let Role::Process(role) = &spec.role else { return None };
    Some(AgentSpec { origin: spec.origin.clone(), role: more_capable(role, capabilities)? })
}
