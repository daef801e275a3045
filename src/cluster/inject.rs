//! Getting an agent into a pod, or finding the one that is there.

use std::{borrow::Cow, time::Duration};

use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};
use kube::api::{Patch, PatchParams};
use pod_chaos_protocol::Carried;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    AgentState, Chosen, Cluster, Session, SessionError,
    agent::{AgentContainer, AgentSpec, agents, container},
    api_error, bootstrap,
    client::in_time,
    events::{News, news_of},
    preflight::{check_admission, check_pod, check_server},
};
use crate::{
    exit::{Error, Exit},
    plan::{Origin, PodName},
};

/// How long a new agent may take to answer: mostly the pull of its image.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How far what the kubelet says may lag behind.
const LAG: Duration = Duration::from_secs(5);
/// How long after it was put in an agent is first tried: no container starts sooner, and each try costs
/// the node some of the time that the start itself needs.
const FIRST_TRY: Duration = Duration::from_millis(500);
/// Between two tries to reach an agent that is starting.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// A start that takes longer than this is worth a word.
const USUAL_START: Duration = Duration::from_secs(2);
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
    spec: &AgentSpec,
    say: &mut dyn FnMut(&str),
) -> Result<(Session, Installed), Error> {
    check_pod(pod, spec.role.domain())?;
    let able = |agent: &AgentContainer| agent.role.covers(&spec.role);
    if let Some(session) = reach_agent(cluster, name, pod, &able, say).await? {
        return Ok((session, Installed::Before));
    }
    let agent = NewAgent::check(cluster, name, pod, spec, None).await?;
    agent.put_in(cluster).await?;
    Ok((agent.answer(cluster, say).await?, Installed::Now))
}

/// An agent that is about to be put into a pod.
#[derive(Clone, Debug)]
pub struct NewAgent {
    pod: PodName,
    origin: Origin,
    container: EphemeralContainer,
}

impl NewAgent {
    /// Makes sure that this user may put it in and that the server would take it. With a plan, the agent
    /// acts on it as soon as it runs.
    pub async fn check(
        cluster: &Cluster,
        name: &PodName,
        pod: &Pod,
        spec: &AgentSpec,
        carried: Option<&Carried>,
    ) -> Result<Self, Error> {
        let agent = Self::unchecked(name, pod, spec, carried);
        check_server(cluster, name, &agent.container).await?;
        Ok(agent)
    }

    /// The same without asking anyone.
    pub fn unchecked(
        name: &PodName,
        pod: &Pod,
        spec: &AgentSpec,
        carried: Option<&Carried>,
    ) -> Self {
        let container = container(pod, spec, carried);
        Self { pod: name.clone(), origin: spec.origin.clone(), container }
    }

    /// What [`NewAgent::put_in`] sends, with the name of the pod.
    pub fn patch(&self, cluster: &Cluster) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": self.pod.as_str(), "namespace": cluster.namespace()},
            "spec": {"ephemeralContainers": [self.container]},
        })
    }

    /// The name of its container.
    pub fn container(&self) -> &str {
        &self.container.name
    }

    /// Puts it in. A plan that it carries may be in force from here on, whatever becomes of this call
    /// unless it is refused ([`Exit::Refused`]).
    pub async fn put_in(&self, cluster: &Cluster) -> Result<(), Error> {
        patch(cluster, &self.pod, &self.container).await
    }

    /// Waits until it answers. What the kubelet says lags one to three seconds behind, so the agent
    /// itself is asked, and the kubelet only for a reason why it does not come.
    pub async fn answer(
        &self,
        cluster: &Cluster,
        say: &mut dyn FnMut(&str),
    ) -> Result<Session, NoAnswer> {
        let (name, container) = (&self.pod, self.container());
        let start = Instant::now();
        let mut look = start + cluster.pace(LOOK_EVERY);
        let (mut said, mut delivered) = (Vec::new(), false);
        tokio::time::sleep(FIRST_TRY).await;
        loop {
            match self.try_once(cluster, &mut delivered).await {
                Ok(session) => return Ok(session),
                Err(
                    SessionError::NotRunning(_) | SessionError::Lost(_) | SessionError::Silent(_),
                ) => {}
                Err(error) => return Err(NoAnswer::Other(error.into())),
            }
            if Instant::now() >= look {
                look = Instant::now() + cluster.pace(LOOK_EVERY);
                let (state, news) =
                    futures::join!(self.state(cluster), news_of(cluster, name, container));
                match state.map_err(NoAnswer::Other)? {
                    Some(AgentState::Failing { reason, message }) => {
                        return Err(self.not_started(&reason, &message));
                    }
                    Some(AgentState::Dead(why)) => {
                        let message =
                            format!("the agent in pod/{name} ended as soon as it started: {why}");
                        let hint = format!("`kubectl logs {name} -c {container}` may say more");
                        let error = Error::refused(message).hint(hint);
                        return Err(NoAnswer::Other(self.with_needs(error)));
                    }
                    Some(AgentState::Starting(Some(why))) if start.elapsed() > USUAL_START => {
                        note_once(name, &why, &mut said, say);
                    }
                    _ => {}
                }
                match news {
                    Some(News::Failed { reason, message }) => {
                        return Err(self.not_started(&reason, &message));
                    }
                    Some(News::Progress(message)) => note_once(name, &message, &mut said, say),
                    None => {}
                }
            }
            if start.elapsed() > START_TIMEOUT {
                let message = format!(
                    "the agent in pod/{name} did not answer within {} s{}",
                    START_TIMEOUT.as_secs(),
                    said.last().map_or(String::new(), |last| format!(" ({last})"))
                );
                let hint = format!("`kubectl describe pod {name}` shows what the kubelet is doing");
                return Err(NoAnswer::Other(Error::refused(message).hint(hint)));
            }
            tokio::time::sleep(cluster.pace(TRY_EVERY)).await;
        }
    }

    /// What the kubelet says of it; `None` when the pod does not have it.
    pub async fn state(&self, cluster: &Cluster) -> Result<Option<AgentState>, Error> {
        let pod = cluster.pod(&self.pod).await?;
        let agent = agents(&pod).into_iter().find(|agent| agent.name == self.container());
        Ok(agent.map(|agent| agent.state))
    }

    /// Speaks to it, once the agent is there.
    async fn try_once(
        &self,
        cluster: &Cluster,
        delivered: &mut bool,
    ) -> Result<Session, SessionError> {
        let (pod, container) = (&self.pod, self.container());
        if let Origin::Stream(programs) = &self.origin
            && !*delivered
        {
            bootstrap::deliver(cluster, pod, container, programs).await?;
            *delivered = true;
        }
        Session::open(cluster, pod, container, bootstrap::file(&self.container)).await
    }

    fn not_started(&self, reason: &str, message: &str) -> NoAnswer {
        let image = self.container.image.as_deref().unwrap_or_default();
        let error = cannot_start(&self.pod, self.container(), image, reason, message);
        NoAnswer::NotStarted(self.with_needs(error))
    }

    /// The same with what an image has to have.
    fn with_needs(&self, error: Error) -> Error {
        match self.origin {
            Origin::Image(_) => error,
            Origin::Stream(_) => error.hint_too(bootstrap::NEEDS),
        }
    }
}

