//! `pause`: processes stand still.

use pod_chaos_protocol::ProcessFault;

use super::process::{self, Wish};
use crate::{
    cli::{ConnectionArgs, PauseArgs},
    cluster::{Capability, TargetContainer},
    exit::{Error, Exit},
};

/// What it takes to stop another user's processes.
const CAPABILITIES: &[Capability] = &[Capability::SysPtrace];

pub(super) async fn run(connection: &ConnectionArgs, args: &PauseArgs) -> Result<Exit, Error> {
    let wish = Wish {
        target: &args.target.of,
        matching: args.target.matching.as_ref(),
        what: "processes",
        course: &args.course,
        expectation: "everything hangs, and goes on late; connections stay open",
        fault: ProcessFault::Pause,
        capabilities: CAPABILITIES,
        inside: false,
        ends_container: false,
        check: &|container| Ok(restart_warning(container, args.course.running_time.as_nanos())),
    };
    Box::pin(process::run(connection, wish)).await
}

/// Says when the kubelet may find the container dead.
fn restart_warning(container: &TargetContainer, nanos: u64) -> Option<String> {
    let patience = u64::try_from(container.patience_of_liveness_probe()?).ok()?;
    let name = &container.container.name;
    let probe =
        format!("container {name} has a liveness probe that may fail for good after {patience} s");
    Some(if nanos / 1_000_000_000 < patience {
        format!("{probe}; this pause is shorter")
    } else {
        format!("warning: {probe}: the kubelet then restarts it, which ends the pause")
    })
}
