//! `status`: what is in force, read from the kernel of each pod and told by the agents that carry faults.

use std::io::{Write as _, stdout};

use super::sweep;
use crate::{
    cli::{ConnectionArgs, OutputFormat, StatusArgs},
    cluster::Cluster,
    command::revert::{chosen, reach_any},
    exit::{Error, Exit},
    report::{json, text},
};

pub(super) async fn run(connection: &ConnectionArgs, args: &StatusArgs) -> Result<Exit, Error> {
    let cluster = Cluster::connect(connection, args.namespace.namespace.as_ref()).await?;
    let mut rows = Vec::new();
    let mut failed = false;
    for (name, pod) in chosen(&cluster, args.pod.as_ref()).await? {
        let read = async {
            match reach_any(&cluster, &name, &pod).await? {
                Some(session) => sweep::status(session).await.map(Some),
                None => Ok(None),
            }
        };
        match read.await {
            Ok(Some(faults)) => rows.extend(faults.into_iter().map(|fault| (name.clone(), fault))),
            Ok(None) => eprintln!("pod/{name} has no agent that runs"),
            Err(error) => {
                error.print();
                failed = true;
            }
        }
    }
    match args.output {
        OutputFormat::Json => writeln!(stdout(), "{}", json::status(cluster.namespace(), &rows))?,
        OutputFormat::Text if rows.is_empty() => eprintln!("no fault is in force"),
        OutputFormat::Text => write!(stdout(), "{}", text::status(&rows))?,
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}
