//! A conversation with an agent: `pod-chaos-agent serve`, run through `pods/exec`.

use std::time::Duration;

use pod_chaos_protocol::{Event, PROTOCOL, Processes, Request};

use super::{
    Cluster,
    agent::BINARY,
    api_error,
    client::{in_time, patiently},
    stream::Stream,
};
use crate::{exit::Error, plan::PodName};

/// How long an agent may take for its first words once the stream is there.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no conversation, or no more.
#[derive(Debug)]
pub enum SessionError {
    /// No process could be started in that container: it does not run (any more, or yet). The
    /// runtime's own words.
    NotRunning(String),
    /// The stream ended.
    Lost(String),
    /// The stream goes on, and the agent owes an answer.
    Silent(String),
    /// The agent's protocol is not ours.
    Skew {
        /// The agent's version.
        version: String,
        /// The protocol that it speaks.
        protocol: u16,
    },
    /// The API server refused, or could not be reached.
    Api(Error),
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::NotRunning(why) => {
                Self::internal("starting a process in the agent's container", why)
            }
            SessionError::Lost(why) | SessionError::Silent(why) => {
                Self::internal("talking to the agent", why)
            }
            SessionError::Skew { version, .. } => Self::refused(format_args!(
                "the pod's agent (version {version}) speaks another protocol"
            ))
            .hint("let it exit with `kubectl pod-chaos uninstall`, then try again"),
            SessionError::Api(error) => error,
        }
    }
}

/// An open conversation. Dropping it ends the stream, not the fault.
pub struct Session {
    /// The container that the agent runs in.
    pub container: String,
    /// The agent's version.
    pub version: String,
    /// Its process, in the process namespace of that container.
    pub pid: u32,
    stream: Stream,
}

impl Session {
    /// Starts `serve` in that container and waits for its first words.
    pub async fn open(
        cluster: &Cluster,
        pod: &PodName,
        container: &str,
    ) -> Result<Self, SessionError> {
        Self::open_from(BINARY, cluster, pod, container).await
    }

    /// Starts another one in `container`, whose process namespace this one shares: in the control group, with the
    /// limits and as the user of that container. It comes from the same file, whatever is in that container. The
    /// kernel gives that file to who has the same user and group, and no fewer capabilities
    /// (`proc_pid_get_link()`, `ptrace_may_access()`).
    pub async fn open_beside(
        &self,
        cluster: &Cluster,
        pod: &PodName,
        container: &str,
    ) -> Result<Self, SessionError> {
        Self::open_from(&format!("/proc/{}/exe", self.pid), cluster, pod, container).await
    }

    /// The same by way of a process that has the user and group of the container's main one, whoever that is. The agent
    /// needs SETUID and SETGID for it.
    pub async fn open_anchored(
        &mut self,
        cluster: &Cluster,
        pod: &PodName,
        target: Processes,
    ) -> Result<Self, SessionError> {
        let container = target.container.clone();
        self.send(&Request::Anchor { target }).await?;
        match self.answer().await? {
            Event::Anchored { pid } => {
                Self::open_from(&format!("/proc/{pid}/exe"), cluster, pod, &container).await
            }
            Event::Failed { failure } => Err(SessionError::NotRunning(failure.message)),
            other => Err(SessionError::Lost(format!("it said {other:?}"))),
        }
    }

    async fn open_from(
        file: &str,
        cluster: &Cluster,
        pod: &PodName,
        container: &str,
    ) -> Result<Self, SessionError> {
        let open = Stream::open(cluster, pod, container, [file, "serve"]);
        let stream = match in_time(open).await {
            Ok(stream) => stream,
            Err(kube::Error::Api(status)) if not_running(&status.message) => {
                return Err(SessionError::NotRunning(status.message.clone()));
            }
            Err(error) => return Err(SessionError::Api(api_error(&error))),
        };
        let mut session =
            Self { container: container.to_owned(), version: String::new(), pid: 0, stream };
        let hello = tokio::time::timeout(HELLO_TIMEOUT, session.next()).await;
        match hello {
            Ok(Ok(Event::Hello { protocol: PROTOCOL, version, pid })) => {
                session.version = version;
                session.pid = pid;
                Ok(session)
            }
            Ok(Ok(Event::Hello { version, protocol, .. })) => {
                Err(SessionError::Skew { version, protocol })
            }
            Ok(Ok(_)) => Err(SessionError::Lost("it did not say hello".to_owned())),
            // A stream that ends before the first word is a process that never started.
            Ok(Err(SessionError::Lost(why))) => Err(SessionError::NotRunning(why)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(SessionError::Silent(format!(
                "no word from it within {} s",
                HELLO_TIMEOUT.as_secs()
            ))),
        }
    }

    /// Sends one request.
    pub async fn send(&mut self, request: &Request) -> Result<(), SessionError> {
        let lost = |error: &dyn std::fmt::Display| SessionError::Lost(error.to_string());
        let mut line = serde_json::to_string(request).map_err(|error| lost(&error))?;
        line.push('\n');
        self.stream.send(&line).await.map_err(|error| lost(&error))
    }

    /// The next event, whenever it comes. Events that this version does not know are passed over.
    pub async fn next(&mut self) -> Result<Event, SessionError> {
        loop {
            let line = self.stream.next().await.map_err(SessionError::Lost)?;
            if let Ok(event) = serde_json::from_str(&line) {
                return Ok(event);
            }
            if serde_json::from_str::<serde_json::Value>(&line).is_err() {
                return Err(SessionError::Lost(format!("it said `{line}`")));
            }
        }
    }

    /// The next event of an agent that owes one now, and may take for it as long as a request may.
    pub async fn answer(&mut self) -> Result<Event, SessionError> {
        self.answer_in(Duration::ZERO).await
    }

    /// The same when the answer is due after that time.
    pub async fn answer_in(&mut self, due: Duration) -> Result<Event, SessionError> {
        let silent = |why| Err(SessionError::Silent(why));
        patiently(due, self.next()).await.unwrap_or_else(silent)
    }
}

/// Whether the API server means that the container does not run: the words of the kubelet
/// (pkg/kubelet/server/server.go, pkg/kubelet/kubelet_pods.go) and of containerd and CRI-O.
fn not_running(message: &str) -> bool {
    [
        "container not found",
        "not running",
        "is not created or running",
        "container is not valid for pod",
        "CONTAINER_EXITED",
        "cannot exec in a stopped",
        "failed to find",
        "does not exist",
    ]
    .iter()
    .any(|words| message.contains(words))
}
