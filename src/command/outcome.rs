//! What becomes of a container that a fault is meant to end.

use std::time::Duration;

use tokio::time::Instant;

use super::{kill, note};
use crate::{
    cluster::{Chosen, TargetContainer, follow_restart},
    exit::{Error, Exit},
    report::Follow,
};

/// How long the kubelet may take to say that a container has ended.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to start one again.
const RESTART_PATIENCE: Duration = Duration::from_secs(120);

/// Who has died of a fault, as far as it has told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Toll {
    /// Nobody.
    #[default]
    Nobody,
    /// Processes that the kernel has killed because memory was used up.
    Some,
    /// The container, and who told with it.
    Container,
}

/// Tells by the kubelet's word what has come of it. Where another process was killed than its main one, it goes on.
pub(super) async fn watch(
    report: &mut dyn Follow,
    at: &Chosen,
    container: &TargetContainer,
    toll: Toll,
) -> Result<Exit, Error> {
    let since = Instant::now();
    let patience = if toll == Toll::Container { RESTART_PATIENCE } else { END_PATIENCE };
    let (cluster, name) = (&at.cluster, &at.name);
    let fate = follow_restart(cluster, name, container, since, since + patience, &mut note).await?;
    kill::tell(report, at, &fate)?;
    if fate.has_ended() || toll != Toll::Nobody {
        return Ok(Exit::Done);
    }
    let message = format_args!(
        "the kernel has killed no process of container {} of pod/{name}",
        fate.container
    );
    Err(Error::new(Exit::Failed, message).hint("-r gives it more time"))
}
