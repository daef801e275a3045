//! Puts a fault on processes in force, and stays with it.

use k8s_openapi::api::core::v1::Pod;
use pod_chaos_protocol::{FaultId, ProcessFault, ProcessPattern, ProcessPlan, Processes, Request};

use super::{
    fault::{Job, Run, installed, wait},
    interrupt::Interrupts,
};
use crate::{
    cli::{ConnectionArgs, ContainerArgs, CourseArgs},
    cluster::{
        AgentSpec, Capability, Cluster, Domain, Installed, ProcessRole, Role, Session,
        SessionError, TargetContainer, User, check_pod, ensure_agent,
    },
    exit::{Error, Exit},
    plan::PodName,
    report::{Follow, follow},
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
    /// What the container's spec says against it: a refusal, or what is worth a word before it begins.
    pub check: &'a dyn Fn(&TargetContainer) -> Result<Option<String>, Error>,
}

pub(super) async fn run(connection: &ConnectionArgs, wish: Wish<'_>) -> Result<Exit, Error> {
    let name = &wish.target.pod.pod;
    let mut interrupts = Interrupts::catch()?;
    let before = async {
        let cluster =
            Cluster::connect(connection, wish.target.pod.namespace.namespace.as_ref()).await?;
        let mut report = follow(wish.course.output, cluster.namespace(), name);
        let ready = Box::pin(make_ready(&cluster, &wish, report.as_mut())).await?;
        Ok::<_, Error>((cluster, report, ready))
    };
    // Until the plan has been sent nothing has to be reverted.
    let (cluster, report, (session, job)) = tokio::select! {
        ready = before => ready?,
        () = interrupts.next() => {
            eprintln!("interrupted before anything was in force");
            return Ok(Exit::Interrupted);
        }
    };
    let more = more_capable(&job.agent.role, wish.capabilities);
    let mut run = Run::new(&cluster, name.clone(), job, report);
    let outcome = Box::pin(run.ask(session, &mut interrupts)).await;
    match (outcome, more) {
        (Err(refusal), Some(role)) if run.not_permitted => {
            eprintln!(
                "pod/{name} the node lets this agent do it only with {}",
                role.capabilities().join(", ")
            );
            let session = tokio::select! {
                session = Box::pin(run.turn_to(role)) => session,
                () = interrupts.next() => return Err(refusal),
            };
            Box::pin(run.ask(session?, &mut interrupts)).await
        }
        (outcome, _) => outcome,
    }
}

/// The agent that may do what one without capabilities may not, as where Yama forbids to trace whom one has not
/// started (kernel.yama.ptrace_scope, Documentation/admin-guide/LSM/Yama.rst).
fn more_capable(role: &Role, capabilities: &[Capability]) -> Option<Role> {
    let Role::Process(role) = role else { return None };
    let (target, capabilities) = (role.target.clone(), capabilities.to_vec());
    role.capabilities.is_empty().then_some(Role::Process(ProcessRole {
        target,
        user: User::ROOT,
        capabilities,
    }))
}

/// Everything up to the moment before the fault: an agent that answers, and the warm-up.
async fn make_ready(
    cluster: &Cluster,
    wish: &Wish<'_>,
    report: &mut dyn Follow,
) -> Result<(Session, Job), Error> {
    let (name, warm_up) = (&wish.target.pod.pod, wish.course.warm_up.duration());
    let pod = cluster.pod(name).await?;
    let (mut container, mut spec) = choose(&pod, wish)?;
    let warning = (wish.check)(&container)?;
    let matching =
        wish.matching.map_or(String::new(), |pattern| format!(" that match `{pattern}`"));
    let hit = format!("{} of container {}{matching}", wish.what, container.container.name);
    report.note(&format!("pod/{name} to be hit: {hit}"));
    report.note(&format!("pod/{name} to be seen: {}", wish.expectation));
    if let Some(warning) = warning {
        report.note(&format!("pod/{name} {warning}"));
    }
    let mut session = agent(cluster, name, &pod, &spec, report).await?;
    if !warm_up.is_zero() {
        // The stream is opened anew afterwards: nothing in between may cut it for idling.
        drop(session);
        wait(warm_up, report).await;
        let pod = cluster.pod(name).await?;
        (container, spec) = choose(&pod, wish)?;
        session = agent(cluster, name, &pod, &spec, report).await?;
    }
    if wish.inside {
        session = enter(cluster, name, &container, session).await?;
    }
    let plan = ProcessPlan {
        id: FaultId::new(rand::random()),
        running_time: wish.course.running_time,
        target: Processes {
            container: container.container.name.clone(),
            id: container.id.clone(),
            matching: wish.matching.cloned(),
        },
        fault: wish.fault.clone(),
    };
    let job = Job {
        id: plan.id,
        request: Request::Disturb { plan },
        agent: spec,
        running_time: wish.course.running_time,
        detach: wish.course.detach,
        container: Some(container),
    };
    Ok((session, job))
}

/// Has a process started in the target container, by the agent beside it.
async fn enter(
    cluster: &Cluster,
    name: &PodName,
    container: &TargetContainer,
    agent: Session,
) -> Result<Session, Error> {
    let target = &container.container.name;
    agent.open_beside(cluster, name, target).await.map_err(|error| match error {
        SessionError::NotRunning(why) => Error::refused(format_args!(
            "container {target} of pod/{name} cannot start a process of the agent's: {why}"
        ))
        .hint(
            "the agent has to run as the same user and group: where the container's are those of its image, \
             set runAsUser and runAsGroup",
        ),
        other => other.into(),
    })
}

fn choose(pod: &Pod, wish: &Wish<'_>) -> Result<(TargetContainer, AgentSpec), Error> {
    // What rules the whole pod out is said first.
    check_pod(pod, Domain::Processes)?;
    let container = TargetContainer::choose(pod, wish.target.container.as_deref())?;
    let role = Role::Process(container.role(pod, wish.capabilities));
    let spec = AgentSpec { image: wish.target.agent.image.clone(), role };
    Ok((container, spec))
}

async fn agent(
    cluster: &Cluster,
    name: &PodName,
    pod: &Pod,
    spec: &AgentSpec,
    report: &mut dyn Follow,
) -> Result<Session, Error> {
    let mut say = |text: &str| report.note(text);
    let (session, how) = ensure_agent(cluster, name, pod, spec, &mut say).await?;
    if how == Installed::Now {
        installed(report, name, &session);
    }
    Ok(session)
}
