//! `delete`: a pod goes, and another one comes.

use std::{cell::Cell, collections::BTreeMap};

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::{
    fault::follow_all,
    interrupt::Interrupts,
    note,
    start::{all, choose_safely, confirm, selection},
};
use crate::{
    cli::{ConnectionArgs, DeleteArgs},
    cluster::{Chosen, Cluster, Removal, Removed, RemovedBy, check_can_be_removed},
    exit::{Error, Exit},
    plan::PodName,
    report::{Board, Follow, json, text},
};

pub(super) async fn run(connection: &ConnectionArgs, args: &DeleteArgs) -> Result<Exit, Error> {
    let mut interrupts = Interrupts::catch()?;
    let asked = Cell::new(0);
    let outcome = tokio::select! {
        outcome = Box::pin(delete(connection, args, &asked)) => Some(outcome),
        () = interrupts.next() => None,
    };
    outcome.unwrap_or_else(|| {
        let what = match asked.get() {
            0 => "nothing was touched".to_owned(),
            1 => "the pod goes all the same".to_owned(),
            count => format!("{count} pods go all the same"),
        };
        note(&format!("interrupted: {what}"));
        Ok(Exit::Interrupted)
    })
}

async fn delete(
    connection: &ConnectionArgs,
    args: &DeleteArgs,
    asked: &Cell<u32>,
) -> Result<Exit, Error> {
    let pick = &args.target.pick;
    let selection = selection(pick)?;
    let board = Board::new(args.output.format.clone());
    let clusters = Cluster::connect(connection, pick.namespace.namespace.as_ref()).await?;
    let (pods, mut refusals) =
        choose_safely(&clusters, &selection, &args.target, None, &board).await?;
    let alone = refusals.of == 1;
    let mut removals = Vec::new();
    let mut ranks: BTreeMap<String, usize> = BTreeMap::new();
    let checks = all(pods.iter().map(|at| check(args, at))).await;
    for (at, checked) in pods.into_iter().zip(checks) {
        if let Some(mut removal) = refusals.keep(&at, checked) {
            if let Some(controller) = removal.controller() {
                let key = format!("{}/{controller}", at.cluster.scope());
                let rank = ranks.entry(key).or_default();
                removal.rank = *rank;
                *rank += 1;
            }
            removals.push((at, removal));
        }
    }
    refusals.check(&args.target, alone, removals.is_empty())?;
    refusals.tell(&board);
    for (at, removal) in &removals {
        let (pod, grace) = (at.title(), grace(args, &at.pod));
        board.note(&match removal.controller() {
            Some(controller) => format!("{pod} of {controller} to go, {grace}"),
            None => format!("{pod} to go, {grace}: nothing brings it back"),
        });
    }
    if args.target.dry_run.is_some() {
        board.note("dry run: nothing was touched");
        return Ok(Exit::Done);
    }
    confirm(&args.target, removals.len()).await?;
    let board = &board;
    let removed = removals.into_iter().map(|(at, removal)| async move {
        let mut report = board.follow(at.cluster.scope(), &at.name);
        let outcome = remove(args, report.as_mut(), &at, &removal, asked).await;
        report.outcome(&outcome);
        (at, outcome)
    });
    follow_all(removed.collect(), board, None).await
}

/// Whether it could be made to go, and something would bring it back.
async fn check(args: &DeleteArgs, at: &Chosen) -> Result<Removal, Error> {
    let Chosen { cluster, name, pod } = at;
    check_can_be_removed(pod)?;
    let removal = Removal::check(cluster, name, pod, by(args), args.grace_period).await?;
    if removal.controller().is_none() && !args.force {
        let message = format!("pod/{name} has no controller: nothing would bring it back");
        return Err(Error::refused(message).hint("--force deletes it all the same"));
    }
    Ok(removal)
}

const fn by(args: &DeleteArgs) -> RemovedBy {
    if args.force { RemovedBy::Deletion } else { RemovedBy::Eviction }
}

async fn remove(
    args: &DeleteArgs,
    report: &mut dyn Follow,
    Chosen { cluster, name, .. }: &Chosen,
    removal: &Removal,
    asked: &Cell<u32>,
) -> Result<Exit, Error> {
    let start = Instant::now();
    asked.set(asked.get() + 1);
    removal.carry_out(cluster).await?;
    let removed = removal.follow(cluster, start, start + args.timeout.into()).await?;
    let event = json::removed(cluster.scope(), name, by(args), &removed);
    report.tell(text::removed(name, by(args), &removed), &event)?;
    if removal.is_over(&removed) { Ok(Exit::Done) } else { Err(too_slow(name, args, &removed)) }
}

/// How long its processes have.
fn grace(args: &DeleteArgs, pod: &Pod) -> String {
    let own = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    match (args.grace_period.map(|it| i64::from(it.seconds())).or(own), args.grace_period) {
        (Some(seconds), _) => format!("with {seconds} s to end in"),
        (None, _) => "with the time it has to end in".to_owned(),
    }
}

fn too_slow(name: &PodName, args: &DeleteArgs, removed: &Removed) -> Error {
    let timeout = args.timeout;
    let (message, look) = match (removed.gone_after_ms, &removed.successor) {
        (None, _) => (format!("pod/{name} has not gone after {timeout}"), name.as_str()),
        (_, Some(successor)) => (
            format!("pod/{successor}, in place of pod/{name}, is not ready after {timeout}"),
            successor.as_str(),
        ),
        (_, None) => {
            let message = format!("nothing has taken the place of pod/{name} after {timeout}");
            let hint = "`kubectl get events` may say why; --timeout waits longer";
            return Error::new(Exit::Failed, message).hint(hint);
        }
    };
    Error::new(Exit::Failed, message)
        .hint(format!("`kubectl describe pod {look}` may say why; --timeout waits longer"))
}
