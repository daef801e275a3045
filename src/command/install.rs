//! `install`: put the agent in and see it answer.

use std::time::{Duration, Instant};

use super::{
    note, print_line,
    start::{Aim, Ready, Wanted, Way, make_ready},
};
use crate::{
    cli::{ConnectionArgs, InstallArgs},
    cluster::{AgentSpec, Chosen, Domain, agents},
    exit::{Error, Exit},
    plan::{Origin, OutputFormat},
    report::Board,
};

pub(super) async fn run(connection: &ConnectionArgs, args: &InstallArgs) -> Result<Exit, Error> {
    let start = Instant::now();
    let board = Board::new(OutputFormat::Text);
    let mut wanted = Presence { origin: args.agent.origin() };
    let (at_once, pods) = (Duration::ZERO, &args.target);
    let ready = make_ready(connection, pods, at_once, false, &board, &mut wanted).await?;
    let mut new = Vec::new();
    for Ready { at, deed: before, way, .. } in ready {
        let Way::Session(session) = way else { continue };
        let (pod, container, version) = (at.title(), &session.container, &session.version);
        if before.contains(container) {
            print_line(&format!(
                "{pod} already has an agent: {container} answers (version {version})"
            ))?;
        } else {
            print_line(&format!(
                "{pod} agent installed: {container} answers (version {version}, {:.2} s)",
                start.elapsed().as_secs_f64()
            ))?;
            new.push(at);
        }
    }
    match &new[..] {
        [] => {}
        [Chosen { cluster, name, .. }] => note(&format!(
            "note: its entry stays in the pod's spec for the pod's life; \
             `kubectl pod-chaos uninstall {}` lets it exit",
            cluster.flags(name)
        )),
        _ => note(
            "note: their entries stay in the pods' specs for the pods' lives; \
             `kubectl pod-chaos uninstall` lets them exit",
        ),
    }
    Ok(Exit::Done)
}

/// An agent of the network, that waits.
struct Presence {
    origin: Origin,
}

impl Wanted for Presence {
    /// The agents that were there before.
    type Deed = Vec<String>;

    fn domain(&self) -> Domain {
        Domain::Network
    }

    fn aim(&mut self, Chosen { pod, .. }: &Chosen) -> Result<Vec<Aim<Vec<String>>>, Error> {
        let before = agents(pod).into_iter().map(|agent| agent.name).collect();
        let agent = AgentSpec::network(self.origin.clone());
        Ok(vec![Aim { agent, notes: Vec::new(), inside: None, plan: None, deed: before }])
    }

    fn is_only_for_the_agent(&self) -> bool {
        true
    }
}
