//! `syscall matrix`: faults on system calls, one after another, and what a container makes of each.

use std::cell::Cell;

use pod_chaos_protocol::{ContainerId, RunTime, SyscallFault};
use tokio::time::{Duration, Instant, sleep};

use super::{interrupt::Interrupts, note, observe::Observer, syscall, url};
use crate::{
    cli::{ConnectionArgs, ContainerArgs, CourseArgs, MatrixArgs, PickArgs, ProcessArgs},
    cluster::{Chosen, TargetContainer},
    exit::{Error, Exit},
    plan::{WarmUp, matrix},
    report::{
        metrics::Place,
        recording::{Course, Phase, Recording},
    },
};

/// Between two looks whether a container runs again.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How far what the kubelet says may lag behind.
const LAG: Duration = Duration::from_secs(5);
/// What is left of a fault's time that is not worth another agent.
const REST: Duration = Duration::from_secs(1);

pub(super) async fn run(connection: &ConnectionArgs, args: &MatrixArgs) -> Result<Exit, Error> {
    let mut interrupts = Interrupts::catch()?;
    let faults = match &args.faults {
        Some(path) => matrix::of_file(path)?,
        None => matrix::premade()?,
    };
    let place = tokio::select! {
        place = Box::pin(only_place(connection, args)) => place?,
        () = interrupts.next() => return Ok(Exit::Interrupted),
    };
    let target = pinned(&args.target, &place)?;
    let mut connection = connection.clone();
    if let Some(context) = &place.context {
        connection.contexts = vec![context.clone()];
    }
    let connection = &connection;
    let mut recording = Recording::open(&args.folder, course(args, &faults, &place))?;
    let answers = args.url.as_ref().map(|url| url::ask(url, args.every.into())).transpose()?;
    let count = faults.len();
    let left = count - recording.done();
    let each = Duration::from(args.duration) + 2 * Duration::from(args.baseline);
    if left > 0 {
        note(&format!(
            "{left} of {count} faults to be gone through in {} min, into {}",
            (each.as_secs() * left as u64).div_ceil(60),
            args.folder.display()
        ));
    }
    for fault in faults.iter().skip(recording.done()) {
        note(&format!("{} of {count}: {fault}", recording.done() + 1));
        let observers =
            Observer::begin(connection, &target.of, args.every, RunTime::MAX, answers.as_ref());
        let observer = tokio::select! {
            observers = Box::pin(observers) => only(observers?)?,
            () = interrupts.next() => return Ok(interrupted(&recording, count)),
        };
        let phase = Cell::new(Phase::Before);
        let at = observer.at.clone();
        let turn = Turn {
            connection,
            args,
            target: &target,
            at: &at,
            place: &place,
            fault,
            phase: &phase,
        };
        let exit = tokio::select! {
            error = record(observer, &phase, &mut recording) => return Err(error),
            exit = Box::pin(turn.go_through(&mut interrupts)) => exit?,
        };
        match exit {
            Exit::Done => recording.tick_off()?,
            Exit::Interrupted => return Ok(interrupted(&recording, count)),
            other => return Ok(other),
        }
    }
    note(&format!("all {count} faults are done"));
    Ok(Exit::Done)
}

fn interrupted(recording: &Recording, count: usize) -> Exit {
    note(&format!(
        "interrupted after {} of {count} faults: the same command goes on",
        recording.done()
    ));
    Exit::Interrupted
}

/// The container that is meant.
async fn only_place(connection: &ConnectionArgs, args: &MatrixArgs) -> Result<Place, Error> {
    let target = &args.target.of;
    Ok(only(Observer::begin(connection, target, args.every, args.every, None).await?)?.place)
}

