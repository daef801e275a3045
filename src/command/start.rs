//! From flags to agents that are ready, in one pod or in many: everything up to the moment before.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{IsTerminal as _, stderr, stdin},
    rc::Rc,
    time::Duration,
};

use futures::{StreamExt as _, future::join_all, stream};
use k8s_openapi::api::core::v1::Pod;
use pod_chaos_protocol::{Carried, Plan, RunTime};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{installed, print_line};
use crate::{
    cli::{ConnectionArgs, DryRun, PickArgs, PodArgs},
    cluster::{
        AgentContainer, AgentSpec, Capability, Choice, Chosen, Cluster, Domain, Installed, Limits,
        NewAgent, ProcessRole, Role, Safety, Session, SessionError, TargetContainer, User,
        check_namespaces, check_pod, ensure_agent, reach_agent, select,
    },
    exit::{Error, Exit},
    plan::{Origin, OutputFormat, Selection},
    report::{Board, Follow, document},
};

/// Pods whose names are told when they are chosen.
const NAMED: usize = 10;
/// Pods that something is done to at the same time, where that takes several requests each.
const AT_ONCE: usize = 64;

/// What is wanted of each pod that is chosen.
pub(super) trait Wanted {
    /// What is done to one pod, or to one container of it.
    type Deed;

    /// What it is about.
    fn domain(&self) -> Domain;

    /// How long it is to last, if it lasts.
    fn running_time(&self) -> Option<RunTime> {
        None
    }

    /// Finds out what is the same for several pods.
    async fn survey(&mut self, _: &[Chosen], _: &Rc<Board>) -> Result<(), Error> {
        Ok(())
    }

    /// What it comes to in this pod, or why it cannot be done there. Touches nothing.
    fn aim(&mut self, at: &Chosen) -> Result<Vec<Aim<Self::Deed>>, Error>;

    /// Whether there is nothing else to tell of than the agent.
    fn is_only_for_the_agent(&self) -> bool {
        false
    }

    /// The same some time later.
    fn renew(&mut self, _: &Pod, _: &mut Aim<Self::Deed>) -> Result<(), Error> {
        Ok(())
    }
}

/// What is to be done in one pod.
pub(super) struct Aim<D> {
    /// Who does it.
    pub agent: AgentSpec,
    /// What had better be known before; each a line.
    pub notes: Vec<String>,
    /// The container that it is done in, by a process that the agent brings there.
    pub inside: Option<TargetContainer>,
    /// What a new agent can be given to begin with.
    pub plan: Option<Plan>,
    pub deed: D,
}

/// A deed that is ready to be done.
pub(super) struct Ready<D> {
    pub at: Chosen,
    pub deed: D,
    pub agent: AgentSpec,
    pub report: Box<dyn Follow>,
    pub way: Way,
}

/// How it gets to an agent.
pub(super) enum Way {
    /// To one that answers.
    Session(Box<Session>),
    /// Together with a new one.
    NewAgent(Box<NewAgent>),
}

/// One that is being made ready.
struct Unit<D> {
    at: Chosen,
    aim: Aim<D>,
    report: Box<dyn Follow>,
    way: Option<Way>,
}

/// The selection that these flags make; it may not be open.
pub(super) fn selection(args: &PickArgs) -> Result<Selection, Error> {
    Selection::try_from(args)
        .and_then(Selection::not_open)
        .map_err(|error| Error::new(Exit::Usage, &error).hint(error.hint()))
}

/// Looks up the pods that are chosen, and says which.
pub(super) async fn choose(
    clusters: &[Cluster],
    selection: &Selection,
    board: &Board,
) -> Result<Vec<Chosen>, Error> {
    let choice = select(clusters, selection).await?;
    if selection.only().is_none() || choice.pods.len() > 1 {
        announce(&choice, board)?;
    }
    let mut pods = choice.pods;
    board.expect(pods.len(), are_apart(&pods));
    let count = pods.len();
    for one in &mut pods {
        one.cluster = one.cluster.crowded(count);
    }
    Ok(pods)
}

/// Whether it has to be said where each of these is.
pub(super) fn are_apart(pods: &[Chosen]) -> bool {
    let scopes: BTreeSet<_> = pods.iter().map(|one| one.cluster.scope()).collect();
    scopes.len() > 1 || scopes.iter().any(|scope| scope.context.is_some())
}

