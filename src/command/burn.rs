//! `burn`: a resource of a container is used up.

use pod_chaos_protocol::{
    CpuBurn, CpuLoad, CpuWhole, IoBurn, MemoryBurn, MemoryLoad, ProcessFault,
};

use super::{
    fill::check_path,
    process::{self, Wish},
};
use crate::{
    cli::{BurnCpuArgs, BurnIoArgs, BurnMemoryArgs, BurnWhat, ConnectionArgs, WholeFlag},
    cluster::TargetContainer,
    exit::{Error, Exit},
};

/// What `--own-cgroup` comes to.
const OWN_CGROUP: &str = "warning: the agent's own control group has no limit: the container is not charged and not \
                          throttled, and what is used up is its pod's and its node's";

pub(super) async fn run(connection: &ConnectionArgs, what: &BurnWhat) -> Result<Exit, Error> {
    match what {
        BurnWhat::Cpu(args) => cpu(connection, args).await,
        BurnWhat::Memory(args) => memory(connection, args).await,
        BurnWhat::Io(args) => io(connection, args).await,
    }
}

async fn cpu(connection: &ConnectionArgs, args: &BurnCpuArgs) -> Result<Exit, Error> {
    let (load, own) = (load(args)?, args.own_cgroup);
    let wish = Wish {
        target: &args.target,
        matching: None,
        what: if own { "processor time beside the processes" } else { "processor time" },
        course: &args.course,
        expectation: "slower answers; at its limit the container is throttled",
        fault: ProcessFault::BurnCpu(CpuBurn { load, ramp: args.ramp }),
        capabilities: &[],
        inside: !own,
        ends_container: false,
        check: &|container| {
            if own { Ok(Some(OWN_CGROUP.to_owned())) } else { unlimited(container, load) }
        },
    };
    Box::pin(process::run(connection, wish)).await
}

async fn memory(connection: &ConnectionArgs, args: &BurnMemoryArgs) -> Result<Exit, Error> {
    let load = match (args.to, args.size) {
        (Some(percent), _) => MemoryLoad::To(percent),
        (None, Some(size)) => MemoryLoad::Size(size),
        (None, None) => MemoryLoad::Oom,
    };
    load.check().map_err(|error| {
        Error::new(Exit::Usage, error).hint("--oom has the kernel kill for lack of memory")
    })?;
    let expectation = match load {
        MemoryLoad::Oom => "the kernel kills for lack of memory, and the kubelet restarts",
        _ => "files are read from disk again; what grows beyond the limit is killed",
    };
    let (ramp, allow_node_pressure, own) = (args.ramp, args.allow_node_pressure, args.own_cgroup);
    let wish = Wish {
        target: &args.target,
        matching: None,
        what: if own { "memory beside the processes" } else { "memory" },
        course: &args.course,
        expectation,
        fault: ProcessFault::BurnMemory(MemoryBurn { load, ramp, allow_node_pressure }),
        capabilities: &[],
        inside: !own,
        ends_container: load == MemoryLoad::Oom,
        check: &|container| {
            if own { Ok(Some(OWN_CGROUP.to_owned())) } else { unlimited_memory(container, load) }
        },
    };
    Box::pin(process::run(connection, wish)).await
}

async fn io(connection: &ConnectionArgs, args: &BurnIoArgs) -> Result<Exit, Error> {
    check_path(&args.path)?;
    let burn = IoBurn {
        path: args.path.clone(),
        read: args.read,
        write: args.write,
        sync: args.sync,
        block: args.block,
        size: args.size,
    };
    burn.check().map_err(|error| Error::new(Exit::Usage, error))?;
    let wish = Wish {
        target: &args.target,
        matching: None,
        what: "the disk",
        course: &args.course,
        expectation: "whoever uses the same disk waits for it, also other pods of the node",
        fault: ProcessFault::BurnIo(burn),
        capabilities: &[],
        inside: true,
        ends_container: false,
        check: &|_| Ok(None),
    };
    Box::pin(process::run(connection, wish)).await
}

fn load(args: &BurnCpuArgs) -> Result<CpuLoad, Error> {
    let of = match args.of {
        WholeFlag::Limit => CpuWhole::Limit,
        WholeFlag::Core => CpuWhole::Core,
        WholeFlag::Node => CpuWhole::Node,
    };
    if args.own_cgroup && args.workers.is_none() && of == CpuWhole::Limit {
        return Err(Error::new(Exit::Usage, "the agent's own control group has no limit")
            .hint("--of core or --of node names another whole, --workers a number of threads"));
    }
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
    let limited = is_limited(container, "cpu");
    let name = &container.container.name;
    let without = format!("container {name} has no limit of processor time");
    match load {
        _ if limited => Ok(None),
        CpuLoad::Share { of: CpuWhole::Limit, .. } => Err(Error::refused(without)
            .hint("--of core or --of node names another whole, --workers a number of threads")),
        _ => Ok(Some(format!("warning: {without}: other pods of the node may notice"))),
    }
}

/// The same of memory, of which the node has no more to give when it is gone.
fn unlimited_memory(
    container: &TargetContainer,
    load: MemoryLoad,
) -> Result<Option<String>, Error> {
    let name = &container.container.name;
    let without = format!("container {name} has no limit of memory");
    match load {
        _ if is_limited(container, "memory") => Ok(None),
        MemoryLoad::Size(_) => {
            Ok(Some(format!("warning: {without}: it is the node's that is held")))
        }
        _ => Err(Error::refused(without).hint("--size names an amount")),
    }
}

fn is_limited(container: &TargetContainer, resource: &str) -> bool {
    let limits = container.container.resources.as_ref().and_then(|all| all.limits.as_ref());
    limits.is_some_and(|limits| limits.contains_key(resource))
}
