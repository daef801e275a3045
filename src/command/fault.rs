//! Puts a fault in force, stays with it, and sees that it is gone; whichever command asks for it.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use pod_chaos_protocol::{
    Backend, Carried, Cidr, Event, FailureKind, FaultId, FaultStatus, ProcessStatus, Request,
    RunTime,
};
use tokio::time::{Instant, sleep, sleep_until};

use super::{interrupt::Interrupts, note, sweep};
use crate::{
    cli::{ConnectionArgs, OutputFormat, PodArgs},
    cluster::{
        AgentContainer, AgentSpec, AgentState, Change, Cluster, Domain, Following, Installed,
        NewAgent, NoAnswer, Role, Session, SessionError, TargetContainer, check_pod, ensure_agent,
        reach_agent,
    },
    exit::{Error, Exit},
    plan::{Intent, PodName},
    report::{Follow, expectation, follow},
};

/// Between two looks whether a fault has ended whose agent is out of reach.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after its deadline a fault's agent may take to report it clean.
const GRACE: Duration = Duration::from_secs(5);

pub(super) async fn run(
    connection: &ConnectionArgs,
    target: &PodArgs,
    output: OutputFormat,
    mut intent: Intent,
) -> Result<Exit, Error> {
    let name = &target.pod;
    let mut interrupts = Interrupts::catch()?;
    let before = async {
        let cluster = Cluster::connect(connection, target.namespace.namespace.as_ref()).await?;
        let mut report = follow(output, cluster.namespace(), name);
        let way = Box::pin(find_way(&cluster, name, &mut intent, report.as_mut()));
        let (way, following) = way.await?;
        Ok::<_, Error>((cluster, report, way, following))
    };
    // Until the plan has been sent nothing has to be reverted.
    let (cluster, report, way, following) = tokio::select! {
        ready = before => ready?,
        () = interrupts.next() => {
            eprintln!("interrupted before anything was in force");
            return Ok(Exit::Interrupted);
        }
    };
    let job = Job {
        id: intent.plan.id,
        agent: AgentSpec::network(intent.image),
        running_time: intent.plan.running_time,
        detach: intent.detach,
        request: Request::Apply { plan: intent.plan },
        container: None,
    };
    let mut run = Run::new(&cluster, name.clone(), job, report);
    run.following = following;
    match way {
        Way::Session(session) => run.ask(*session, &mut interrupts).await,
        Way::NewAgent(agent) => run.bring_in(&agent, &mut interrupts).await,
    }
}

/// How the plan gets to an agent.
enum Way {
    /// To one that answers.
    Session(Box<Session>),
    /// Together with a new one.
    NewAgent(Box<NewAgent>),
}

/// Everything up to the moment before the fault.
async fn find_way(
    cluster: &Cluster,
    name: &PodName,
    intent: &mut Intent,
    report: &mut dyn Follow,
) -> Result<(Way, Following), Error> {
    let (pod, clock) = futures::join!(cluster.pod(name), cluster.clock());
    let pod = pod?;
    check_pod(&pod, Domain::Network)?;
    let mut say = |text: &str| report.note(text);
    let (followed, traffic) = (&intent.followed, &mut intent.plan.traffic);
    let following = Following::start(cluster, followed, traffic, &mut say).await?;
    spare_node(name, &pod, intent, report)?;
    if intent.detach && !intent.followed.is_empty() {
        report.note("warning: pods and services are only followed while this command runs");
    }
    report.note(&format!("pod/{name} to be hit: {}", intent.plan.traffic));
    if let Some(expectation) = expectation::of(&intent.plan.fault) {
        report.note(&format!("pod/{name} to be seen: {expectation}"));
    }
    let way = find_agent(cluster, name, &pod, clock, intent, report).await?;
    Ok((way, following))
}

