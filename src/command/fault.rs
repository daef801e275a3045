//! Puts faults in force, in one pod or in many at once, stays with them, and sees that they are gone.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use futures::{
    StreamExt as _,
    future::{LocalBoxFuture, OptionFuture},
    stream::FuturesUnordered,
};
use k8s_openapi::api::core::v1::Pod;
use pod_chaos_protocol::{Backend, Carried, Event, FailureKind, FaultId, Request, RunTime};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    installed,
    interrupt::Interrupts,
    note,
    outcome::{self, Toll},
    start::{Ready, Wanted, Way, make_ready},
    sweep,
};
use crate::{
    cli::{ConnectionArgs, CourseArgs, PodArgs},
    cluster::{
        AgentContainer, AgentSpec, AgentState, Audit, Change, Chosen, Cluster, Domain, Following,
        Installed, NewAgent, NoAnswer, Role, Session, SessionError, TargetContainer, ensure_agent,
        reach_agent,
    },
    exit::{Error, Exit},
    plan::PodName,
    report::{Board, Follow, text},
};

/// Between two looks whether a fault has ended whose agent is out of reach.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after its deadline a fault's agent may take to report it clean.
const GRACE: Duration = Duration::from_secs(5);

/// Carries out a fault wherever it is wanted.
pub(super) async fn run(
    connection: &ConnectionArgs,
    args: &PodArgs,
    course: &CourseArgs,
    mut wanted: impl Wanted<Deed = Job>,
) -> Result<Exit, Error> {
    let (call_off, called_off) = watch::channel(false);
    let mut interrupts = Interrupts::catch_with(called_off.clone())?;
    let board = Board::new(course.output.format.clone());
    let warm_up = course.warm_up.duration();
    let before = make_ready(connection, args, warm_up, true, &board, &mut wanted);
    // Until the plan has been sent nothing has to be reverted.
    let ready = tokio::select! {
        ready = Box::pin(before) => ready?,
        () = interrupts.next() => {
            note("interrupted before anything was in force");
            return Ok(Exit::Interrupted);
        }
    };
    let mut all = Vec::new();
    for one in ready {
        let interrupts = Interrupts::catch_with(called_off.clone())?;
        // On the heap from the start: they are large, and moved when there are many.
        all.push(Box::pin(carry_out(one, interrupts)));
    }
    let call_off = args.fail_fast.then_some(call_off);
    follow_all(all, &board, call_off).await
}

/// One fault, from its agent to its end.
async fn carry_out(ready: Ready<Job>, mut interrupts: Interrupts) -> (Chosen, Result<Exit, Error>) {
    let Ready { at, deed, agent, report, way } = ready;
    let mut run = Run::new(&at, agent, deed, report);
    let outcome = match way {
        Way::Session(session) => Box::pin(run.ask(*session, &mut interrupts)).await,
        Way::NewAgent(agent) => Box::pin(run.bring_in(&agent, &mut interrupts)).await,
    };
    let outcome = match (outcome, run.job.more.take()) {
        (Err(refusal), Some(role)) if run.not_permitted => {
            Box::pin(run.ask_more(refusal, role, &mut interrupts)).await
        }
        (outcome, _) => outcome,
    };
    let ended = run.job.container.take().filter(|_| run.job.ends_container);
    let outcome = match (outcome, ended) {
        (Ok(Exit::Done), Some(container)) => tokio::select! {
            exit = Box::pin(outcome::watch(run.report.as_mut(), &at, &container, run.toll)) => exit,
            () = interrupts.next() => Ok(Exit::Interrupted),
        },
        (outcome, _) => outcome,
    };
    run.report.outcome(&outcome);
    let Run { audit, left, done, .. } = run;
    Box::pin(audit.end((!left).then(|| with(how_it_ended(&outcome), done)))).await;
    (at, outcome)
}

/// Said before an agent that may do more is turned to.
pub(super) fn only_with(name: &PodName, role: &Role) -> String {
    format!(
        "pod/{name} the node lets this agent do it only with {}",
        role.capabilities().join(", ")
    )
}

/// For those who were not there.
pub(super) fn how_it_ended(outcome: &Result<Exit, Error>) -> String {
    match outcome {
        Ok(Exit::Done) => "has ended, and is clean".to_owned(),
        Ok(Exit::Interrupted) => "was reverted, and is clean".to_owned(),
        Ok(_) => "has ended, and was not verified clean".to_owned(),
        Err(error) => format!("has failed: {}", error.messages.join("; ")),
    }
}

