//! Asking an agent to end faults, and what its answers mean.

use pod_chaos_protocol::{Event, Failure, FaultId, Request};

use crate::{
    cluster::Session,
    exit::{Error, Exit},
    plan::PodName,
    report::Told,
};

/// Ends that fault, or all of them; the events up to the closing status, that included.
pub(super) async fn revert(
    mut session: Session,
    fault: Option<FaultId>,
) -> Result<Vec<Event>, Error> {
    session.send(&Request::Revert { fault }).await?;
    let mut events = Vec::new();
    loop {
        let event = session.answer().await?;
        let last = matches!(event, Event::Status { .. } | Event::Failed { .. });
        events.push(event);
        if last {
            return Ok(events);
        }
    }
}

/// What is in force.
pub(super) async fn status(mut session: Session) -> Result<Vec<Told>, Error> {
    session.send(&Request::Status).await?;
    let mut told = Vec::new();
    loop {
        match session.answer().await? {
            Event::Status { faults, processes } => {
                told.extend(faults.into_iter().map(Box::new).map(Told::Network));
                told.extend(processes.into_iter().map(Box::new).map(Told::Process));
                return Ok(told);
            }
            Event::Untold { fault, why } => told.push(Told::Nothing { fault, why }),
            Event::Failed { failure } => {
                return Err(Error::internal("asking the agent what is in force", failure));
            }
            _ => {}
        }
    }
}

/// Whether an event says that nothing is left of a fault.
pub(super) fn is_clean(event: &Event) -> bool {
    match event {
        Event::Ended { left, errors, .. } => left.is_empty() && errors.is_empty(),
        Event::Failed { .. } | Event::Untold { .. } => false,
        _ => true,
    }
}

/// An agent's refusal as the error of the invocation.
pub(super) fn failure(name: &PodName, session: &Session, failure: Failure) -> Error {
    use pod_chaos_protocol::FailureKind::NotClean;
    let Failure { kind, message, hint } = failure;
    let hint = hint.or_else(|| session.too_different(kind));
    let exit = match kind {
        kind if kind.nothing_touched() => Exit::Refused,
        NotClean => Exit::NotClean,
        _ => Exit::Failed,
    };
    Error { exit, messages: vec![format!("pod/{name}: {message}")], hint }
}
