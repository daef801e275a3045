//! A conversation with an agent: `pod-chaos-agent serve`, run through `pods/exec`.

use std::time::Duration;

use pod_chaos_protocol::{Event, FailureKind, PROTOCOL, Processes, Request};

use super::{
    Cluster, api_error,
    client::{in_time, patiently},
    stream::Stream,
};
use crate::{
    exit::{Error, Exit},
    plan::PodName,
};

/// The plugin's version.
const VERSION: &str = env!("CARGO_PKG_VERSION");
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
    /// It says what this version does not know, where it should answer.
    Unread {
        /// The agent's version, if it has got as far as that.
        version: Option<String>,
        /// What is not known of it.
        why: String,
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
            SessionError::Skew { version, protocol } => Self::refused(format_args!(
                "the pod's agent (v{version}, protocol {protocol}) speaks another protocol than this \
                 plugin (v{VERSION}, protocol {PROTOCOL})"
            ))
            .hint(OTHER_VERSION),
            SessionError::Unread { version, why } => {
                let version = version.map(|version| format!(" (v{version})")).unwrap_or_default();
                Self::new(
                    Exit::Failed,
                    format_args!(
                        "the pod's agent{version} says what this plugin (v{VERSION}) does not know: {why}"
                    ),
                )
                .hint(OTHER_VERSION)
            }
            SessionError::Api(error) => error,
        }
    }
}

/// What helps where plugin and agent are too different.
const OTHER_VERSION: &str = "use the plugin of the agent's version; or let the agent exit with \
                             `kubectl pod-chaos uninstall`, and have an image of this plugin's version put in";

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
    /// Starts `serve` in that container, from the agent's file there, and waits for its first words.
    pub async fn open(
        cluster: &Cluster,
        pod: &PodName,
        container: &str,
        file: &str,
    ) -> Result<Self, SessionError> {
        Self::open_from(file, cluster, pod, container).await
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
        let mut session = Self::start(file, cluster, pod, container).await?;
        let (protocol, version, pid) = session.greeted().await?;
        session.version = version;
        session.pid = pid;
        if protocol == PROTOCOL {
            Ok(session)
        } else {
            Err(SessionError::Skew { version: session.version, protocol })
        }
    }

    /// Starts `serve` from that file, which has said nothing yet.
    async fn start(
        file: &str,
        cluster: &Cluster,
        pod: &PodName,
        container: &str,
    ) -> Result<Self, SessionError> {
        let stream =
            opened(in_time(Stream::open(cluster, pod, container, &[file, "serve"])).await)?;
        Ok(Self { container: container.to_owned(), version: String::new(), pid: 0, stream })
    }

    /// Its first words: protocol, version and process.
    async fn greeted(&mut self) -> Result<(u16, String, u32), SessionError> {
        match tokio::time::timeout(HELLO_TIMEOUT, self.any()).await {
            Ok(Ok(Event::Hello { protocol, version, pid })) => Ok((protocol, version, pid)),
            Ok(Ok(_)) => Err(SessionError::Unread { version: None, why: "no hello".to_owned() }),
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
        self.stream.send(line.as_bytes()).await.map_err(|error| lost(&error))
    }

    /// The next event, whenever it comes. Events of a kind that this version does not know are passed over: they are
    /// not what it has asked for.
    pub async fn next(&mut self) -> Result<Event, SessionError> {
        loop {
            match self.any().await? {
                Event::Unknown => {}
                event => return Ok(event),
            }
        }
    }

    async fn any(&mut self) -> Result<Event, SessionError> {
        let line = self.stream.next().await.map_err(SessionError::Lost)?;
        serde_json::from_str(&line).map_err(|error| {
            if error.is_data() {
                let version = Some(self.version.clone()).filter(|version| !version.is_empty());
                SessionError::Unread { version, why: error.to_string() }
            } else {
                SessionError::Lost(format!("it said `{line}`"))
            }
        })
    }

    /// What to say besides when it refuses something for that reason: it may not know it, being of another version.
    pub fn too_different(&self, kind: FailureKind) -> Option<String> {
        let version = Some(&self.version).filter(|version| **version != VERSION)?;
        (kind == FailureKind::BadRequest)
            .then(|| format!("the agent is v{version} and this plugin v{VERSION}: {OTHER_VERSION}"))
    }

    /// Has an agent exit that speaks another protocol, and says of which version it was; `None` when there is none, or
    /// nothing that is one. Of these two words, `hello` and `stop`, all protocols make the same.
    pub async fn dismiss(
        cluster: &Cluster,
        pod: &PodName,
        container: &str,
        file: &str,
    ) -> Result<Option<String>, SessionError> {
        let mut session = match Self::start(file, cluster, pod, container).await {
            Ok(session) => session,
            Err(SessionError::NotRunning(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Ok((_, version, _)) = session.greeted().await else { return Ok(None) };
        session.send(&Request::Stop).await?;
        loop {
            match session.answer().await {
                Ok(_) | Err(SessionError::Unread { .. }) => {}
                // With its last word it goes.
                Err(SessionError::Lost(_)) => return Ok(Some(version)),
                Err(error) => return Err(error),
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

/// A stream, or why there is none.
pub(super) fn opened(stream: kube::Result<Stream>) -> Result<Stream, SessionError> {
    stream.map_err(|error| match &error {
        kube::Error::Api(status) if not_running(&status.message) => {
            SessionError::NotRunning(status.message.clone())
        }
        error => SessionError::Api(api_error(error)),
    })
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
