//! `uninstall`: end all faults and let the agents exit.

use pod_chaos_protocol::{Event, Request};

use super::{
    fault::follow_all,
    note, print_line,
    start::{choose, selection},
    sweep,
};
use crate::{
    cli::{ConnectionArgs, UninstallArgs},
    cluster::{AgentContainer, Chosen, Cluster, Session, SessionError, agents, reach_agent},
    exit::{Error, Exit},
    plan::OutputFormat,
    report::{Board, Follow},
};

pub(super) async fn run(connection: &ConnectionArgs, args: &UninstallArgs) -> Result<Exit, Error> {
    let selection = selection(&args.pick)?;
    let board = Board::new(OutputFormat::Text);
    let clusters = Cluster::connect(connection, args.pick.namespace.namespace.as_ref()).await?;
    let pods = choose(&clusters, &selection, &board).await?;
    let stopped = pods.into_iter().map(|at| async {
        let mut report = board.follow(at.cluster.scope(), &at.name);
        let outcome = uninstall(&at, report.as_mut()).await;
        (at, outcome)
    });
    follow_all(stopped.collect(), &board, None).await
}

/// Lets all agents of a pod exit.
async fn uninstall(at: &Chosen, report: &mut dyn Follow) -> Result<Exit, Error> {
    let Chosen { cluster, name, pod } = at;
    let (mut found, mut clean) = (false, true);
    for agent in agents(pod) {
        let this = |other: &AgentContainer| other.name == agent.name;
        if let Some(session) = reach_agent(cluster, name, pod, &this, &mut |_| {}).await? {
            found = true;
            clean &= stop(at, session, report).await?;
        } else if agent.state.may_run()
            && let Some(version) = Session::dismiss(cluster, name, &agent.name, agent.file).await?
        {
            (found, clean) = (true, false);
            print_line(&format!("{} agent {} (v{version}) exits", at.title(), agent.name))?;
            note(&format!(
                "warning: what it says of its faults is not understood; `kubectl pod-chaos revert {}` looks \
                 whether any is left",
                cluster.flags(name)
            ));
        }
    }
    if !found {
        print_line(&format!("{} has no agent that runs", at.title()))?;
    }
    Ok(if clean { Exit::Done } else { Exit::NotClean })
}

/// Ends all faults that this agent can end, and has it exit. Whether that is clean.
async fn stop(at: &Chosen, mut session: Session, report: &mut dyn Follow) -> Result<bool, Error> {
    session.send(&Request::Stop).await?;
    let mut clean = true;
    loop {
        match session.answer().await {
            Ok(event @ Event::Ended { .. }) => {
                clean &= sweep::is_clean(&event);
                report.event(&event)?;
            }
            Ok(Event::Failed { failure }) => {
                return Err(sweep::failure(&at.name, &session, failure));
            }
            // The agent may be gone before its last word has travelled.
            Ok(Event::Status { .. }) | Err(SessionError::Lost(_)) => break,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
    print_line(&format!("{} agent {} exits", at.title(), session.container))?;
    Ok(clean)
}
