//! An agent in an image that is none of ours: its container has the image of one that the pod has, whose shell waits for
//! the agent's file, which comes through `pods/exec`.

use std::time::Duration;

use k8s_openapi::api::core::v1::{EphemeralContainer, Pod};
use tokio::time::timeout;

use super::{
    Cluster, Role, SessionError, client::in_time, session::opened, stream::Stream,
    target::default_container,
};
use crate::{exit::Error, image::Program, plan::PodName};

/// The file of an agent in an image of its own.
pub(super) const OWN: &str = "/pod-chaos-agent";
/// And in one of another's. Any user may write there, in all images that have a shell.
const STREAMED: &str = "/tmp/pod-chaos-agent";
const SHELL: &str = "sh";

/// Waits for the file `$0`, and becomes it: no process of the shell is left. A minute is more than its way takes;
/// where `sleep` takes whole seconds only, it is ten.
const WAIT: &str = "trap 'exit 143' TERM; n=0; until [ -x \"$0\" ]; do \
                    n=$((n+1)); [ $n -le 600 ] || exit 124; sleep 0.1 || sleep 1; done; exec \"$0\" wait";
/// Says what the node is, takes the size and the bytes of the file `$0`, and says when it is there. It has its name only
/// when it is whole: neither is a part of it started, nor is one changed that runs. What goes wrong is said in the same
/// place; the shell itself keeps its stderr open: a runtime ends the input of who closes it.
const TAKE: &str = "{ umask 022; uname -m && read -r size && mkdir -p \"${0%/*}\" && \
                    head -c \"$size\" >\"$0.$$\" && [ \"$(wc -c <\"$0.$$\")\" -eq \"$size\" ] && \
                    chmod 755 \"$0.$$\" && mv \"$0.$$\" \"$0\" && echo taken; } 2>&1";
/// How long it may be on its way.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is needed of the image, for hints.
pub(super) const NEEDS: &str = "--bootstrap stream takes an image with sh, head, wc, mkdir, chmod, mv and uname, as \
                                most have that have a shell, and a container whose own files may be written";

/// The file of the agent in this container.
pub(super) fn file(container: &EphemeralContainer) -> &'static str {
    let command = container.command.iter().flatten().next();
    if command.is_some_and(|word| word == SHELL) { STREAMED } else { OWN }
}

/// The image that an agent of that role is streamed into: that of its target, or of the container that is meant when
/// none is named.
pub(super) fn image(pod: &Pod, role: &Role) -> Option<String> {
    let containers = &pod.spec.as_ref()?.containers;
    let named = role.target().or_else(|| default_container(pod));
    let of_that_name = containers.iter().find(|one| Some(one.name.as_str()) == named);
    of_that_name.or(containers.first())?.image.clone()
}

/// What is run in that image.
pub(super) fn command() -> Vec<String> {
    [SHELL, "-c", WAIT, STREAMED].map(str::to_owned).to_vec()
}

/// Brings the file to the shell that waits for it.
pub(super) async fn deliver(
    cluster: &Cluster,
    pod: &PodName,
    container: &str,
    programs: &[Program],
) -> Result<(), SessionError> {
    let stream = Stream::open(cluster, pod, container, &[SHELL, "-c", TAKE, STREAMED]);
    let mut stream = opened(in_time(stream).await)?;
    let refused = |why: &str| {
        let message =
            format!("pod/{pod} does not take the agent into container {container}: {why}");
        SessionError::Api(Error::refused(message).hint(NEEDS))
    };
    // A stream that ends before the first word is a shell that never started.
    let machine = timeout(PATIENCE, stream.next()).await.map_err(|_| refused("no answer"))?;
    let machine = machine.map_err(SessionError::NotRunning)?;
    let program = programs.iter().find(|it| it.architecture.machine() == machine);
    let program = program.ok_or_else(|| match &machine[..] {
        "x86_64" | "aarch64" => SessionError::Api(Error::refused(format_args!(
            "there is no agent for {machine}, which the node of pod/{pod} is"
        ))),
        // The shell's own words.
        other => refused(other),
    })?;
    let take = async {
        let sent = async {
            stream.send(format!("{}\n", program.binary.len()).as_bytes()).await?;
            stream.send(&program.binary).await
        };
        // Who has gone may have said why.
        let sent = sent.await;
        match (stream.next().await, sent) {
            (Ok(word), _) if word == "taken" => Ok(()),
            (Ok(why), _) | (Err(why), Ok(())) => Err(refused(&why)),
            (Err(_), Err(error)) => Err(refused(&error.to_string())),
        }
    };
    timeout(PATIENCE, take).await.map_err(|_| refused("no answer"))?
}