fn only(mut observers: Vec<Observer<'_>>) -> Result<Observer<'_>, Error> {
    match (observers.pop(), observers.len()) {
        (Some(observer), 0) => Ok(observer),
        (_, more) => Err(Error::refused(format_args!(
            "faults are gone through in one container at a time, and these are {}",
            more + 1
        ))
        .hint("-p and -c name one; --mode one chooses one")),
    }
}

/// The same container, whatever the dice that chose it would say another time.
fn pinned(target: &ProcessArgs, place: &Place) -> Result<ProcessArgs, Error> {
    let inconsistent = |error: &dyn std::fmt::Display| Error::internal("naming the pod", error);
    let mut target = target.clone();
    let ContainerArgs { pod, container, .. } = &mut target.of;
    let name = place.pod.parse().map_err(|error| inconsistent(&error))?;
    let namespace = place.namespace.parse().map_err(|error| inconsistent(&error))?;
    pod.pick = PickArgs { pods: vec![name], ..PickArgs::default() };
    pod.pick.namespace.namespace = Some(namespace);
    *container = Some(place.container.clone());
    Ok(target)
}

fn course(args: &MatrixArgs, faults: &[SyscallFault], place: &Place) -> Course {
    let Place { context, namespace, pod, container } = place;
    let context = context.as_ref().map_or_else(String::new, |context| format!("{context}/"));
    let matching = args.target.matching.as_ref().map(|pattern| format!(" `{pattern}`"));
    Course {
        target: format!("{context}{namespace}/{pod}/{container}{}", matching.unwrap_or_default()),
        faults: faults.iter().map(ToString::to_string).collect(),
        duration: args.duration.to_string(),
        baseline: args.baseline.to_string(),
        every: args.every.to_string(),
        url: args.url.as_ref().map(ToString::to_string),
    }
}

/// Writes down what is observed, until that is impossible.
async fn record(
    mut observer: Observer<'_>,
    phase: &Cell<Phase>,
    recording: &mut Recording,
) -> Error {
    loop {
        let written = match observer.next().await {
            Ok(Some(sample)) => recording.add(phase.get(), &observer.place, &sample),
            Ok(None) => Err(Error::internal("observing the container", "the agent's time is over")),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            return error;
        }
    }
}

/// One fault of the list.
struct Turn<'a> {
    connection: &'a ConnectionArgs,
    args: &'a MatrixArgs,
    target: &'a ProcessArgs,
    at: &'a Chosen,
    place: &'a Place,
    fault: &'a SyscallFault,
    phase: &'a Cell<Phase>,
}

impl Turn<'_> {
    async fn go_through(&self, interrupts: &mut Interrupts) -> Result<Exit, Error> {
        for phase in [Phase::Before, Phase::During, Phase::After] {
            self.phase.set(phase);
            let exit = if phase == Phase::During {
                self.perturb().await?
            } else {
                tokio::select! {
                    () = sleep(self.args.baseline.into()) => Exit::Done,
                    () = interrupts.next() => Exit::Interrupted,
                }
            };
            if exit != Exit::Done {
                return Ok(exit);
            }
        }
        Ok(Exit::Done)
    }

    /// Has the fault in force until its time is over, again after each restart of the container.
    async fn perturb(&self) -> Result<Exit, Error> {
        let end = Instant::now() + self.args.duration.into();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Some(running_time) = worth_it(left, self.args.duration) else {
                sleep(left).await;
                return Ok(Exit::Done);
            };
            let Some(run) = self.run_of_container().await else {
                sleep(LOOK_EVERY).await;
                continue;
            };
            let course = CourseArgs {
                running_time,
                warm_up: WarmUp::default(),
                detach: false,
                output: self.args.output.clone(),
            };
            let done = syscall::carry_out(self.connection, self.target, &course, self.fault).await;
            match done {
                Ok(Exit::Done) => {}
                Ok(Exit::Interrupted) => return done,
                // What fails because of a restart is begun again with what is left of the time.
                _ if self.has_ended(&run).await => {}
                _ => return done,
            }
        }
    }

    /// Which run of the container it is; `None` when there is none.
    async fn run_of_container(&self) -> Option<ContainerId> {
        let Chosen { cluster, name, .. } = self.at;
        let pod = cluster.pod(name).await.ok()?;
        TargetContainer::choose(&pod, Some(&self.place.container)).ok().map(|one| one.id)
    }

    /// Whether this run has ended, as far as the kubelet says within a few seconds.
    async fn has_ended(&self, run: &ContainerId) -> bool {
        let latest = Instant::now() + LAG;
        while self.run_of_container().await.as_ref() == Some(run) {
            if Instant::now() > latest {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
        true
    }
}

/// What is left of a fault's time, if it is worth another agent.
fn worth_it(left: Duration, of: RunTime) -> Option<RunTime> {
    let nanos = u64::try_from(left.as_nanos()).ok()?;
    RunTime::from_nanos(nanos).ok().filter(|_| left >= REST.min(Duration::from(of) / 2))
}