/// The same, and sees whom the owners of pods and namespaces want left alone: of these it is said why.
pub(super) async fn choose_safely(
    clusters: &[Cluster],
    selection: &Selection,
    args: &PodArgs,
    running_time: Option<RunTime>,
    board: &Board,
) -> Result<(Vec<Chosen>, Refusals), Error> {
    let limits = Limits {
        protected: args.protected.clone(),
        allow_protected: args.allow_protected,
        max_share: args.max_share,
    };
    // It costs no time beside the look at the pods where it is known which namespace they are of.
    let (mut pods, safety) = if selection.everywhere {
        let pods = choose(clusters, selection, board).await?;
        let mut namespaces: Vec<_> = pods.iter().map(|one| one.cluster.clone()).collect();
        namespaces.dedup_by(|a, b| a.scope() == b.scope());
        let safety = Safety::read(&namespaces).await;
        (pods, safety?)
    } else {
        let (pods, safety) =
            futures::join!(choose(clusters, selection, board), Safety::read(clusters));
        (pods?, safety?)
    };
    for unread in &safety.unread {
        // Who may not look can do nothing about it, and `doctor` says it. What owners limit first is how many.
        if !unread.forbidden || pods.len() > 1 {
            board.note(&format!("warning: {unread}"));
        }
    }
    let mut refusals = Refusals::of(pods.len());
    safety.check_shares(&pods, &limits).await?;
    pods.retain(|one| refusals.keep(one, safety.check_pod(one, &limits, running_time)).is_some());
    Ok((pods, refusals))
}

/// Asks a person whether several pods are really meant. Nobody can be asked where there is no terminal.
pub(super) async fn confirm(args: &PodArgs, pods: usize) -> Result<(), Error> {
    if pods < 2 || args.yes || !stdin().is_terminal() || !stderr().is_terminal() {
        return Ok(());
    }
    eprint!("{pods} pods will be hit. Go on? [y/N] ");
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        stdin().read_line(&mut line).map(|_| line)
    });
    let answer = answer.await.ok().and_then(Result::ok).unwrap_or_default();
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Error::refused("not confirmed; nothing was touched").hint("--yes does not ask"))
}

fn announce(choice: &Choice, board: &Board) -> Result<(), Error> {
    let Choice { pods, of, mode, seed } = choice;
    let keys: Vec<_> = pods.iter().map(Chosen::key).collect();
    let event = json!({
        "event": "chosen", "mode": mode.to_string(), "seed": seed, "of": of, "pods": keys,
    });
    let apart = are_apart(pods);
    let name = |one: &Chosen| if apart { one.key() } else { one.name.to_string() };
    let mut names = pods.iter().take(NAMED).map(name).collect::<Vec<_>>().join(", ");
    if pods.len() > NAMED {
        let _ = write!(names, " and {} more", pods.len() - NAMED);
    }
    let how = match seed {
        Some(seed) => format!(" of {of} (--mode {mode} --seed {seed})"),
        None => String::new(),
    };
    let plural = if pods.len() == 1 && *of == 1 { "" } else { "s" };
    let text = format!("chosen: {}{how} pod{plural}: {names}", pods.len());
    board.tell_of_all(&text, &event)
}