/// An agent that answers or can be put in, and the warm-up.
async fn find_agent(
    cluster: &Cluster,
    name: &PodName,
    pod: &Pod,
    clock: Option<u64>,
    intent: &Intent,
    report: &mut dyn Follow,
) -> Result<Way, Error> {
    let spec = &AgentSpec::network(intent.image.clone());
    let at_once = intent.warm_up.duration().is_zero();
    let mut say = |text: &str| report.note(text);
    let able = |agent: &AgentContainer| agent.role.covers(&spec.role);
    if let Some(session) = reach_agent(cluster, name, pod, &able, &mut say).await? {
        if at_once {
            return Ok(Way::Session(Box::new(session)));
        }
    } else if let (Some(now), true) = (clock, at_once && intent.fits_arguments()) {
        let carried = Carried::new(intent.plan.clone(), now);
        let agent = NewAgent::check(cluster, name, pod, spec, Some(&carried)).await?;
        return Ok(Way::NewAgent(Box::new(agent)));
    } else {
        let (session, _) = ensure_agent(cluster, name, pod, spec, &mut say).await?;
        installed(report, name, &session);
        if at_once {
            return Ok(Way::Session(Box::new(session)));
        }
    }
    // The stream is opened anew afterwards: nothing in between may cut it for idling.
    wait(intent.warm_up.duration(), report).await;
    let pod = cluster.pod(name).await?;
    let mut say = |text: &str| report.note(text);
    let (session, _) = ensure_agent(cluster, name, &pod, spec, &mut say).await?;
    Ok(Way::Session(Box::new(session)))
}

/// Adds the node's addresses to what is spared, and sees whether anything is left to be hit.
fn spare_node(
    name: &PodName,
    pod: &Pod,
    intent: &mut Intent,
    report: &mut dyn Follow,
) -> Result<(), Error> {
    if intent.spare_node {
        intent.plan.traffic.spare_node = node_addresses(pod);
        if intent.plan.traffic.spare_node.is_empty() {
            report.note(&format!(
                "warning: pod/{name} does not say which addresses its node has; probes may be hit"
            ));
        }
    }
    intent.plan.traffic.check().map_err(|error| {
        let hint = error.hint();
        let refused = Error::refused(format_args!("pod/{name}: {error}"));
        hint.into_iter().fold(refused, Error::hint)
    })
}

/// The addresses of the pod's node.
fn node_addresses(pod: &Pod) -> Vec<Cidr> {
    let status = pod.status.as_ref();
    let several = status.into_iter().flat_map(|status| status.host_ips.iter().flatten());
    let several = several.map(|host| host.ip.as_str());
    // Servers before 1.28 only tell one.
    let one = status.and_then(|status| status.host_ip.as_deref());
    let mut addresses: Vec<Cidr> =
        several.chain(one).filter_map(|text| text.parse::<IpAddr>().ok()).map(Cidr::from).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

pub(super) async fn wait(warm_up: Duration, report: &mut dyn Follow) {
    let start = Instant::now();
    while let Some(left) = warm_up.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        report.warming_up(left, warm_up);
        sleep(left.min(Duration::from_millis(200))).await;
    }
}

pub(super) fn installed(report: &mut dyn Follow, name: &PodName, session: &Session) {
    report.note(&format!(
        "pod/{name} agent installed: {} (it stays in the pod's spec)",
        session.container
    ));
}

/// A fault, as far as it matters for following it.
pub(super) struct Job {
    pub id: FaultId,
    /// Puts it in force.
    pub request: Request,
    /// Who can.
    pub agent: AgentSpec,
    /// Counts from the moment it is in force.
    pub running_time: RunTime,
    /// Return as soon as it is in force.
    pub detach: bool,
    /// Whose processes it is done to: it ends with them.
    pub container: Option<TargetContainer>,
}

