//! `observe`: what containers use, second by second.

use std::rc::Rc;

use futures::future::try_join_all;
use k8s_openapi::jiff::Timestamp;
use pod_chaos_protocol::{Event, Metrics, Observation, Request, RunTime};
use tokio::time::{Duration, Instant, sleep};

use super::{
    interrupt::Interrupts,
    note, print_line, process,
    start::{Aim, Ready, Wanted, Way, make_ready},
    sweep,
};
use crate::{
    cli::{ConnectionArgs, ContainerArgs, ObserveArgs},
    cluster::{Chosen, Domain, Session, SessionError, TargetContainer, ensure_agent},
    exit::{Error, Exit},
    plan::OutputFormat,
    report::{
        Board,
        metrics::{self, Place},
        prometheus::Exporter,
    },
};

/// How long a container that restarts may take to be there again.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks whether it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn run(connection: &ConnectionArgs, args: &ObserveArgs) -> Result<Exit, Error> {
    let mut interrupts = Interrupts::catch()?;
    tokio::select! {
        exit = Box::pin(observe(connection, args)) => exit,
        () = interrupts.next() => Ok(Exit::Done),
    }
}

async fn observe(connection: &ConnectionArgs, args: &ObserveArgs) -> Result<Exit, Error> {
    let running_time = args.running_time.unwrap_or(RunTime::MAX);
    let observers = Observer::begin(connection, &args.target, args.every, running_time).await?;
    let exporter = match args.listen {
        Some(address) => {
            let exporter = Exporter::default();
            let address = exporter.listen(address).await?;
            note(&format!("Prometheus gets them from http://{address}/metrics"));
            Some(exporter)
        }
        None => None,
    };
    let several = observers.len() > 1;
    if let Some(head) = metrics::head(args.output, several) {
        print_line(&head)?;
    }
    let exporter = &exporter;
    let followed = observers.into_iter().map(|mut observer| async move {
        while let Some(now) = observer.next().await? {
            if let Some(exporter) = exporter {
                exporter.add(&observer.place, &now);
            }
            let place = &observer.place;
            print_line(&metrics::line(args.output, place, several, Timestamp::now(), &now))?;
        }
        Ok::<_, Error>(())
    });
    try_join_all(followed).await?;
    Ok(Exit::Done)
}

/// Observes a container, also when it restarts.
pub(super) struct Observer<'a> {
    pub place: Place,
    at: Chosen,
    target: &'a ContainerArgs,
    every: RunTime,
    end: Instant,
    session: Session,
}

/// What is wanted of each pod: a process in the containers that are meant.
struct Watching<'a>(&'a ContainerArgs);

impl Wanted for Watching<'_> {
    type Deed = TargetContainer;

    fn domain(&self) -> Domain {
        Domain::Processes
    }

    fn aim(&mut self, Chosen { pod, .. }: &Chosen) -> Result<Vec<Aim<TargetContainer>>, Error> {
        let containers = process::containers(self.0, pod)?.into_iter();
        let aim = |container: TargetContainer| Aim {
            agent: process::agent(&self.0.agent.image, pod, &container, &[]),
            notes: Vec::new(),
            inside: Some(container.clone()),
            plan: None,
            deed: container,
        };
        Ok(containers.map(aim).collect())
    }
}

impl<'a> Observer<'a> {
    /// One for each container that is meant.
    pub(super) async fn begin(
        connection: &ConnectionArgs,
        target: &'a ContainerArgs,
        every: RunTime,
        running_time: RunTime,
    ) -> Result<Vec<Self>, Error> {
        let board: Rc<Board> = Board::new(OutputFormat::Text);
        let mut wanted = Watching(target);
        let pods = &target.pod;
        let ready =
            make_ready(connection, pods, Duration::ZERO, false, &board, &mut wanted).await?;
        let end = Instant::now() + Duration::from(running_time);
        let begun = ready.into_iter().map(|Ready { at, deed, way, .. }| async move {
            let Way::Session(mut session) = way else {
                return Err(Error::internal("observing a container", "no agent answers"));
            };
            session.send(&Request::Observe { plan: Observation { every, running_time } }).await?;
            let place = Place {
                namespace: at.cluster.namespace().to_owned(),
                pod: at.name.to_string(),
                container: deed.container.name,
            };
            Ok(Self { place, at, target, every, end, session: *session })
        });
        try_join_all(begun).await
    }

    /// What was used since the last time; `None` when the time is over.
    pub(super) async fn next(&mut self) -> Result<Option<Metrics>, Error> {
        loop {
            match self.session.answer_in(self.every.into()).await {
                Ok(Event::Observed { metrics }) => return Ok(Some(metrics)),
                Ok(Event::Failed { failure }) => {
                    return Err(sweep::failure(&self.at.name, failure));
                }
                Ok(_) => {}
                Err(SessionError::Lost(why) | SessionError::Silent(why)) => match self.left() {
                    Some(_) => self.reattach(&why).await?,
                    None => return Ok(None),
                },
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What is left of the time, if it is enough for another look.
    fn left(&self) -> Option<RunTime> {
        let left = self.end.saturating_duration_since(Instant::now());
        let left = RunTime::from_nanos(u64::try_from(left.as_nanos()).ok()?).ok()?;
        (left >= self.every).then_some(left)
    }

    /// Finds the container's next run. An agent ends with the one that it was for.
    async fn reattach(&mut self, why: &str) -> Result<(), Error> {
        let Place { pod, container, .. } = &self.place;
        note(&format!("pod/{pod} lost sight of container {container}: {why}"));
        let begun = Instant::now();
        while let Some(left) = self.left() {
            match Box::pin(self.attach(left)).await {
                Ok(session) => {
                    self.session = session;
                    return Ok(());
                }
                Err(error) if begun.elapsed() > PATIENCE => return Err(error),
                Err(_) => sleep(LOOK_EVERY).await,
            }
        }
        Ok(())
    }

    async fn attach(&self, running_time: RunTime) -> Result<Session, Error> {
        let Chosen { cluster, name, .. } = &self.at;
        let pod = cluster.pod(name).await?;
        let container = TargetContainer::choose(&pod, Some(&self.place.container))?;
        let spec = process::agent(&self.target.agent.image, &pod, &container, &[]);
        let (beside, _) = ensure_agent(cluster, name, &pod, &spec, &mut note).await?;
        let mut session = beside.open_beside(cluster, name, &self.place.container).await?;
        let plan = Observation { every: self.every, running_time };
        session.send(&Request::Observe { plan }).await?;
        Ok(session)
    }
}