/// Chooses the pods, looks what speaks against it in any of them, and has an agent in each that answers. Until it has
/// looked at all of them, nothing is touched.
///
/// With `carries`, one single pod that has no agent yet gets it later, with its plan.
pub(super) async fn make_ready<W: Wanted>(
    connection: &ConnectionArgs,
    args: &PodArgs,
    warm_up: Duration,
    carries: bool,
    board: &Rc<Board>,
    wanted: &mut W,
) -> Result<Vec<Ready<W::Deed>>, Error> {
    let (chosen, clock) = {
        let selection = selection(&args.pick)?;
        let clusters = Cluster::connect(connection, args.pick.namespace.namespace.as_ref()).await?;
        let clock = async {
            match &clusters[..] {
                [cluster] if carries && warm_up.is_zero() => cluster.clock().await,
                _ => None,
            }
        };
        let running_time = wanted.running_time();
        futures::join!(choose_safely(&clusters, &selection, args, running_time, board), clock)
    };
    let (mut pods, mut refusals) = chosen?;
    let alone = refusals.of == 1;
    pods.retain(|one| refusals.keep(one, check_pod(&one.pod, wanted.domain())).is_some());
    refusals.check(args, alone, pods.is_empty())?;
    wanted.survey(&pods, board).await?;
    check_namespaces(&mut pods).await;
    let mut units = Vec::new();
    for at in pods {
        for aim in refusals.keep(&at, wanted.aim(&at)).into_iter().flatten() {
            let report = board.follow(at.cluster.scope(), &at.name);
            units.push(Unit { at: at.clone(), aim, report, way: None });
        }
    }
    refusals.check(args, alone, units.is_empty())?;
    board.expect(units.len(), board.are_apart());
    tell_notes(&units, board);
    let single = units.len() == 1;
    let clock = clock.filter(|_| single);
    let tries = args.dry_run != Some(DryRun::Client);
    let looks = units.iter_mut().map(|unit| find_agent(unit, clock, tries));
    let found = all(looks).await;
    let mut kept = Vec::new();
    for (unit, found) in units.into_iter().zip(found) {
        if refusals.keep(&unit.at, found).is_some() {
            kept.push(unit);
        }
    }
    let mut units = kept;
    refusals.check(args, alone, units.is_empty())?;
    refusals.tell(board);
    if args.dry_run.is_some() {
        return Err(dry_run(&units, board));
    }
    let pods: BTreeSet<_> = units.iter().map(|unit| unit.at.key()).collect();
    confirm(args, pods.len()).await?;
    if !(single && clock.is_some() && units.iter().any(Unit::carries)) {
        board.expect(units.len(), board.are_apart());
        units = answering(units, args, board, !wanted.is_only_for_the_agent()).await?;
    }
    if !warm_up.is_zero() {
        // The streams are opened anew afterwards: nothing in between may cut them for idling.
        for unit in &mut units {
            unit.way = None;
        }
        wait(warm_up, &mut units).await;
        let again = all(units.iter_mut().map(find_again)).await;
        for (unit, found) in units.iter_mut().zip(again) {
            let pod = found?;
            wanted.renew(&pod, &mut unit.aim)?;
            unit.at.pod = pod.into();
        }
        let agents = all(units.iter_mut().map(ensure)).await;
        agents.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    let entered = all(units.iter_mut().map(enter)).await;
    entered.into_iter().collect::<Result<Vec<_>, _>>()?;
    board.expect(units.len(), board.are_apart());
    let ready = units.into_iter().filter_map(|unit| {
        let Unit { at, aim: Aim { agent, deed, .. }, report, way } = unit;
        Some(Ready { at, deed, agent, report, way: way? })
    });
    Ok(ready.collect())
}

impl<D> Unit<D> {
    fn carries(&self) -> bool {
        self.aim.plan.is_some() && matches!(self.way, Some(Way::NewAgent(_)))
    }
}

/// All of these, several at a time; what came of them, in their order.
pub(super) async fn all<T>(of: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    stream::iter(of).buffered(AT_ONCE).collect().await
}

/// An agent that answers, or one that could be put in.
async fn find_agent<D>(unit: &mut Unit<D>, clock: Option<u64>, tries: bool) -> Result<(), Error> {
    let Unit { at: Chosen { cluster, name, pod }, aim, report, way } = unit;
    let mut say = |text: &str| report.note(text);
    let able = |agent: &AgentContainer| agent.role.covers(&aim.agent.role);
    if let Some(session) = reach_agent(cluster, name, pod, &able, &mut say).await? {
        *way = Some(Way::Session(Box::new(session)));
        return Ok(());
    }
    if let Origin::Stream(_) = aim.agent.origin {
        aim.plan = None;
    }
    let carried = clock.zip(aim.plan.clone()).map(|(now, plan)| Carried::new(plan, now));
    let agent = if tries {
        NewAgent::check(cluster, name, pod, &aim.agent, carried.as_ref()).await?
    } else {
        NewAgent::unchecked(name, pod, &aim.agent, carried.as_ref())
    };
    *way = Some(Way::NewAgent(Box::new(agent)));
    Ok(())
}

/// Prints what would be sent, as the pods that it would be merged into.
fn dry_run<D>(units: &[Unit<D>], board: &Board) -> Error {
    for unit in units {
        let Chosen { cluster, name, .. } = &unit.at;
        match &unit.way {
            Some(Way::NewAgent(agent)) => {
                let separator = match board.output {
                    OutputFormat::Yaml => print_line(&"---"),
                    _ => Ok(()),
                };
                let patch = agent.patch(cluster);
                let print = || document::print(&board.output, &patch, [name.as_str()]);
                if let Err(error) = separator.and_then(|()| print()) {
                    return error;
                }
            }
            Some(Way::Session(session)) => {
                let agent = &session.container;
                let pod = unit.at.title();
                board.note(&format!("{pod} has an agent that would be asked: {agent}"));
            }
            None => {}
        }
    }
    board.note("dry run: nothing was touched");
    Error::nothing()
}

/// Puts in all agents that are missing, and waits until they answer. What fails here has put nothing in force.
async fn answering<D>(
    mut units: Vec<Unit<D>>,
    args: &PodArgs,
    board: &Board,
    tells: bool,
) -> Result<Vec<Unit<D>>, Error> {
    let alone = units.len() == 1;
    let mut refusals = Refusals { touched: true, ..Refusals::of(units.len()) };
    let bring = units.iter_mut().map(|unit| async {
        let Some(Way::NewAgent(agent)) = &unit.way else { return Ok(()) };
        agent.put_in(&unit.at.cluster).await?;
        let mut say = |text: &str| unit.report.note(text);
        let session = agent.answer(&unit.at.cluster, &mut say).await.map_err(Error::from)?;
        if tells {
            installed(unit.report.as_mut(), &unit.at.name, &session);
        }
        unit.way = Some(Way::Session(Box::new(session)));
        Ok(())
    });
    // They mostly wait for nodes: as many at a time as there are.
    let brought = join_all(bring).await;
    let mut kept = Vec::new();
    for (unit, brought) in units.into_iter().zip(brought) {
        if refusals.keep(&unit.at, brought).is_some() {
            kept.push(unit);
        }
    }
    refusals.check(args, alone, kept.is_empty())?;
    refusals.tell(board);
    Ok(kept)
}

async fn find_again<D>(unit: &mut Unit<D>) -> Result<Pod, Error> {
    unit.at.cluster.pod(&unit.at.name).await
}

async fn ensure<D>(unit: &mut Unit<D>) -> Result<(), Error> {
    let Unit { at: Chosen { cluster, name, pod }, aim, report, way } = unit;
    let mut say = |text: &str| report.note(text);
    let (session, how) = ensure_agent(cluster, name, pod, &aim.agent, &mut say).await?;
    if how == Installed::Now {
        installed(report.as_mut(), name, &session);
    }
    *way = Some(Way::Session(Box::new(session)));
    Ok(())
}

/// Has a process started in the target container, by the agent beside it.
async fn enter<D>(unit: &mut Unit<D>) -> Result<(), Error> {
    let (Some(container), Some(Way::Session(agent))) = (&unit.aim.inside, &unit.way) else {
        return Ok(());
    };
    let mut say = |text: &str| unit.report.note(text);
    let session = enter_by(&unit.at, &unit.aim.agent, agent, container, &mut say).await?;
    unit.way = Some(Way::Session(Box::new(session)));
    Ok(())
}

/// Has a process started in a container by this agent beside it, which `spec` has described. Where that one is not the
/// user that the container is, by another one that can become anyone.
pub(super) async fn enter_by(
    Chosen { cluster, name, pod }: &Chosen,
    spec: &AgentSpec,
    agent: &Session,
    container: &TargetContainer,
    say: &mut dyn FnMut(&str),
) -> Result<Session, Error> {
    let target = &container.container.name;
    let mut entered = agent.open_beside(cluster, name, target).await;
    if let (Err(SessionError::NotRunning(why)), Some(spec)) = (&entered, anchoring(spec))
        && is_denied(why)
    {
        let put_in = ensure_agent(cluster, name, pod, &spec, say).await;
        let (mut agent, how) = put_in.map_err(|error| {
            error.hint_too("an agent without capabilities will do where the container has runAsUser and runAsGroup")
        })?;
        if how == Installed::Now {
            say(&format!(
                "pod/{name} container {target} is a user that only its image says: to become it takes {}",
                spec.role.capabilities().join(", ")
            ));
        }
        entered = agent.open_anchored(cluster, name, container.processes(None)).await;
    }
    entered.map_err(|error| match error {
        SessionError::NotRunning(why) => Error::refused(format_args!(
            "container {target} of pod/{name} cannot start a process of the agent's: {why}"
        )),
        other => other.into(),
    })
}

/// Whether the kernel has denied who the container is the agent's file, in the words of runc or crun, and not the
/// container's end.
fn is_denied(why: &str) -> bool {
    why.to_ascii_lowercase().contains("permission denied")
}

/// The agent that can become whoever the container is, where the first one only guessed that it is root.
fn anchoring(spec: &AgentSpec) -> Option<AgentSpec> {
    let Role::Process(role) = &spec.role else { return None };
    let capabilities = vec![Capability::SetUid, Capability::SetGid];
    (role.user == User::ROOT).then(|| AgentSpec {
        origin: spec.origin.clone(),
        role: Role::Process(ProcessRole { capabilities, ..role.clone() }),
    })
}

async fn wait<D>(warm_up: Duration, units: &mut [Unit<D>]) {
    let start = Instant::now();
    while let Some(left) = warm_up.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        for unit in &mut *units {
            unit.report.warming_up(left, warm_up);
        }
        sleep(left.min(Duration::from_millis(200))).await;
    }
}

