//! `fail`: a pod stays, and serves nothing.

use std::{rc::Rc, time::Duration};

use futures::{FutureExt as _, future::join_all};
use k8s_openapi::api::core::v1::Pod;
use pod_chaos_protocol::{RunTime, SignalName, SignalPlan};
use tokio::time::Instant;

use super::{
    fault::{self, Job},
    network::NetworkFault,
    note, process, signal,
    start::{Aim, Wanted},
    swap,
};
use crate::{
    cli::{ConnectionArgs, FailArgs, FailBy},
    cluster::{
        AgentSpec, Capability, Chosen, Domain, NewAgent, TargetContainer, check_budgets, check_pod,
        ensure_agent, follow_end,
    },
    exit::{Error, Exit},
    plan::{Intent, Origin},
    report::Board,
};

/// To kill the first process of a container, whoever's it is.
const CAPABILITIES: &[Capability] = &[Capability::SysPtrace, Capability::Kill];
/// How long after SIGKILL the kubelet may take to say that a container has ended.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) async fn run(connection: &ConnectionArgs, args: &FailArgs) -> Result<Exit, Error> {
    let stray = match args.by {
        FailBy::Network => args.service_account.is_some().then_some("--service-account"),
        FailBy::Image if args.no_kill => Some("--no-kill"),
        FailBy::Image => args.replace.then_some("--replace"),
    };
    if let Some(flag) = stray {
        let by = if args.by == FailBy::Image { "network" } else { "image" };
        return Err(Error::new(Exit::Usage, format_args!("{flag} is for --by {by}")));
    }
    if args.by == FailBy::Image {
        return swap::run(connection, args).await;
    }
    let network = NetworkFault::new(Intent::from(args));
    let origin = (!args.no_kill).then(|| args.agent.origin());
    let failure = Failure { network, origin, within_budgets: !args.force, kill: None };
    fault::run(connection, &args.target, &args.course, failure).await
}

/// A pod that is cut off, and whose containers are killed then.
struct Failure {
    network: NetworkFault,
    /// Of the agent that kills, if one is to.
    origin: Option<Origin>,
    within_budgets: bool,
    kill: Option<Kill>,
}

/// How they are killed.
#[derive(Clone)]
struct Kill {
    origin: Origin,
    board: Rc<Board>,
}

impl Wanted for Failure {
    type Deed = Job;

    fn domain(&self) -> Domain {
        Domain::Network
    }

    fn running_time(&self) -> Option<RunTime> {
        self.network.running_time()
    }

    async fn survey(&mut self, pods: &[Chosen], board: &Rc<Board>) -> Result<(), Error> {
        if self.within_budgets {
            check_budgets(pods, &mut |text| board.note(text)).await?;
        }
        self.network.survey(pods, board).await?;
        let Some(origin) = self.origin.clone() else { return Ok(()) };
        let kill = self.kill.insert(Kill { origin, board: Rc::clone(board) });
        for at in pods {
            kill.check(at).await.map_err(|error| at.tell(error))?;
        }
        Ok(())
    }

    fn aim(&mut self, at: &Chosen) -> Result<Vec<Aim<Job>>, Error> {
        let mut aims = self.network.aim(at)?;
        for aim in &mut aims {
            let name = &at.name;
            let seen = "its probes fail: it is taken out of its services, and restarted where a \
                        liveness probe says so";
            aim.notes.push(format!("pod/{name} to be seen: {seen}"));
            if let Some(kill) = &self.kill {
                let names: Vec<_> = TargetContainer::all(&at.pod)?
                    .into_iter()
                    .map(|one| one.container.name)
                    .collect();
                aim.notes.push(format!("pod/{name} to be killed: {}", names.join(", ")));
                aim.deed.then = Some(kill.clone().each(at.clone()).boxed_local());
            }
        }
        Ok(aims)
    }
}

impl Kill {
    fn agent(&self, pod: &Pod, container: &TargetContainer) -> AgentSpec {
        process::agent(self.origin.clone(), pod, container, CAPABILITIES)
    }

    /// Whether its agents would be admitted; they are put in later.
    async fn check(&self, at: &Chosen) -> Result<(), Error> {
        check_pod(&at.pod, Domain::Processes)?;
        for container in TargetContainer::all(&at.pod)? {
            let agent = self.agent(&at.pod, &container);
            NewAgent::check(&at.cluster, &at.name, &at.pod, &agent, None).await?;
        }
        Ok(())
    }

    /// Kills each container of a pod, once.
    async fn each(self, at: Chosen) -> Result<(), Error> {
        let pod = at.cluster.pod(&at.name).await?;
        let containers = TargetContainer::all(&pod)?;
        let kills = containers.iter().map(|container| self.one(&at, &pod, container));
        // One that fails stops no other.
        let errors: Vec<_> = join_all(kills).await.into_iter().filter_map(Result::err).collect();
        let Some(first) = errors.first() else { return Ok(()) };
        let messages = errors.iter().flat_map(|error| error.messages.clone()).collect();
        Err(Error { messages, ..first.clone() })
    }

    async fn one(&self, at: &Chosen, pod: &Pod, container: &TargetContainer) -> Result<(), Error> {
        let Chosen { cluster, name, .. } = at;
        let spec = self.agent(pod, container);
        let (session, _) = ensure_agent(cluster, name, pod, &spec, &mut note).await?;
        let target = container.processes(None);
        let plan = SignalPlan { target, signal: Some(SignalName::KILL) };
        let mut report = self.board.follow(cluster.scope(), name);
        let more = process::more_capable_agent(&spec, CAPABILITIES);
        signal::send(report.as_mut(), at, &plan, session, more).await?;
        let fate = follow_end(cluster, name, container, Instant::now() + PATIENCE).await?;
        if fate.has_ended() {
            return Ok(());
        }
        Err(Error::new(
            Exit::Failed,
            format_args!(
                "container {} of pod/{name} has not ended {} s after SIGKILL",
                fate.container,
                PATIENCE.as_secs()
            ),
        ))
    }
}
