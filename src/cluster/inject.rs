//! Getting an agent into a pod, or finding the one that is there.

use std::{borrow::Cow, time::Duration};

use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    AgentState, Cluster, Session, SessionError,
    agent::{agents, container, fresh_name},
    api_error,
    client::in_time,
    events::{News, news_of},
    preflight::{check_pod, check_server},
};
use crate::{
    exit::{Error, Exit},
    plan::{Image, PodName},
};

/// How long a new agent may take to answer: mostly the pull of its image.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How far what the kubelet says may lag behind.
const LAG: Duration = Duration::from_secs(5);
/// Between two tries to reach an agent that is starting.
const TRY_EVERY: Duration = Duration::from_millis(25);
/// Between two looks at what the kubelet says of it.
const LOOK_EVERY: Duration = Duration::from_millis(400);

/// How an agent came to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// It was there.
    Before,
    /// It was put in just now.
    Now,
}

/// Opens a session with the agent of `pod`, and puts one in when there is none that answers.
///
/// `say` is told what is being waited for, where that takes long.
pub async fn ensure_agent(
    cluster: &Cluster,
    name: &PodName,
    pod: &Pod,
    image: &Image,
    say: &mut dyn FnMut(&str),
) -> Result<(Session, Installed), Error> {
    check_pod(pod)?;
    if let Some(session) = reach_agent(cluster, name, pod, say).await? {
        return Ok((session, Installed::Before));
    }
    let container = container(&fresh_name(pod), image);
    check_server(cluster, name, &container).await?;
    patch(cluster, name, &container).await?;
    let session = wait_until_it_answers(cluster, name, &container.name, image, say).await?;
    Ok((session, Installed::Now))
}

/// Opens a session with an agent that is already there, the newest that answers; `None` when none
/// does.
///
/// The kubelet's word lags one to three seconds behind: an agent that it calls running may be dead,
/// and one that it has not mentioned yet most likely runs.
pub async fn reach_agent(
    cluster: &Cluster,
    name: &PodName,
    pod: &Pod,
    say: &mut dyn FnMut(&str),
) -> Result<Option<Session>, Error> {
    let mut pod = Cow::Borrowed(pod);
    let start = Instant::now();
    loop {
        let mut patience = Duration::ZERO;
        let mut silent = None;
        for agent in agents(&pod) {
            let starting = match agent.state {
                AgentState::Running => false,
                AgentState::Starting(_) => true,
                AgentState::Failing { .. } | AgentState::Dead(_) => continue,
            };
            let (why, slow) = match Session::open(cluster, name, &agent.name).await {
                Ok(session) => return Ok(Some(session)),
                Err(SessionError::Api(error)) => return Err(error),
                // Another version's agent stays as it is; ours gets a container of its own.
                Err(SessionError::Skew(_)) => continue,
                Err(SessionError::NotRunning(why)) => (why, false),
                // On a busy node that is no sign of death.
                Err(SessionError::Lost(why)) => (why, true),
            };
            patience = patience.max(if starting || slow { START_TIMEOUT } else { LAG });
            silent = Some((agent.name, why));
        }
        let Some((container, why)) = silent else { return Ok(None) };
        if start.elapsed() > patience {
            say(&format!("pod/{name} agent {container} does not answer ({why})"));
            return Ok(None);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        pod = Cow::Owned(cluster.pod(name).await?);
    }
}

/// The body of the PATCH. A strategic merge adds to the list; a PUT would replace it.
pub(super) fn ephemeral_patch(container: &EphemeralContainer) -> Patch<Value> {
    Patch::Strategic(json!({"spec": {"ephemeralContainers": [container]}}))
}

async fn patch(
    cluster: &Cluster,
    name: &PodName,
    container: &EphemeralContainer,
) -> Result<(), Error> {
    let pods = cluster.pods();
    let patch = ephemeral_patch(container);
    let params = PatchParams::default();
    let pod = in_time(pods.patch_ephemeral_containers(name.as_str(), &params, &patch))
        .await
        .map_err(|error| api_error(&error))?;
    // Some proxies drop subresources that they do not know.
    if agents(&pod).iter().any(|agent| agent.name == container.name) {
        Ok(())
    } else {
        Err(Error::refused(format_args!(
            "the API server took the ephemeral container for pod/{name} but did not keep it"
        ))
        .hint("a proxy or an old server in between may not know pods/ephemeralcontainers"))
    }
}

/// Tries until the agent answers. What the kubelet says lags one to three seconds behind, so the
/// agent itself is asked, and the kubelet only for a reason why it does not come.
async fn wait_until_it_answers(
    cluster: &Cluster,
    name: &PodName,
    container: &str,
    image: &Image,
    say: &mut dyn FnMut(&str),
) -> Result<Session, Error> {
    let start = Instant::now();
    let mut look = start + LOOK_EVERY;
    let mut said = Vec::new();
    loop {
        match Session::open(cluster, name, container).await {
            Ok(session) => return Ok(session),
            Err(SessionError::NotRunning(_) | SessionError::Lost(_)) => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= look {
            look = Instant::now() + LOOK_EVERY;
            let (pod, news) = futures::join!(cluster.pod(name), news_of(cluster, name, container));
            let pod = pod?;
            let agent = agents(&pod).into_iter().find(|agent| agent.name == container);
            match agent.map(|agent| agent.state) {
                Some(AgentState::Failing { reason, message }) => {
                    return Err(cannot_start(name, container, image, &reason, &message));
                }
                Some(AgentState::Dead(why)) => {
                    return Err(Error::refused(format_args!(
                        "the agent in pod/{name} ended as soon as it started: {why}"
                    ))
                    .hint(format!("`kubectl logs {name} -c {container}` may say more")));
                }
                Some(AgentState::Starting(Some(why))) => note_once(name, &why, &mut said, say),
                _ => {}
            }
            match news {
                Some(News::Failed { reason, message }) => {
                    return Err(cannot_start(name, container, image, &reason, &message));
                }
                Some(News::Progress(message)) => note_once(name, &message, &mut said, say),
                None => {}
            }
        }
        if start.elapsed() > START_TIMEOUT {
            return Err(Error::refused(format_args!(
                "the agent in pod/{name} did not answer within {} s{}",
                START_TIMEOUT.as_secs(),
                said.last().map_or(String::new(), |last| format!(" ({last})"))
            ))
            .hint(format!("`kubectl describe pod {name}` shows what the kubelet is doing")));
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

fn note_once(name: &PodName, what: &str, said: &mut Vec<String>, say: &mut dyn FnMut(&str)) {
    if !said.iter().any(|before| before == what) {
        say(&format!("pod/{name} waiting for the agent's container: {what}"));
        said.push(what.to_owned());
    }
}

fn cannot_start(
    name: &PodName,
    container: &str,
    image: &Image,
    reason: &str,
    message: &str,
) -> Error {
    let pull =
        reason.contains("Image") || reason == "RegistryUnavailable" || message.contains("image");
    let what = if reason == "ErrImageNeverPull" {
        format!("the node of pod/{name} does not have the agent's image {image}")
    } else if pull {
        format!("image {image} for the agent in pod/{name} can't be pulled")
    } else {
        format!("the agent's container in pod/{name} can't be started")
    };
    let error = Error::new(Exit::Refused, format_args!("{what} ({reason}): {message}"));
    if pull {
        error.hint(format!(
            "load the image into the node or name one that it can pull with -g; container \
             {container} stays in the pod's spec, and nothing else was touched"
        ))
    } else {
        error.hint(format!("`kubectl describe pod {name}` may say more"))
    }
}
