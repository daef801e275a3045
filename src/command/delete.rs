//! `delete`: a pod goes, and another one comes.

use std::io::{Write as _, stdout};

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::{interrupt::Interrupts, note};
use crate::{
    cli::{ConnectionArgs, DeleteArgs, OutputFormat},
    cluster::{Cluster, Removal, Removed, RemovedBy, check_can_be_removed},
    exit::{Error, Exit},
    plan::PodName,
    report::{json, text},
};

pub(super) async fn run(connection: &ConnectionArgs, args: &DeleteArgs) -> Result<Exit, Error> {
    let mut interrupts = Interrupts::catch()?;
    let mut asked = false;
    let outcome = tokio::select! {
        outcome = Box::pin(delete(connection, args, &mut asked)) => Some(outcome),
        () = interrupts.next() => None,
    };
    outcome.unwrap_or_else(|| {
        let what = if asked { "the pod goes all the same" } else { "nothing was touched" };
        eprintln!("interrupted: {what}");
        Ok(Exit::Interrupted)
    })
}

async fn delete(
    connection: &ConnectionArgs,
    args: &DeleteArgs,
    asked: &mut bool,
) -> Result<Exit, Error> {
    let name = &args.target.pod;
    let cluster = Cluster::connect(connection, args.target.namespace.namespace.as_ref()).await?;
    let pod = cluster.pod(name).await?;
    check_can_be_removed(&pod)?;
    let by = if args.force { RemovedBy::Deletion } else { RemovedBy::Eviction };
    let removal = Removal::check(&cluster, name, &pod, by, args.grace_period).await?;
    match removal.controller() {
        Some(controller) => {
            note(&format!("pod/{name} of {controller} to go, {}", grace(args, &pod)));
        }
        None if args.force => {
            note(&format!("pod/{name} to go, {}: nothing brings it back", grace(args, &pod)));
        }
        None => {
            return Err(Error::refused(format_args!(
                "pod/{name} has no controller: nothing would bring it back"
            ))
            .hint("--force deletes it all the same"));
        }
    }
    let start = Instant::now();
    *asked = true;
    removal.carry_out(&cluster).await?;
    let removed = removal.follow(&cluster, start, start + args.timeout.into()).await?;
    match args.output {
        OutputFormat::Json => {
            writeln!(stdout(), "{}", json::removed(cluster.namespace(), name, by, &removed))?;
        }
        OutputFormat::Text => writeln!(stdout(), "{}", text::removed(name, by, &removed))?,
    }
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
