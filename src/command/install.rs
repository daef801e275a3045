//! `install`: put the agent in and see it answer.

use std::{
    io::{Write as _, stdout},
    time::Instant,
};

use super::note;
use crate::{
    cli::{ConnectionArgs, InstallArgs},
    cluster::{AgentSpec, Cluster, Installed, ensure_agent},
    exit::{Error, Exit},
};

pub(super) async fn run(connection: &ConnectionArgs, args: &InstallArgs) -> Result<Exit, Error> {
    let start = Instant::now();
    let name = &args.target.pod;
    let cluster = Cluster::connect(connection, args.target.namespace.namespace.as_ref()).await?;
    let pod = cluster.pod(name).await?;
    let spec = AgentSpec::network(args.agent.image.clone());
    let (session, installed) = ensure_agent(&cluster, name, &pod, &spec, &mut note).await?;
    let (container, version) = (&session.container, &session.version);
    match installed {
        Installed::Before => writeln!(
            stdout(),
            "pod/{name} already has an agent: {container} answers (version {version})"
        )?,
        Installed::Now => {
            writeln!(
                stdout(),
                "pod/{name} agent installed: {container} answers (version {version}, {:.2} s)",
                start.elapsed().as_secs_f64()
            )?;
            eprintln!(
                "note: its entry stays in the pod's spec for the pod's life; \
                 `kubectl pod-chaos uninstall {}` lets it exit",
                cluster.flags(name)
            );
        }
    }
    Ok(Exit::Done)
}
