//! `uninstall`: end all faults and let the agents exit.

use std::io::{Write as _, stdout};

use pod_chaos_protocol::{Event, Request};

use super::{note, sweep};
use crate::{
    cli::{ConnectionArgs, UninstallArgs},
    cluster::{AgentContainer, Cluster, Session, SessionError, agents, reach_agent},
    exit::{Error, Exit},
    plan::PodName,
    report::text,
};

pub(super) async fn run(connection: &ConnectionArgs, args: &UninstallArgs) -> Result<Exit, Error> {
    let name = &args.target.pod;
    let cluster = Cluster::connect(connection, args.target.namespace.namespace.as_ref()).await?;
    let pod = cluster.pod(name).await?;
    let (mut found, mut clean) = (false, true);
    for agent in agents(&pod) {
        let this = |other: &AgentContainer| other.name == agent.name;
        if let Some(session) = reach_agent(&cluster, name, &pod, &this, &mut note).await? {
            found = true;
            clean &= stop(name, session).await?;
        }
    }
    if !found {
        writeln!(stdout(), "pod/{name} has no agent that runs")?;
    }
    Ok(if clean { Exit::Done } else { Exit::NotClean })
}

/// Ends all faults that this agent can end, and has it exit. Whether that is clean.
async fn stop(name: &PodName, mut session: Session) -> Result<bool, Error> {
    session.send(&Request::Stop).await?;
    let mut clean = true;
    loop {
        match session.next().await {
            Ok(event @ Event::Ended { .. }) => {
                clean &= sweep::is_clean(&event);
                writeln!(stdout(), "{}", text::event(name, &event))?;
            }
            Ok(Event::Failed { failure }) => return Err(sweep::failure(name, failure)),
            // The agent may be gone before its last word has travelled.
            Ok(Event::Status { .. }) | Err(SessionError::Lost(_)) => break,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
    writeln!(stdout(), "pod/{name} agent {} exits", session.container)?;
    Ok(clean)
}
