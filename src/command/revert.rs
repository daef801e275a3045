//! `revert`: end faults now, and clear what earlier agents left.

use pod_chaos_protocol::Event;

use super::{
    fault::{how_it_ended, together, with},
    note, print_line, start,
    start::all,
    swap, sweep,
};
use crate::{
    cli::{ConnectionArgs, PickArgs, RevertArgs},
    cluster::{
        AgentContainer, AgentSpec, Chosen, Cluster, RestoredBy, Role, Session, Swap, agents,
        ensure_agent, find, reach_agent, reverted,
    },
    exit::{Error, Exit},
    plan::{Origin, Selection},
    report::{Board, json, text},
};

pub(super) async fn run(connection: &ConnectionArgs, args: &RevertArgs) -> Result<Exit, Error> {
    let clusters = Cluster::connect(connection, args.pick.namespace.namespace.as_ref()).await?;
    let board = Board::new(args.output.format.clone());
    let pods = chosen(&clusters, &args.pick, &board).await?;
    let ended = all(pods.iter().map(async |at| {
        let (restored, events) = futures::join!(swap::revert(at), revert(at, args.agent.origin()));
        restored.and_then(|restored| Ok((restored, events?)))
    }));
    let ended = ended.await;
    let (mut exits, mut traces) = (Vec::new(), Vec::new());
    for (at @ Chosen { cluster, name, .. }, events) in pods.iter().zip(ended) {
        let scope = cluster.scope();
        let mut report = board.follow(scope, name);
        let outcome = events.and_then(|(restored, events)| {
            for swap in &restored {
                let event = json::restored(scope, name, swap.fault, RestoredBy::Client);
                report.tell(text::restored(name, RestoredBy::Client), &event)?;
            }
            // The last one only says what is left.
            for event in events.iter().filter(|event| !matches!(event, Event::Status { .. })) {
                report.tell(text::event(name, event), &json::event(scope, name, event))?;
            }
            if events.len() == 1 && restored.is_empty() && args.output.format.is_text() {
                print_line(&format!("{} clean: nothing to revert", at.title()))?;
            }
            if !events.iter().all(sweep::is_clean) {
                return Ok(Exit::NotClean);
            }
            let how = |done| with(how_it_ended(&Ok(Exit::Interrupted)), done);
            let told = |event: &Event| match event {
                Event::Ended { fault, .. } => Some((*fault, how(text::done(event)))),
                _ => None,
            };
            let ended = events.iter().filter_map(told);
            let ended = ended.chain(restored.iter().map(|swap| (swap.fault, how(None))));
            traces.push(reverted(at, ended.collect()));
            Ok(Exit::Done)
        });
        report.outcome(&outcome);
        exits.push(outcome.unwrap_or_else(|error| at.tell(error).print()));
    }
    let exit = together(&exits);
    board.close(exit)?;
    all(traces.into_iter()).await;
    Ok(exit)
}

/// A pod whose network agents have all died may still hold what they left: it gets a new one. What the others
/// did went with them.
async fn revert(at: &Chosen, origin: Origin) -> Result<Vec<Event>, Error> {
    let Chosen { cluster, name, pod } = at;
    let session = match reach_any(at).await? {
        None if agents(pod).iter().any(is_network) => {
            let spec = AgentSpec::network(origin);
            Some(ensure_agent(cluster, name, pod, &spec, &mut note).await?.0)
        }
        session => session,
    };
    match session {
        Some(session) => sweep::revert(session, None).await,
        // Nobody is there who could hold a fault, nor was there one who could leave any.
        None => Ok(vec![Event::Status { faults: Vec::new(), processes: Vec::new() }]),
    }
}

/// An agent that knows of all faults of the pod. One of the network does; another only where no agent of the
/// network ever was.
pub(super) async fn reach_any(
    Chosen { cluster, name, pod }: &Chosen,
) -> Result<Option<Session>, Error> {
    if agents(pod).iter().any(is_network) {
        return reach_agent(cluster, name, pod, &is_network, &mut note).await;
    }
    reach_agent(cluster, name, pod, &|_| true, &mut note).await
}

fn is_network(agent: &AgentContainer) -> bool {
    agent.role == Role::Network
}

/// The pods that are meant, or all that ever got an agent if nothing says which.
pub(super) async fn chosen(
    clusters: &[Cluster],
    args: &PickArgs,
    board: &Board,
) -> Result<Vec<Chosen>, Error> {
    let selection = Selection::try_from(args)
        .map_err(|error| Error::new(Exit::Usage, &error).hint(error.hint()))?;
    if !selection.is_open() {
        return start::choose(clusters, &selection, board).await;
    }
    let mut pods = find(clusters, &selection).await?;
    pods.retain(|one| !agents(&one.pod).is_empty() || Swap::is_on(&one.pod));
    let count = pods.len();
    board.expect(count, start::are_apart(&pods));
    for one in &mut pods {
        one.cluster = one.cluster.crowded(count);
    }
    Ok(pods)
}
