//! `status`: what is in force, read from the kernel of each pod and told by the agents that carry faults.

use std::io::{Write as _, stdout};

use super::{print_line, start::all, sweep};
use crate::{
    cli::{ConnectionArgs, OutputFormat, StatusArgs},
    cluster::Cluster,
    command::revert::{chosen, reach_any},
    exit::{Error, Exit},
    plan::StatusFormat,
    report::{Place, json, text},
};

pub(super) async fn run(connection: &ConnectionArgs, args: &StatusArgs) -> Result<Exit, Error> {
    let cluster = Cluster::connect(connection, args.pick.namespace.namespace.as_ref()).await?;
    let as_data = !matches!(args.output, StatusFormat::Text | StatusFormat::Wide);
    let lines = if as_data { OutputFormat::Json } else { OutputFormat::Text };
    let pods = chosen(&cluster, &args.pick, lines).await?;
    let read = all(pods.iter().map(|at| async move {
        let told = async {
            match reach_any(at).await? {
                Some(session) => sweep::status(session).await.map(Some),
                None => Ok(None),
            }
        };
        told.await.map_err(|error: Error| error.in_pod(&at.name))
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
    let everywhere = args.pick.conditions.all_namespaces;
    match &args.output {
        StatusFormat::Json => print_line(&json::status(&rows))?,
        StatusFormat::Yaml => {
            let text = serde_saphyr::to_string(&json::status(&rows));
            let text = text.map_err(|error| Error::internal("writing YAML", error))?;
            write!(stdout(), "{text}")?;
        }
        StatusFormat::Path(path) => print_line(&path.find(&json::status(&rows)))?,
        StatusFormat::Name => {
            let mut names: Vec<_> = rows.iter().map(|(place, _)| &place.name).collect();
            names.dedup();
            for name in names {
                print_line(&format_args!("pod/{name}"))?;
            }
        }
        _ if rows.is_empty() => eprintln!("no fault is in force"),
        StatusFormat::Wide => write!(stdout(), "{}", text::status(&rows, true, true))?,
        StatusFormat::Text => write!(stdout(), "{}", text::status(&rows, everywhere, false))?,
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}