/// What had better be known, once for all pods of which it is true.
fn tell_notes<D>(units: &[Unit<D>], board: &Board) {
    let mut told: Vec<(String, Vec<String>)> = Vec::new();
    for unit in units {
        let pod = format!("pod/{}", unit.at.name);
        for note in &unit.aim.notes {
            let about = note.strip_prefix(&pod).unwrap_or(note).to_owned();
            match told.iter_mut().find(|(known, _)| *known == about) {
                Some((_, pods)) => pods.push(unit.at.title()),
                None => told.push((about, vec![unit.at.title()])),
            }
        }
    }
    for (about, pods) in told {
        // Only what is about a pod goes on after its name.
        let subject = match &pods[..] {
            _ if !about.starts_with(' ') => String::new(),
            [pod] => pod.clone(),
            pods => format!("{} pods", pods.len()),
        };
        board.note(&format!("{subject}{about}"));
    }
}

/// What speaks against it, pod by pod.
#[derive(Default)]
pub(super) struct Refusals {
    refused: Vec<(String, Error)>,
    /// How many pods there were.
    pub of: usize,
    /// Whether agents have been put in already.
    touched: bool,
}

impl Refusals {
    /// None yet, of so many pods.
    pub fn of(of: usize) -> Self {
        Self { of, ..Self::default() }
    }

