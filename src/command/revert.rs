//! `revert`: end faults now, and clear what earlier agents left.

use std::io::{Write as _, stdout};

use k8s_openapi::api::core::v1::Pod;
use pod_chaos_protocol::Event;

use super::{note, sweep};
use crate::{
    cli::{ConnectionArgs, OutputFormat, RevertArgs},
    cluster::{
        AgentContainer, AgentSpec, Cluster, Role, Session, agents, ensure_agent, reach_agent,
    },
    exit::{Error, Exit},
    plan::{Image, PodName},
    report::{json, text},
};

pub(super) async fn run(connection: &ConnectionArgs, args: &RevertArgs) -> Result<Exit, Error> {
    let cluster = Cluster::connect(connection, args.namespace.namespace.as_ref()).await?;
    let mut exit = Exit::Done;
    for (name, pod) in chosen(&cluster, args.pod.as_ref()).await? {
        match revert(&cluster, &name, &pod).await {
            Ok(events) => {
                for event in &events {
                    match args.output {
                        OutputFormat::Json => writeln!(
                            stdout(),
                            "{}",
                            json::event(cluster.namespace(), &name, event)
                        )?,
                        OutputFormat::Text if matches!(event, Event::Status { .. }) => {}
                        OutputFormat::Text => writeln!(stdout(), "{}", text::event(&name, event))?,
                    }
                    if !sweep::is_clean(event) {
                        exit = Exit::NotClean;
                    }
                }
                if args.output == OutputFormat::Text && events.len() == 1 {
                    writeln!(stdout(), "pod/{name} clean: nothing to revert")?;
                }
            }
            Err(error) => exit = error.print(),
        }
    }
    Ok(exit)
}

/// A pod whose network agents have all died may still hold what they left: it gets a new one. What the others
/// did went with them.
async fn revert(cluster: &Cluster, name: &PodName, pod: &Pod) -> Result<Vec<Event>, Error> {
    let session = match reach_any(cluster, name, pod).await? {
        None if agents(pod).iter().any(is_network) => {
            let spec = AgentSpec::network(Image::default());
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
    cluster: &Cluster,
    name: &PodName,
    pod: &Pod,
) -> Result<Option<Session>, Error> {
    if agents(pod).iter().any(is_network) {
        return reach_agent(cluster, name, pod, &is_network, &mut note).await;
    }
    reach_agent(cluster, name, pod, &|_| true, &mut note).await
}

fn is_network(agent: &AgentContainer) -> bool {
    agent.role == Role::Network
}

/// The pod that was named, or all of the namespace that ever got an agent.
pub(super) async fn chosen(
    cluster: &Cluster,
    name: Option<&PodName>,
) -> Result<Vec<(PodName, Pod)>, Error> {
    if let Some(name) = name {
        return Ok(vec![(name.clone(), cluster.pod(name).await?)]);
    }
    let running = |pod: &Pod| {
        pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
    };
    let pods = cluster.all_pods().await?.into_iter();
    Ok(pods
        .filter(|pod| running(pod) && !agents(pod).is_empty())
        .filter_map(|pod| Some((pod.metadata.name.as_deref()?.parse().ok()?, pod)))
        .collect())
}
