//! `kill`: containers end, and the kubelet's answer to that is watched.

use std::{cell::Cell, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use pod_chaos_protocol::{ProcessSignal, SignalName};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    fault::follow_all,
    installed,
    interrupt::Interrupts,
    note,
    signal::Shot,
    start::{Ready, Way, make_ready},
};
use crate::{
    cli::{ConnectionArgs, KillArgs},
    cluster::{
        Capability, Chosen, Domain, Fate, Installed, Session, TargetContainer, check_pod,
        ensure_agent, follow_restart,
    },
    exit::{Error, Exit},
    plan::PodName,
    report::{Board, Follow, json, text},
};

/// To signal another user's processes, and to kill the first one of a container.
const CAPABILITIES: &[Capability] = &[Capability::SysPtrace, Capability::Kill];
/// Between two looks whether the container runs again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn run(connection: &ConnectionArgs, args: &KillArgs) -> Result<Exit, Error> {
    let mut interrupts = Interrupts::catch()?;
    let (done, wanted) = (Cell::new(0), Cell::new(args.times.get()));
    let outcome = tokio::select! {
        outcome = Box::pin(all(connection, args, &done, &wanted)) => Some(outcome),
        () = interrupts.next() => None,
    };
    outcome.unwrap_or_else(|| {
        let (done, wanted) = (done.get(), wanted.get());
        note(&format!("interrupted after {done} of {wanted}; nothing has to be reverted"));
        Ok(Exit::Interrupted)
    })
}

/// All containers that are meant, each as often as it is to be killed.
async fn all(
    connection: &ConnectionArgs,
    args: &KillArgs,
    done: &Cell<u32>,
    wanted: &Cell<u32>,
) -> Result<Exit, Error> {
    let mut shot = Shot {
        target: &args.target,
        signal: args.signal,
        within_budgets: !args.force,
        capabilities: CAPABILITIES,
    };
    let board = Board::new(args.output.format.clone());
    let pods = &args.target.of.pod;
    let ready = make_ready(connection, pods, Duration::ZERO, false, &board, &mut shot).await?;
    wanted.set(args.times.get().saturating_mul(u32::try_from(ready.len()).unwrap_or(u32::MAX)));
    let shot = &shot;
    let kills = ready.into_iter().map(|Ready { at, deed, way, mut report, .. }| async move {
        let rounds = rounds(shot, args, report.as_mut(), &at, deed, way, done);
        let outcome = Box::pin(rounds).await;
        report.outcome(&outcome);
        (at, outcome)
    });
    follow_all(kills.collect(), &board, None).await
}

async fn rounds(
    shot: &Shot<'_>,
    args: &KillArgs,
    report: &mut dyn Follow,
    at: &Chosen,
    mut container: TargetContainer,
    way: Way,
    done: &Cell<u32>,
) -> Result<Exit, Error> {
    let Chosen { cluster, name, .. } = at;
    let mut first = Some(way);
    for round in 1..=args.times.get() {
        let start = Instant::now();
        let deadline = start + Duration::from(args.timeout);
        let sent = if let Some(way) = first.take() {
            shot.fire(report, at, &container, way).await?
        } else {
            let (pod, again) = aim(at, &container.container.name, deadline).await?;
            container = again;
            let session = agent(shot, at, &pod, &container, report).await?;
            shot.fire_by(report, at, &container, session).await?
        };
        done.set(done.get() + 1);
        let last = round == args.times.get();
        // Other processes than the main one come and go without the kubelet.
        if args.target.matching.is_none() {
            let fate =
                follow_restart(cluster, name, &container, Instant::now(), deadline, &mut note)
                    .await?;
            tell(report, at, &fate)?;
            check(name, args, &sent, &fate)?;
            if fate.stays_down && !last {
                return Err(Error::new(
                    Exit::Failed,
                    format_args!(
                        "container {} of pod/{name} stays down, as its restart policy says, after {round} of {}",
                        fate.container, args.times
                    ),
                ));
            }
        }
        if let (Some(every), false) = (args.every, last) {
            sleep_until(start + Duration::from(every)).await;
        }
    }
    Ok(Exit::Done)
}

async fn agent(
    shot: &Shot<'_>,
    Chosen { cluster, name, .. }: &Chosen,
    pod: &Pod,
    container: &TargetContainer,
    report: &mut dyn Follow,
) -> Result<Session, Error> {
    let spec = shot.agent(pod, container);
    let (session, how) = ensure_agent(cluster, name, pod, &spec, &mut note).await?;
    if how == Installed::Now {
        installed(report, name, &session);
    }
    Ok(session)
}

/// The container that has just been killed, once it runs again.
async fn aim(
    at: &Chosen,
    container: &str,
    deadline: Instant,
) -> Result<(Pod, TargetContainer), Error> {
    loop {
        let pod = at.cluster.pod(&at.name).await?;
        let aimed = check_pod(&pod, Domain::Processes)
            .and_then(|()| TargetContainer::choose(&pod, Some(container)));
        match aimed {
            Ok(container) => return Ok((pod, container)),
            Err(refusal) if Instant::now() > deadline => return Err(refusal),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

/// Says what became of a container.
pub(super) fn tell(
    report: &mut dyn Follow,
    Chosen { cluster, name, .. }: &Chosen,
    fate: &Fate,
) -> Result<(), Error> {
    report.tell(text::fate(name, fate), &json::fate(cluster.scope(), name, fate))
}

/// Whether it has ended, and is ready again.
fn check(
    name: &PodName,
    args: &KillArgs,
    sent: &[ProcessSignal],
    fate: &Fate,
) -> Result<(), Error> {
    let (container, timeout) = (&fate.container, args.timeout);
    if fate.is_sealed() {
        return Ok(());
    }
    if fate.has_ended() {
        return Err(Error::new(Exit::Failed, format_args!(
            "container {container} of pod/{name} is not ready again {timeout} after it was killed"
        ))
        .hint(format!("`kubectl describe pod {name}` may say why; --timeout waits longer")));
    }
    let signal = sent.first().map_or(SignalName::TERM, |sent| sent.signal);
    Err(Error::new(
        Exit::Failed,
        format_args!("container {container} of pod/{name} has not ended {timeout} after {signal}"),
    )
    .hint("--signal KILL leaves it no choice"))
}