impl Job {
    /// What ends the fault when nobody asks for its end.
    const fn ender(&self) -> &'static str {
        match self.agent.role.domain() {
            Domain::Network => "the kernel's timer",
            Domain::Processes => "its agent's timer",
        }
    }

    /// The name of the container whose processes are hit, when that run of it has ended.
    fn lost_container(&self, pod: &Pod) -> Option<&str> {
        let container = self.container.as_ref().filter(|container| !container.lives_in(pod))?;
        Some(&container.container.name)
    }

    /// Waits until the fault has ended before its time: with its container, or with its agent.
    async fn ended_early(&self, cluster: &Cluster, name: &PodName) {
        loop {
            if self.is_over(cluster, name).await.unwrap_or(false) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn is_over(&self, cluster: &Cluster, name: &PodName) -> Result<bool, Error> {
        let pod = cluster.pod(name).await?;
        if self.lost_container(&pod).is_some() {
            return Ok(true);
        }
        let able = |agent: &AgentContainer| agent.role.covers(&self.agent.role);
        // Without an agent there is nobody to ask. One that held still has let go; what the kernel holds, it holds.
        let Some(session) = reach_agent(cluster, name, &pod, &able, &mut |_| {}).await? else {
            return Ok(true);
        };
        let told = sweep::status(session).await?;
        Ok(!told.iter().any(|fault| fault.id() == self.id && fault.is_live()))
    }
}

/// A fault from the moment its plan is sent.
pub(super) struct Run<'a> {
    cluster: &'a Cluster,
    name: PodName,
    job: Job,
    report: Box<dyn Follow>,
    /// Its targets, as long as they may change.
    following: Following,
    /// When it ends at the latest; `None` until it is in force.
    deadline: Option<Instant>,
    /// Whether it ends with its agent: the kernel's timer needs none, where the kernel does what is done.
    needs_agent: bool,
    /// Whether the agent may not do what it was asked for.
    pub not_permitted: bool,
}

/// Why the plugin stopped listening to the agent.
enum Outcome {
    Exit(Exit),
    /// The stream broke; the fault goes on to its deadline.
    Lost(String),
}

impl<'a> Run<'a> {
    pub(super) fn new(
        cluster: &'a Cluster,
        name: PodName,
        job: Job,
        report: Box<dyn Follow>,
    ) -> Self {
        let following = Following::nothing();
        Self {
            cluster,
            name,
            needs_agent: job.agent.role.domain() == Domain::Processes,
            job,
            report,
            following,
            deadline: None,
            not_permitted: false,
        }
    }

    /// Turns to an agent that may do more.
    pub(super) async fn turn_to(&mut self, role: Role) -> Result<Session, Error> {
        self.job.agent.role = role;
        let pod = self.cluster.pod(&self.name).await?;
        let mut say = |text: &str| self.report.note(text);
        let (session, how) =
            ensure_agent(self.cluster, &self.name, &pod, &self.job.agent, &mut say).await?;
        if how == Installed::Now {
            installed(self.report.as_mut(), &self.name, &session);
        }
        Ok(session)
    }

