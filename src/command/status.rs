//! `status`: what is in force, read from the kernel of each pod and told by the agents that carry faults.

use std::io::{Write as _, stdout};

use super::{print_line, start::all, sweep};
use crate::{
    cli::{ConnectionArgs, OutputFormat, StatusArgs},
    cluster::Cluster,
    command::revert::{chosen, reach_any},
    exit::{Error, Exit},
    report::{Place, json, text},
};

pub(super) async fn run(connection: &ConnectionArgs, args: &StatusArgs) -> Result<Exit, Error> {
    let cluster = Cluster::connect(connection, args.pick.namespace.namespace.as_ref()).await?;
    let pods = chosen(&cluster, &args.pick, args.output).await?;
    let read = all(pods.iter().map(|at| async move {
        match reach_any(at).await? {
            Some(session) => sweep::status(session).await.map(Some),
            None => Ok(None),
        }
    }));
    let mut rows = Vec::new();
    let mut failed = false;
    for (at, read) in pods.iter().zip(read.await) {
        match read {
            Ok(Some(faults)) => {
                let place = Place::of(at);
                rows.extend(faults.into_iter().map(|fault| (place.clone(), fault)));
            }
            Ok(None) => eprintln!("pod/{} has no agent that runs", at.name),
            Err(error) => {
                error.print();
                failed = true;
            }
        }
    }
    match args.output {
        OutputFormat::Json => print_line(&json::status(&rows))?,
        OutputFormat::Text if rows.is_empty() => eprintln!("no fault is in force"),
        OutputFormat::Text => {
            write!(stdout(), "{}", text::status(&rows, args.pick.all_namespaces))?;
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}