    /// What is there if nothing speaks against it.
    pub fn keep<T>(&mut self, at: &Chosen, outcome: Result<T, Error>) -> Option<T> {
        outcome.map_err(|error| self.refused.push((at.key(), error))).ok()
    }

    /// Refuses everything when one pod is refused, unless there are others and they are to be hit all the same.
    pub fn check(&self, args: &PodArgs, alone: bool, none_left: bool) -> Result<(), Error> {
        match &self.refused[..] {
            [] => Ok(()),
            [(_, only)] if alone => Err(only.clone()),
            _ if args.skip_refused && !none_left => Ok(()),
            [(_, first), ..] => {
                let pods: BTreeSet<_> = self.refused.iter().map(|(pod, _)| pod).collect();
                let (pods, of) = (pods.len(), self.of);
                let are = if pods == 1 { "is" } else { "are" };
                let what = if self.touched {
                    format!("no agent answers in {pods} of {of} pods; nothing is in force")
                } else {
                    format!("{pods} of {of} pods {are} refused; nothing was touched")
                };
                let error = Error {
                    exit: first.exit,
                    messages: vec![format!("{what}\n{}", self.table())],
                    hint: first.hint.clone(),
                };
                Err(if none_left {
                    error
                } else {
                    error.hint_too("--skip-refused leaves them out")
                })
            }
        }
    }

    pub fn tell(&self, board: &Board) {
        if !self.refused.is_empty() {
            board.note(&format!("left out:\n{}", self.table().trim_end()));
        }
    }

    /// Pods with all reasons.
    fn table(&self) -> String {
        let mut rows = vec![["POD".to_owned(), "WHY".to_owned()]];
        for (pod, error) in &self.refused {
            let name = pod.rsplit_once('/').map_or(pod.as_str(), |(_, name)| name);
            for why in &error.messages {
                // The row says which pod.
                let why = why.strip_prefix(&format!("pod/{name} ")).unwrap_or(why);
                rows.push([pod.clone(), why.to_owned()]);
            }
        }
        crate::report::table::table(&rows).trim_end().to_owned()
    }
}