    /// Puts in an agent that carries the plan, and joins it as soon as it answers.
    async fn bring_in(
        &mut self,
        agent: &NewAgent,
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Error> {
        // This request is not cut short: the fault may be in force when it has been sent.
        match agent.put_in(self.cluster).await {
            Err(error) if error.exit == Exit::Refused => return Err(error),
            Err(error) => return self.give_up(error, interrupts).await,
            Ok(()) => {}
        }
        let void = Instant::now() + Duration::from_secs(1 + Carried::FRESH_FOR + Carried::SKEW);
        let mut say = |text: &str| self.report.note(text);
        let answer = tokio::select! {
            answer = agent.answer(self.cluster, &mut say) => answer,
            () = interrupts.next() => {
                self.report.note("interrupted: reverting as soon as the agent answers");
                return tokio::select! {
                    exit = self.call_off(agent, void) => exit,
                    () = interrupts.next() => Ok(self.interrupted_again()),
                };
            }
        };
        match answer {
            Ok(session) => {
                installed(self.report.as_mut(), &self.name, &session);
                self.ask(session, interrupts).await
            }
            Err(NoAnswer::NotStarted(error)) => Err(error),
            Err(NoAnswer::Other(error)) => self.give_up(error, interrupts).await,
        }
    }

    /// Ends what a new agent may have begun, or sees that it never will: what it carries is void from that
    /// moment on.
    async fn call_off(&mut self, agent: &NewAgent, void: Instant) -> Result<Exit, Error> {
        let answer = tokio::time::timeout_at(void, agent.answer(self.cluster, &mut |_| {})).await;
        let clean = match answer {
            Ok(Ok(session)) => self.revert(session).await?,
            Ok(Err(NoAnswer::NotStarted(_))) => true,
            Ok(Err(NoAnswer::Other(_))) | Err(_) => match agent.state(self.cluster).await? {
                Some(AgentState::Starting(_) | AgentState::Failing { .. }) => {
                    self.report.note(&format!(
                        "pod/{} the agent has not started, and what it was to do is void",
                        self.name
                    ));
                    true
                }
                _ => self.look().await?,
            },
        };
        Ok(if clean { Exit::Interrupted } else { Exit::NotClean })
    }

    /// The plan may be in force and nobody can follow it: ends it, and says what went wrong.
    async fn give_up(&mut self, error: Error, interrupts: &mut Interrupts) -> Result<Exit, Error> {
        error.print();
        self.report.note(&format!("pod/{} reverting what may be in force", self.name));
        let clean = tokio::select! {
            looked = self.look() => looked?,
            () = interrupts.next() => return Ok(self.interrupted_again()),
        };
        Ok(if clean { Exit::Failed } else { Exit::NotClean })
    }

    /// Asks an agent that answers for the fault, and stays to its end.
    pub(super) async fn ask(
        &mut self,
        mut session: Session,
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Error> {
        let sent = Instant::now();
        let outcome = match session.send(&self.job.request).await {
            Ok(()) => self.listen(session, interrupts).await?,
            Err(SessionError::Lost(why)) => Outcome::Lost(why),
            Err(error) => return Err(error.into()),
        };
        match outcome {
            Outcome::Exit(exit) => Ok(exit),
            Outcome::Lost(why) => {
                // Without a word that it is in force, it may still have been put in force.
                let latest = sent + Duration::from(self.job.running_time) + GRACE;
                let deadline = self.deadline.unwrap_or(latest);
                self.outlive(&why, deadline, interrupts).await
            }
        }
    }

    /// Follows the agent's events to the end of the fault.
    async fn listen(
        &mut self,
        mut session: Session,
        interrupts: &mut Interrupts,
    ) -> Result<Outcome, Error> {
        let mut interrupted = false;
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        loop {
            let overdue = self.deadline.unwrap_or_else(|| Instant::now() + 6 * GRACE) + GRACE;
            tokio::select! {
                event = session.next() => match event {
                    Ok(event) => {
                        self.report.event(&event)?;
                        if let Event::InForce { status } = &event {
                            self.needs_agent |= status.backend == Backend::Userspace;
                        }
                        match event {
                            Event::InForce { status: FaultStatus { remaining_ms, .. } }
                            | Event::ProcessInForce { status: ProcessStatus { remaining_ms, .. } } => {
                                self.in_force(remaining_ms);
                                if self.job.detach {
                                    let flags = self.cluster.flags(&self.name);
                                    self.report.detached(self.job.ender(), remaining_ms, &flags);
                                    return Ok(Outcome::Exit(Exit::Done));
                                }
                            }
                            Event::Ended { .. } if !sweep::is_clean(&event) => {
                                return Ok(Outcome::Exit(Exit::NotClean));
                            }
                            Event::Ended { .. } if interrupted => {
                                return Ok(Outcome::Exit(Exit::Interrupted));
                            }
                            Event::Ended { .. } => return Ok(Outcome::Exit(Exit::Done)),
                            Event::Failed { failure } => {
                                self.not_permitted = failure.kind == FailureKind::NotPermitted;
                                self.report.finish();
                                return Err(sweep::failure(&self.name, failure));
                            }
                            _ => {}
                        }
                    }
                    Err(SessionError::Lost(why)) => return Ok(Outcome::Lost(why)),
                    Err(error) => return Err(error.into()),
                },
                () = interrupts.next() => {
                    if interrupted {
                        return Ok(Outcome::Exit(self.interrupted_again()));
                    }
                    interrupted = true;
                    self.report.note("interrupted: reverting");
                    let revert = Request::Revert { fault: Some(self.job.id) };
                    if let Err(SessionError::Lost(why)) = session.send(&revert).await {
                        return Ok(Outcome::Lost(why));
                    }
                }
                change = self.following.next(), if self.deadline.is_some() => {
                    if let Err(SessionError::Lost(why)) = self.tell(&mut session, change).await {
                        return Ok(Outcome::Lost(why));
                    }
                }
                _ = tick.tick() => {
                    if let Some(deadline) = self.deadline {
                        let left = deadline.saturating_duration_since(Instant::now());
                        self.report.time_left(left);
                    }
                }
                () = sleep_until(overdue) => {
                    return Ok(Outcome::Lost("no word from it".to_owned()));
                }
            }
        }
    }

    /// Tells the agent what a target stands for now.
    async fn tell(&mut self, session: &mut Session, change: Change) -> Result<(), SessionError> {
        let Change { target, endpoints } = change;
        match endpoints {
            Ok(endpoints) => session.send(&Request::Retarget { target, endpoints }).await,
            Err(error) => {
                let why = error.messages.join("; ");
                self.report
                    .note(&format!("warning: pod/{} {target} stays what it was: {why}", self.name));
                Ok(())
            }
        }
    }

    fn in_force(&mut self, remaining_ms: u64) {
        self.deadline = Some(Instant::now() + Duration::from_millis(remaining_ms));
    }

    fn interrupted_again(&mut self) -> Exit {
        self.report.finish();
        eprintln!(
            "interrupted again: not waiting for the revert; {} ends the fault at its deadline at the latest",
            self.job.ender()
        );
        Exit::NotClean
    }

    /// The agent is out of reach, not the kernel's timer: waits for that, then has an agent look.
    /// An interrupt has an agent revert at once.
    async fn outlive(
        &mut self,
        why: &str,
        deadline: Instant,
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let with_it = if self.needs_agent { "if it has died, so has the fault; " } else { "" };
        self.report.note(&format!(
            "pod/{} lost the agent ({why}); {with_it}{} ends the fault in {:.0} s all the same",
            self.name,
            self.job.ender(),
            left.as_secs_f64().ceil()
        ));
        let exit = self.sit_out(deadline, interrupts).await;
        self.report.finish();
        let clean = tokio::select! {
            looked = self.look() => looked?,
            () = interrupts.next() => return Ok(self.interrupted_again()),
        };
        Ok(if clean { exit } else { Exit::NotClean })
    }

    /// Waits for the end of a fault whose agent is out of reach.
    async fn sit_out(&mut self, deadline: Instant, interrupts: &mut Interrupts) -> Exit {
        let mut ended = Box::pin(self.job.ended_early(self.cluster, &self.name));
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Exit::Done;
            }
            self.report.time_left(left);
            tokio::select! {
                () = sleep(left.min(Duration::from_millis(200))) => {}
                () = &mut ended, if self.needs_agent => {
                    self.report.note(&format!("pod/{} the fault has ended before its time", self.name));
                    return Exit::Done;
                }
                () = interrupts.next() => {
                    self.report.note("interrupted: reverting");
                    return Exit::Interrupted;
                }
            }
        }
    }