/// The same, with what it has done.
pub(super) fn with(how: String, done: Option<String>) -> String {
    [Some(how), done].into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// All of them at the same time, and what they come to together.
pub(super) async fn follow_all(
    mut faults: Vec<impl Future<Output = (Chosen, Result<Exit, Error>)>>,
    board: &Rc<Board>,
    call_off: Option<watch::Sender<bool>>,
) -> Result<Exit, Error> {
    let outcome = match faults.len() {
        1 => Box::pin(faults.remove(0)).await.1,
        _ => follow_several(faults, board, call_off).await,
    };
    let exit = outcome.as_ref().map_or_else(|error| error.exit, |exit| *exit);
    board.close(exit)?;
    outcome
}

async fn follow_several(
    faults: Vec<impl Future<Output = (Chosen, Result<Exit, Error>)>>,
    board: &Rc<Board>,
    call_off: Option<watch::Sender<bool>>,
) -> Result<Exit, Error> {
    let mut faults: FuturesUnordered<_> = faults.into_iter().collect();
    let mut exits = Vec::new();
    let (mut pods, mut bad) = (BTreeSet::new(), BTreeSet::new());
    while let Some((at, outcome)) = faults.next().await {
        let exit = outcome.unwrap_or_else(|error| {
            board.error(&at.tell(error.clone()));
            error.exit
        });
        exits.push(exit);
        pods.insert(at.key());
        if !matches!(exit, Exit::Done | Exit::Interrupted) {
            bad.insert(at.key());
            if let Some(call_off) = &call_off {
                call_off.send_replace(true);
            }
        }
    }
    let (exit, count) = (together(&exits), pods.len());
    match exit {
        Exit::Done => board.note(&format!("{count} pods: all done")),
        Exit::Interrupted => board.note(&format!("{count} pods: all reverted")),
        _ => {
            let names = bad.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("{} of {count} pods failed: {names}", bad.len());
            return Err(Error::new(exit, message));
        }
    }
    Ok(exit)
}

/// The exit code of several: the worst. What was refused in some pods and not in others was not refused.
pub(super) fn together(exits: &[Exit]) -> Exit {
    let all = |exit: Exit| exits.iter().all(|one| *one == exit);
    let any = |exit: Exit| exits.contains(&exit);
    match () {
        () if any(Exit::NotClean) => Exit::NotClean,
        () if all(Exit::Refused) && !exits.is_empty() => Exit::Refused,
        () if any(Exit::Failed) || any(Exit::Refused) || any(Exit::Usage) => Exit::Failed,
        () if any(Exit::Interrupted) => Exit::Interrupted,
        () => Exit::Done,
    }
}

/// A fault, as far as it matters for following it.
pub(super) struct Job {
    pub id: FaultId,
    /// Puts it in force.
    pub request: Request,
    /// Counts from the moment it is in force.
    pub running_time: RunTime,
    /// Return as soon as it is in force.
    pub detach: bool,
    /// Whose processes it is done to: it ends with them.
    pub container: Option<TargetContainer>,
    /// Whether it is meant to end that container, and who carries it with it.
    pub ends_container: bool,
    /// The agent to turn to when the first may not do it.
    pub more: Option<Role>,
    /// Its targets, as long as they may change.
    pub following: Following,
    /// What is done besides, once it is in force. When that fails, the fault is reverted.
    pub then: Option<LocalBoxFuture<'static, Result<(), Error>>>,
}

impl Job {
    /// The name of the container whose processes are hit, when that run of it has ended.
    fn lost_container(&self, pod: &Pod) -> Option<&str> {
        let container = self.container.as_ref().filter(|container| !container.lives_in(pod))?;
        Some(&container.container.name)
    }

    /// Waits until the fault has ended before its time: with its container, or with its agent.
    async fn ended_early(&self, cluster: &Cluster, name: &PodName, role: &Role) {
        loop {
            if self.is_over(cluster, name, role).await.unwrap_or(false) {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn is_over(&self, cluster: &Cluster, name: &PodName, role: &Role) -> Result<bool, Error> {
        let pod = cluster.pod(name).await?;
        if self.lost_container(&pod).is_some() {
            return Ok(true);
        }
        let able = |agent: &AgentContainer| agent.role.covers(role);
        // Without an agent there is nobody to ask. One that held still has let go; what the kernel holds, it holds.
        let Some(session) = reach_agent(cluster, name, &pod, &able, &mut |_| {}).await? else {
            return Ok(true);
        };
        let told = sweep::status(session).await?;
        Ok(!told.iter().any(|fault| fault.id() == self.id && fault.is_live()))
    }
}

/// A fault from the moment its plan is sent.
struct Run {
    cluster: Cluster,
    name: PodName,
    agent: AgentSpec,
    job: Job,
    report: Box<dyn Follow>,
    audit: Audit,
    /// What it has done, once it has ended.
    done: Option<String>,
    /// Whether it goes on without this command.
    left: bool,
    /// When it ends at the latest; `None` until it is in force.
    deadline: Option<Instant>,
    /// Whether it ends with its agent: the kernel's timer needs none, where the kernel does what is done.
    needs_agent: bool,
    /// Whether the agent may not do what it was asked for.
    not_permitted: bool,
    /// What has come of it, where it is meant to end the container.
    toll: Toll,
}

/// Why the plugin stopped listening to the agent.
enum Outcome {
    Exit(Exit),
    /// The stream broke; the fault goes on to its deadline.
    Lost(String),
}

impl Run {
    fn new(at: &Chosen, agent: AgentSpec, job: Job, report: Box<dyn Follow>) -> Self {
        Self {
            cluster: at.cluster.clone(),
            name: at.name.clone(),
            needs_agent: agent.role.domain() == Domain::Processes,
            agent,
            audit: Audit::new(at, job.id),
            done: None,
            left: false,
            job,
            report,
            deadline: None,
            not_permitted: false,
            toll: Toll::Nobody,
        }
    }

    /// What ends the fault when nobody asks for its end.
    const fn ender(&self) -> &'static str {
        match self.agent.role.domain() {
            Domain::Network => "the kernel's timer",
            Domain::Processes => "its agent's timer",
        }
    }

    /// Turns to an agent that may do more than the one that refused.
    async fn ask_more(
        &mut self,
        refusal: Error,
        role: Role,
        interrupts: &mut Interrupts,
    ) -> Result<Exit, Error> {
        self.report.note(&only_with(&self.name, &role));
        let session = tokio::select! {
            session = Box::pin(self.turn_to(role)) => session,
            () = interrupts.next() => return Err(refusal),
        };
        Box::pin(self.ask(session?, interrupts)).await
    }

    async fn turn_to(&mut self, role: Role) -> Result<Session, Error> {
        self.agent.role = role;
        let pod = self.cluster.pod(&self.name).await?;
        let mut say = |text: &str| self.report.note(text);
        let (session, how) =
            ensure_agent(&self.cluster, &self.name, &pod, &self.agent, &mut say).await?;
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
        match agent.put_in(&self.cluster).await {
            Err(error) if error.exit == Exit::Refused => return Err(error),
            Err(error) => return self.give_up(error, interrupts).await,
            Ok(()) => {}
        }
        let void = Instant::now() + Duration::from_secs(1 + Carried::FRESH_FOR + Carried::SKEW);
        let mut say = |text: &str| self.report.note(text);
        let answer = tokio::select! {
            answer = agent.answer(&self.cluster, &mut say) => answer,
            () = interrupts.next() => {
                self.report.note(&format!("{}: reverting as soon as the agent answers", interrupts.why));
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
        let answer = tokio::time::timeout_at(void, agent.answer(&self.cluster, &mut |_| {})).await;
        let clean = match answer {
            Ok(Ok(session)) => self.revert(session).await?,
            Ok(Err(NoAnswer::NotStarted(_))) => true,
            Ok(Err(NoAnswer::Other(_))) | Err(_) => match agent.state(&self.cluster).await? {
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
        self.report.error(&error);
        self.report.note(&format!("pod/{} reverting what may be in force", self.name));
        let clean = tokio::select! {
            looked = self.look() => looked?,
            () = interrupts.next() => return Ok(self.interrupted_again()),
        };
        Ok(if clean { Exit::Failed } else { Exit::NotClean })
    }

    /// Asks an agent that answers for the fault, and stays to its end.
    async fn ask(
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
            Outcome::Lost(_) if self.job.ends_container && self.container_ends().await => {
                self.report.finish();
                self.toll = Toll::Container;
                Ok(Exit::Done)
            }
            Outcome::Lost(why) => {
                // Without a word that it is in force, it may still have been put in force.
                let latest = sent + Duration::from(self.job.running_time) + GRACE;
                let deadline = self.deadline.unwrap_or(latest);
                Box::pin(self.outlive(&why, deadline, interrupts)).await
            }
        }
    }

    /// Whether the container ends, as far as the kubelet says within a few seconds.
    async fn container_ends(&self) -> bool {
        let latest = Instant::now() + GRACE;
        while Instant::now() < latest {
            let pod = self.cluster.pod(&self.name).await;
            if pod.is_ok_and(|pod| self.job.lost_container(&pod).is_some()) {
                return true;
            }
            sleep(LOOK_EVERY).await;
        }
        false
    }

    /// Follows the agent's events to the end of the fault.
    async fn listen(
        &mut self,
        mut session: Session,
        interrupts: &mut Interrupts,
    ) -> Result<Outcome, Error> {
        // What it is reverted for before its time.
        let mut reverted: Option<Exit> = None;
        let mut then = self.job.then.take();
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        loop {
            let overdue = self.deadline.unwrap_or_else(|| Instant::now() + 6 * GRACE) + GRACE;
            tokio::select! {
                event = session.next() => match event {
                    Ok(event) => {
                        self.report.event(&event)?;
                        self.done = text::done(&event).or(self.done.take());
                        if let Event::OutOfMemory { .. } = &event {
                            self.toll = Toll::Some;
                        }
                        let in_force = match &event {
                            Event::InForce { status } => {
                                self.needs_agent |=
                                    matches!(status.backend, Backend::Userspace | Backend::Unknown);
                                Some((text::what(status), status.remaining_ms))
                            }
                            Event::ProcessInForce { status } => {
                                let container = &status.target.container;
                                let what = format!("{} in container {container}", status.doing);
                                Some((what, status.remaining_ms))
                            }
                            _ => None,
                        };
                        if let Some((what, remaining_ms)) = in_force {
                            self.audit.begin(what, Duration::from_millis(remaining_ms));
                            self.in_force(remaining_ms);
                            if self.job.detach && then.is_none() {
                                return Ok(self.detach());
                            }
                        }
                        match event {
                            Event::Ended { .. } if !sweep::is_clean(&event) => {
                                return Ok(Outcome::Exit(Exit::NotClean));
                            }
                            Event::Ended { .. } => {
                                return Ok(Outcome::Exit(reverted.unwrap_or(Exit::Done)));
                            }
                            Event::Failed { failure } => {
                                self.not_permitted = failure.kind == FailureKind::NotPermitted;
                                self.report.finish();
                                return Err(sweep::failure(&self.name, &session, failure));
                            }
                            _ => {}
                        }
                    }
                    Err(SessionError::Lost(why)) => return Ok(Outcome::Lost(why)),
                    // It may have said that the fault is in force.
                    Err(error @ SessionError::Unread { .. }) => {
                        return Box::pin(self.give_up(error.into(), interrupts)).await.map(Outcome::Exit);
                    }
                    Err(error) => return Err(error.into()),
                },
                () = interrupts.next() => {
                    if reverted == Some(Exit::Interrupted) {
                        return Ok(Outcome::Exit(self.interrupted_again()));
                    }
                    reverted = Some(Exit::Interrupted);
                    then = None;
                    self.report.note(&format!("{}: reverting", interrupts.why));
                    let revert = Request::Revert { fault: Some(self.job.id) };
                    if let Err(SessionError::Lost(why)) = session.send(&revert).await {
                        return Ok(Outcome::Lost(why));
                    }
                }
                Some(done) = OptionFuture::from(then.as_mut()), if self.deadline.is_some() => {
                    then = None;
                    if let Err(error) = done {
                        self.report.error(&error);
                        self.report.note(&format!("pod/{} reverting", self.name));
                        reverted = Some(Exit::Failed);
                        let revert = Request::Revert { fault: Some(self.job.id) };
                        if let Err(SessionError::Lost(why)) = session.send(&revert).await {
                            return Ok(Outcome::Lost(why));
                        }
                    } else if self.job.detach {
                        return Ok(self.detach());
                    }
                }
                change = self.job.following.next(), if self.deadline.is_some() => {
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

    /// Leaves the fault to what ends it.
    fn detach(&mut self) -> Outcome {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left_ms = left.and_then(|left| u64::try_from(left.as_millis()).ok()).unwrap_or(0);
        let flags = self.cluster.flags(&self.name);
        self.report.detached(self.ender(), left_ms, &flags);
        self.left = true;
        Outcome::Exit(Exit::Done)
    }

    fn interrupted_again(&mut self) -> Exit {
        self.report.finish();
        let ender = self.ender();
        self.report.note(&format!(
            "interrupted again: not waiting for the revert; {ender} ends the fault at its deadline at the latest"
        ));
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
            self.ender(),
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
        let mut ended = Box::pin(self.job.ended_early(&self.cluster, &self.name, &self.agent.role));
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
                    self.report.note(&format!("{}: reverting", interrupts.why));
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
            ensure_agent(&self.cluster, &self.name, &pod, &self.agent, &mut note).await?;
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
            self.ender()
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
