//! `burn`: a resource of a container is used up.

use pod_chaos_protocol::{CpuBurn, CpuLoad, CpuWhole, ProcessFault};

use super::process::{self, Wish};
use crate::{
    cli::{BurnCpuArgs, BurnWhat, ConnectionArgs, WholeFlag},
    cluster::TargetContainer,
    exit::{Error, Exit},
};

pub(super) async fn run(connection: &ConnectionArgs, what: &BurnWhat) -> Result<Exit, Error> {
    match what {
        BurnWhat::Cpu(args) => cpu(connection, args).await,
    }
}

async fn cpu(connection: &ConnectionArgs, args: &BurnCpuArgs) -> Result<Exit, Error> {
    let load = load(args)?;
    let wish = Wish {
        target: &args.target,
        matching: None,
        what: "processor time",
        course: &args.course,
        expectation: "slower answers; at its limit the container is throttled",
        fault: ProcessFault::BurnCpu(CpuBurn { load, ramp: args.ramp }),
        capabilities: &[],
        inside: true,
        check: &|container| unlimited(container, load),
    };
    process::run(connection, wish).await
}

fn load(args: &BurnCpuArgs) -> Result<CpuLoad, Error> {
    let of = match args.of {
        WholeFlag::Limit => CpuWhole::Limit,
        WholeFlag::Core => CpuWhole::Core,
        WholeFlag::Node => CpuWhole::Node,
    };
    match (args.workers, args.percent) {
        (Some(count), _) => Ok(CpuLoad::Workers(count)),
        (None, Some(percent)) if !percent.is_zero() => Ok(CpuLoad::Share { percent, of }),
        (None, _) => {
            Err(Error::new(Exit::Usage, "--percent 0% burns nothing").hint("name more than that"))
        }
    }
}

/// Without a limit there is no share of it, and others may notice.
fn unlimited(container: &TargetContainer, load: CpuLoad) -> Result<Option<String>, Error> {
    let limits = container.container.resources.as_ref().and_then(|all| all.limits.as_ref());
    let limited = limits.is_some_and(|limits| limits.contains_key("cpu"));
    let name = &container.container.name;
    let without = format!("container {name} has no limit of processor time");
    match load {
        _ if limited => Ok(None),
        CpuLoad::Share { of: CpuWhole::Limit, .. } => Err(Error::refused(without)
            .hint("--of core or --of node names another whole, --workers a number of threads")),
        _ => Ok(Some(format!("warning: {without}: other pods of the node may notice"))),
    }
}
