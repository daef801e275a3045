//! `observe`: what containers use, second by second.

use std::rc::Rc;

use futures::future::try_join_all;
use k8s_openapi::jiff::Timestamp;
use pod_chaos_protocol::{Event, Observation, Request, RunTime};
use tokio::{
    sync::broadcast::{Receiver, error::TryRecvError},
    time::{Duration, Instant, sleep},
};

use super::{
    interrupt::Interrupts,
    note, print_line, process,
    start::{Aim, Ready, Wanted, Way, enter_by, make_ready},
    sweep, url,
};
use crate::{
    cli::{ConnectionArgs, ContainerArgs, ObserveArgs},
    cluster::{Chosen, Domain, Scope, Session, SessionError, TargetContainer, ensure_agent},
    exit::{Error, Exit},
    plan::OutputFormat,
    report::{
        Board,
        metrics::{self, Answer, Columns, Place, Sample},
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
    let asked = args.url.as_ref().map(|url| url::ask(url, args.every.into())).transpose()?;
    let observers =
        Observer::begin(connection, &args.target, args.every, running_time, asked.as_ref()).await?;
    let exporter = match args.listen {
        Some(address) => {
            let exporter = Exporter::default();
            let address = exporter.listen(address).await?;
            note(&format!("Prometheus gets them from http://{address}/metrics"));
            Some(exporter)
        }
        None => None,
    };
    let columns = Columns {
        places: observers.len() > 1,
        contexts: observers.iter().any(|observer| observer.place.context.is_some()),
        answers: asked.is_some(),
    };
    if let Some(head) = metrics::head(args.output, columns) {
        print_line(&head)?;
    }
    let exporter = &exporter;
    let followed = observers.into_iter().map(|mut observer| async move {
        while let Some(sample) = observer.next().await? {
            if let Some(exporter) = exporter {
                exporter.add(&observer.place, &sample);
            }
            print_line(&metrics::line(args.output, &observer.place, columns, &sample))?;
        }
        Ok::<_, Error>(())
    });
    try_join_all(followed).await?;
    Ok(Exit::Done)
}

/// Observes a container, also when it restarts.
pub(super) struct Observer<'a> {
    pub place: Place,
    pub at: Chosen,
    target: &'a ContainerArgs,
    every: RunTime,
    end: Instant,
    session: Session,
    /// What the URL answers that is asked meanwhile.
    answers: Option<Receiver<Answer>>,
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
            agent: process::agent(self.0.agent.origin(), pod, &container, &[]),
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
        answers: Option<&Receiver<Answer>>,
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
            let container = Some(deed.id.clone());
            let plan = Observation { every, running_time, container };
            session.send(&Request::Observe { plan }).await?;
            let Scope { context, namespace } = at.cluster.scope().clone();
            let place = Place {
                context: context.as_deref().map(str::to_owned),
                namespace,
                pod: at.name.to_string(),
                container: deed.container.name,
            };
            let answers = answers.map(Receiver::resubscribe);
            Ok(Self { place, at, target, every, end, session: *session, answers })
        });
        try_join_all(begun).await
    }

    /// What was used since the last time; `None` when the time is over.
    pub(super) async fn next(&mut self) -> Result<Option<Sample>, Error> {
        loop {
            match self.session.answer_in(self.every.into()).await {
                Ok(Event::Observed { metrics }) => {
                    let answer = self.answer();
                    return Ok(Some(Sample { at: Timestamp::now(), metrics, answer }));
                }
                Ok(Event::Failed { failure }) => {
                    return Err(sweep::failure(&self.at.name, &self.session, failure));
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

    /// The last answer since it was asked for last.
    fn answer(&mut self) -> Option<Answer> {
        let answers = self.answers.as_mut()?;
        let mut last = None;
        loop {
            match answers.try_recv() {
                Ok(answer) => last = Some(answer),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return last,
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
        let (pod, container) = (self.at.title(), &self.place.container);
        note(&format!("{pod} lost sight of container {container}: {why}"));
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
        let spec = process::agent(self.target.agent.origin(), &pod, &container, &[]);
        let (beside, _) = ensure_agent(cluster, name, &pod, &spec, &mut note).await?;
        let at = Chosen { cluster: cluster.clone(), name: name.clone(), pod: pod.into() };
        let mut session = enter_by(&at, &spec, &beside, &container, &mut note).await?;
        let plan = Observation { every: self.every, running_time, container: Some(container.id) };
        session.send(&Request::Observe { plan }).await?;
        Ok(session)
    }
}
