//! `status`: what is in force, read from the kernel of each pod and told by the agents that carry faults.

use std::io::{Write as _, stdout};

use super::{note, start::all, sweep};
use crate::{
    cli::{ConnectionArgs, StatusArgs},
    cluster::{Cluster, Swap, now},
    command::revert::{chosen, reach_any},
    exit::{Error, Exit},
    plan::OutputFormat,
    report::{Board, Place, Told, document, json, table},
};

pub(super) async fn run(connection: &ConnectionArgs, args: &StatusArgs) -> Result<Exit, Error> {
    let clusters = Cluster::connect(connection, args.pick.namespace.namespace.as_ref()).await?;
    // It is not the choice that is to be read.
    let pods = chosen(&clusters, &args.pick, &Board::new(OutputFormat::Text)).await?;
    let read = all(pods.iter().map(|at| async move {
        let told = async {
            let swaps = Swap::in_force(&at.pod)?;
            let now = if swaps.is_empty() { 0 } else { now(&at.cluster).await };
            let mut told: Vec<_> = swaps.into_iter().map(|swap| Told::images(swap, now)).collect();
            match reach_any(at).await? {
                Some(session) => told.extend(sweep::status(session).await?),
                None if told.is_empty() => return Ok(None),
                None => {}
            }
            Ok(Some(told))
        };
        told.await.map_err(|error: Error| at.tell(error))
    }));
    let mut rows = Vec::new();
    let mut failed = false;
    for (at, read) in pods.iter().zip(read.await) {
        match read {
            Ok(Some(faults)) => {
                let place = Place::of(at);
                rows.extend(faults.into_iter().map(|fault| (place.clone(), fault)));
            }
            Ok(None) => note(&format!("{} has no agent that runs", at.title())),
            Err(error) => {
                error.print();
                failed = true;
            }
        }
    }
    let everywhere = args.pick.conditions.all_namespaces;
    match &args.output.format {
        format @ (OutputFormat::Text | OutputFormat::Wide) => {
            if rows.is_empty() {
                // Of those that did not tell nothing is known.
                if !failed {
                    note("no fault is in force");
                }
            } else if *format == OutputFormat::Wide {
                write!(stdout(), "{}", table::wide_status(&rows))?;
            } else {
                write!(stdout(), "{}", table::status(&rows, everywhere))?;
            }
        }
        format => {
            let pods = rows.iter().map(|(place, _)| place.name.as_str());
            document::print(format, &json::status(&rows), pods)?;
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}