/// Asks whether the server would take such an agent; who may patch is not asked first.
pub(super) async fn dry_run(at: &Chosen, spec: &AgentSpec) -> Result<(), Error> {
    let Chosen { cluster, name, pod } = at;
    let container = container(pod, spec, None);
    check_admission(cluster, name, &container).await
}

/// Why a new agent does not answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Its container could not be started.
    NotStarted(Error),
    /// Something else: it may have run.
    Other(Error),
}

impl From<NoAnswer> for Error {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::NotStarted(error) | NoAnswer::Other(error) => error,
        }
    }
}

/// Opens a session with an agent that is already there, the newest of those that are `wanted` and answer;
/// `None` when none does.
///
/// The kubelet's word lags one to three seconds behind: an agent that it calls running may be dead,
/// and one that it has not mentioned yet most likely runs.
pub async fn reach_agent(
    cluster: &Cluster,
    name: &PodName,
    pod: &Pod,
    wanted: &dyn Fn(&AgentContainer) -> bool,
    say: &mut dyn FnMut(&str),
) -> Result<Option<Session>, Error> {
    let mut pod = Cow::Borrowed(pod);
    let start = Instant::now();
    loop {
        let mut patience = Duration::ZERO;
        let mut silent = None;
        for agent in agents(&pod).into_iter().filter(wanted) {
            let starting = match agent.state {
                AgentState::Running => false,
                AgentState::Starting(_) => true,
                AgentState::Failing { .. } | AgentState::Dead(_) => continue,
            };
            let (why, slow) = match Session::open(cluster, name, &agent.name, agent.file).await {
                Ok(session) => return Ok(Some(session)),
                Err(SessionError::Api(error)) => return Err(error),
                // Another version's agent stays as it is; ours gets a container of its own.
                Err(SessionError::Skew { version, .. }) => {
                    say(&format!(
                        "pod/{name} agent {} (v{version}) speaks another protocol, and is left alone",
                        agent.name
                    ));
                    continue;
                }
                Err(SessionError::Unread { why, .. }) => {
                    say(&format!("pod/{name} agent {} is not understood: {why}", agent.name));
                    continue;
                }
                Err(SessionError::NotRunning(why)) => (why, false),
                // On a busy node that is no sign of death.
                Err(SessionError::Lost(why) | SessionError::Silent(why)) => (why, true),
            };
            patience = patience.max(if starting || slow { START_TIMEOUT } else { LAG });
            silent = Some((agent.name, why));
        }
        let Some((container, why)) = silent else { return Ok(None) };
        if start.elapsed() > patience {
            say(&format!("pod/{name} agent {container} does not answer ({why})"));
            return Ok(None);
        }
        tokio::time::sleep(cluster.pace(LOOK_EVERY)).await;
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

fn note_once(name: &PodName, what: &str, said: &mut Vec<String>, say: &mut dyn FnMut(&str)) {
    if !said.iter().any(|before| before == what) {
        say(&format!("pod/{name} waiting for the agent's container: {what}"));
        said.push(what.to_owned());
    }
}

fn cannot_start(
    name: &PodName,
    container: &str,
    image: &str,
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
