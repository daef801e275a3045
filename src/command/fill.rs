//! `fill`: room on a disk is taken.

use pod_chaos_protocol::{DiskFill, DiskLoad, ProcessFault};

use super::process::{self, Wish};
use crate::{
    cli::{ConnectionArgs, FillDiskArgs, FillWhat},
    cluster::TargetContainer,
    exit::{Error, Exit},
};

pub(super) async fn run(connection: &ConnectionArgs, what: &FillWhat) -> Result<Exit, Error> {
    let FillWhat::Disk(args) = what;
    Box::pin(disk(connection, args)).await
}

async fn disk(connection: &ConnectionArgs, args: &FillDiskArgs) -> Result<Exit, Error> {
    let load = match (args.to, args.size) {
        (Some(percent), _) if !percent.is_zero() => DiskLoad::To(percent),
        (None, Some(size)) => DiskLoad::Size(size),
        _ => {
            return Err(
                Error::new(Exit::Usage, "--to 0% fills nothing").hint("name more than that")
            );
        }
    };
    check_path(&args.path)?;
    let (path, allow_node_pressure) = (args.path.clone(), args.allow_node_pressure);
    let wish = Wish {
        target: &args.target,
        matching: None,
        what: "the disk",
        course: &args.course,
        expectation: "writing fails for lack of room (ENOSPC), where all of it is taken",
        fault: ProcessFault::FillDisk(DiskFill { path, load, allow_node_pressure }),
        capabilities: &[],
        inside: true,
        ends_container: false,
        check: &|container| Ok(eviction_warning(container)),
    };
    Box::pin(process::run(connection, wish)).await
}

/// Whatever folder the plugin itself is in means nothing to the container.
pub(super) fn check_path(path: &str) -> Result<(), Error> {
    if path.starts_with('/') {
        return Ok(());
    }
    Err(Error::new(Exit::Usage, format_args!("`{path}` is not an absolute path"))
        .hint("--path names a folder as the container sees it, as /data"))
}

/// What the kubelet counts of the container's files may be too much for it.
fn eviction_warning(container: &TargetContainer) -> Option<String> {
    let limits = container.container.resources.as_ref()?.limits.as_ref()?;
    let limit = &limits.get("ephemeral-storage")?.0;
    Some(format!(
        "warning: container {} may have {limit} of ephemeral storage, and the kubelet evicts the pod that it finds \
         above: it does not see files without a name, unless it counts by quotas",
        container.container.name
    ))
}
