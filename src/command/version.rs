//! `version`: the plugin's, and those of the agents in pods.

use std::io::{Write as _, stdout};

use pod_chaos_protocol::PROTOCOL;
use serde::Serialize;
use serde_json::json;

use super::{fault::together, revert::chosen, start::all};
use crate::{
    cli::{ConnectionArgs, VersionArgs},
    cluster::{Chosen, Cluster, Session, SessionError, agents},
    exit::{Error, Exit},
    plan::{OutputFormat, Selection},
    report::{Board, document, json as as_json, say},
};

/// The plugin's own version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// An agent that answered.
#[derive(Serialize)]
struct AgentVersion {
    container: String,
    version: String,
    protocol: u16,
}

pub(super) async fn run(connection: &ConnectionArgs, args: &VersionArgs) -> Result<Exit, Error> {
    let selection = Selection::try_from(&args.pick)
        .map_err(|error| Error::new(Exit::Usage, &error).hint(error.hint()))?;
    if selection.is_open() && !selection.everywhere {
        print(&args.output.format, None)?;
        return Ok(Exit::Done);
    }
    let clusters = Cluster::connect(connection, args.pick.namespace.namespace.as_ref()).await?;
    let pods = chosen(&clusters, &args.pick, &Board::new(OutputFormat::Text)).await?;
    let (mut found, mut exits) = (Vec::new(), Vec::new());
    for (at, (agents, exit)) in pods.iter().zip(all(pods.iter().map(ask)).await) {
        found.push((at, agents));
        exits.push(exit);
    }
    print(&args.output.format, Some(&found))?;
    for (at, agents) in &found {
        let foreign: Vec<_> = agents.iter().filter_map(difference).collect();
        for difference in &foreign {
            say(format_args!("warning: {}: {difference}", at.title()));
        }
        if !foreign.is_empty() {
            let flags = at.cluster.flags(&at.name);
            say(format_args!(
                "hint: `kubectl pod-chaos uninstall {flags}` lets them exit; the next fault brings a new one"
            ));
        }
    }
    Ok(together(&exits))
}

/// All agents of the pod that can be spoken to, newest first.
async fn ask(at: &Chosen) -> (Vec<AgentVersion>, Exit) {
    let Chosen { cluster, name, pod } = at;
    let (mut found, mut exit) = (Vec::new(), Exit::Done);
    for agent in agents(pod) {
        if !agent.state.may_run() {
            continue;
        }
        let (version, protocol) = match Session::open(cluster, name, &agent.name, agent.file).await
        {
            Ok(session) => (session.version, PROTOCOL),
            Err(SessionError::Skew { version, protocol }) => (version, protocol),
            // What the kubelet says lags behind: it has ended.
            Err(SessionError::NotRunning(_)) => continue,
            Err(error) => {
                exit = at.tell(error.into()).print();
                continue;
            }
        };
        found.push(AgentVersion { container: agent.name, version, protocol });
    }
    (found, exit)
}

/// What a user of this plugin should know of that agent, if it is not of the plugin's version.
fn difference(agent: &AgentVersion) -> Option<String> {
    let AgentVersion { container, version, protocol } = agent;
    if *protocol != PROTOCOL {
        return Some(format!(
            "the agent {container} (v{version}) speaks protocol {protocol} and this plugin {PROTOCOL}: \
             it is not spoken to"
        ));
    }
    (version != VERSION).then(|| {
        format!(
            "the agent {container} is v{version} and this plugin v{VERSION}: what only one of them \
             knows is refused"
        )
    })
}

/// What was found where.
type Found<'a> = (&'a Chosen, Vec<AgentVersion>);

fn print(format: &OutputFormat, found: Option<&[Found<'_>]>) -> Result<(), Error> {
    let platform = platform();
    let mut out = stdout();
    if !format.is_text() {
        let mut document = json!({
            "client": {"version": VERSION, "protocol": PROTOCOL, "platform": platform},
        });
        match found {
            Some([(at, agents)]) if at.cluster.scope().context.is_none() => {
                document["pod"] = json!(at.name.as_str());
                document["agents"] = json!(agents);
            }
            Some(found) => {
                document["pods"] = found
                    .iter()
                    .map(|(at, agents)| {
                        let mut place = as_json::place(at.cluster.scope(), &at.name);
                        place.insert("agents".to_owned(), json!(agents));
                        place
                    })
                    .collect();
            }
            None => {}
        }
        let pods = found.iter().copied().flatten().map(|(at, _)| at.name.as_str());
        return document::print(format, &document, pods);
    }
    writeln!(out, "client v{VERSION}, protocol {PROTOCOL}, {platform}")?;
    for (at, agents) in found.iter().copied().flatten() {
        let pod = at.title();
        for AgentVersion { container, version, protocol } in agents {
            writeln!(out, "{pod} agent v{version}, protocol {protocol}, {container}")?;
        }
        if agents.is_empty() {
            say(format_args!("{pod} has no agent that runs"));
        }
    }
    Ok(())
}

/// What this binary runs on, as container platforms and krew name it.
fn platform() -> String {
    let os = match std::env::consts::OS {
        "macos" => "darwin",
        os => os,
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        arch => arch,
    };
    format!("{os}/{arch}")
}