    /// Has an agent, a new one if need be, end the fault and look whether it is gone. Whether it is clean.
    async fn look(&mut self) -> Result<bool, Error> {
        match Box::pin(self.look_by_agent()).await {
            Ok(clean) => Ok(clean),
            Err(error) => Err(self.not_verified(error)),
        }
    }

    async fn look_by_agent(&mut self) -> Result<bool, Error> {
        let pod = self.cluster.pod(&self.name).await?;
        if let Some(container) = self.job.lost_container(&pod) {
            let text =
                format!("pod/{} container {container} has ended, and the fault with it", self.name);
            self.report.note(&text);
            return Ok(true);
        }
        let (session, _) =
            ensure_agent(self.cluster, &self.name, &pod, &self.job.agent, &mut note).await?;
        let container = session.container.clone();
        let clean = self.revert(session).await?;
        if clean {
            self.report.note(&format!("pod/{} clean: read back by {container}", self.name));
        }
        Ok(clean)
    }

    /// Ends the fault and says what the agent says. Whether it is clean.
    async fn revert(&mut self, session: Session) -> Result<bool, Error> {
        let mut clean = true;
        for event in sweep::revert(session, Some(self.job.id)).await? {
            clean &= sweep::is_clean(&event);
            self.report.event(&event)?;
        }
        Ok(clean)
    }

    fn not_verified(&self, error: Error) -> Error {
        let message = format!(
            "pod/{} was not verified clean; {} has ended the fault or ends it at its deadline",
            self.name,
            self.job.ender()
        );
        Error {
            exit: Exit::NotClean,
            messages: std::iter::once(message).chain(error.messages).collect(),
            hint: Some(format!(
                "`kubectl pod-chaos revert {}` looks, and clears what is left",
                self.cluster.flags(&self.name)
            )),
        }
    }
}
