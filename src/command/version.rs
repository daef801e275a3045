//! `version`: the plugin's, and that of the agents in a pod.

use std::io::{Write as _, stdout};

use pod_chaos_protocol::PROTOCOL;
use serde::Serialize;
use serde_json::json;

use super::fault::together;
use crate::{
    cli::{ConnectionArgs, VersionArgs},
    cluster::{Cluster, Scope, Session, SessionError, agents},
    exit::{Error, Exit},
    plan::{OutputFormat, PodName},
    report::{document, json as as_json, say},
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
    let Some(pod) = &args.pod else {
        print(&args.output.format, None)?;
        return Ok(Exit::Done);
    };
    let clusters = Cluster::connect(connection, args.namespace.namespace.as_ref()).await?;
    let mut found = Vec::new();
    let mut exits = Vec::new();
    for cluster in &clusters {
        let answer = ask(cluster, pod).await.map_err(|error| cluster.scope().tell(error))?;
        found.push((cluster.scope(), answer.0));
        exits.push(answer.1);
    }
    print(&args.output.format, Some((pod, &found)))?;
    for (cluster, (scope, agents)) in clusters.iter().zip(&found) {
        let foreign: Vec<_> = agents.iter().filter_map(difference).collect();
        for difference in &foreign {
            say(format_args!("warning: {}: {difference}", scope.title(pod)));
        }
        if !foreign.is_empty() {
            let flags = cluster.flags(pod);
            say(format_args!(
                "hint: `kubectl pod-chaos uninstall {flags}` lets them exit; the next fault brings a new one"
            ));
        }
    }
    Ok(together(&exits))
}

/// All agents of the pod that can be spoken to, newest first.
async fn ask(cluster: &Cluster, name: &PodName) -> Result<(Vec<AgentVersion>, Exit), Error> {
    let (mut found, mut exit) = (Vec::new(), Exit::Done);
    for agent in agents(&cluster.pod(name).await?) {
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
                exit = Error::from(error).print();
                continue;
            }
        };
        found.push(AgentVersion { container: agent.name, version, protocol });
    }
    Ok((found, exit))
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
type Found<'a> = (&'a Scope, Vec<AgentVersion>);

fn print(format: &OutputFormat, found: Option<(&PodName, &[Found<'_>])>) -> Result<(), Error> {
    let platform = platform();
    let mut out = stdout();
    if !format.is_text() {
        let mut document = json!({
            "client": {"version": VERSION, "protocol": PROTOCOL, "platform": platform},
        });
        match found {
            Some((pod, [(Scope { context: None, .. }, agents)])) => {
                document["pod"] = json!(pod.as_str());
                document["agents"] = json!(agents);
            }
            Some((pod, found)) => {
                document["pods"] = found
                    .iter()
                    .map(|(scope, agents)| {
                        let mut place = as_json::place(scope, pod);
                        place.insert("agents".to_owned(), json!(agents));
                        place
                    })
                    .collect();
            }
            None => {}
        }
        return document::print(format, &document, found.map(|(pod, _)| pod.as_str()));
    }
    writeln!(out, "client v{VERSION}, protocol {PROTOCOL}, {platform}")?;
    let Some((pod, found)) = found else { return Ok(()) };
    for (scope, agents) in found {
        let pod = scope.title(pod);
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
