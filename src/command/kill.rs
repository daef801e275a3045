//! `kill`: containers end, and the kubelet's answer to that is watched.

use std::{
    io::{Write as _, stdout},
    time::Duration,
};

use pod_chaos_protocol::{ProcessSignal, SignalName};
use tokio::time::{Instant, sleep, sleep_until};

use super::{interrupt::Interrupts, note, signal::Shot};
use crate::{
    cli::{ConnectionArgs, KillArgs, OutputFormat},
    cluster::{Capability, Cluster, Fate, TargetContainer, follow_restart},
    exit::{Error, Exit},
    plan::PodName,
    report::{json, text},
};

/// To signal another user's processes, and to kill the first one of a container.
const CAPABILITIES: &[Capability] = &[Capability::SysPtrace, Capability::Kill];
/// Between two looks whether the container runs again.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn run(connection: &ConnectionArgs, args: &KillArgs) -> Result<Exit, Error> {
    let mut interrupts = Interrupts::catch()?;
    let mut done = 0;
    let outcome = tokio::select! {
        outcome = Box::pin(rounds(connection, args, &mut done)) => Some(outcome),
        () = interrupts.next() => None,
    };
    outcome.unwrap_or_else(|| {
        eprintln!("interrupted after {done} of {}; nothing has to be reverted", args.times);
        Ok(Exit::Interrupted)
    })
}

async fn rounds(
    connection: &ConnectionArgs,
    args: &KillArgs,
    done: &mut u32,
) -> Result<Exit, Error> {
    let name = &args.target.of.pod.pod;
    let cluster =
        Cluster::connect(connection, args.target.of.pod.namespace.namespace.as_ref()).await?;
    let shot = Shot {
        cluster: &cluster,
        name,
        target: &args.target,
        signal: args.signal,
        capabilities: CAPABILITIES,
        output: args.output,
    };
    while *done < args.times.get() {
        let start = Instant::now();
        let deadline = start + Duration::from(args.timeout);
        let (pod, container) = aim(&shot, *done > 0, deadline).await?;
        let sent = shot.fire(&pod, &container).await?;
        *done += 1;
        // Other processes than the main one come and go without the kubelet.
        if args.target.matching.is_none() {
            let fate =
                follow_restart(&cluster, name, &container, Instant::now(), deadline, &mut note)
                    .await?;
            tell(&cluster, name, args.output, &fate)?;
            check(name, args, &sent, &fate)?;
            if fate.stays_down && *done < args.times.get() {
                return Err(Error::new(
                    Exit::Failed,
                    format_args!(
                        "container {} of pod/{name} stays down, as its restart policy says, after {done} of {}",
                        fate.container, args.times
                    ),
                ));
            }
        }
        if let (Some(every), true) = (args.every, *done < args.times.get()) {
            sleep_until(start + Duration::from(every)).await;
        }
    }
    Ok(Exit::Done)
}

/// The container, once it runs; one that has just been killed is waited for.
async fn aim(
    shot: &Shot<'_>,
    again: bool,
    deadline: Instant,
) -> Result<(k8s_openapi::api::core::v1::Pod, TargetContainer), Error> {
    loop {
        let pod = shot.cluster.pod(shot.name).await?;
        match shot.aim(&pod) {
            Ok(container) => return Ok((pod, container)),
            Err(refusal) if !again || Instant::now() > deadline => return Err(refusal),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

fn tell(cluster: &Cluster, name: &PodName, output: OutputFormat, fate: &Fate) -> Result<(), Error> {
    match output {
        OutputFormat::Json => {
            writeln!(stdout(), "{}", json::fate(cluster.namespace(), name, fate))?;
        }
        OutputFormat::Text => writeln!(stdout(), "{}", text::fate(name, fate))?,
    }
    Ok(())
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
