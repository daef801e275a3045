//! `syscall`: system calls fail, take long, or are accompanied by a signal.

use pod_chaos_protocol::{Latency, ProcessFault, SignalName, SyscallFault};

use super::{
    matrix,
    process::{self, Wish},
};
use crate::{
    cli::{ConnectionArgs, CourseArgs, ProcessArgs, SyscallAction, SyscallArgs},
    cluster::Capability,
    exit::{Error, Exit},
    plan,
};

/// What it takes to trace another user's processes.
const CAPABILITIES: &[Capability] = &[Capability::SysPtrace];

pub(super) async fn run(connection: &ConnectionArgs, args: &SyscallArgs) -> Result<Exit, Error> {
    if let Some(SyscallAction::Matrix(args)) = &args.action {
        return Box::pin(matrix::run(connection, args)).await;
    }
    let fault = plan::syscall::fault(&args.calls)?;
    carry_out(connection, &args.target, &args.course, &fault).await
}

/// One fault, from its agent to its end.
pub(super) async fn carry_out(
    connection: &ConnectionArgs,
    target: &ProcessArgs,
    course: &CourseArgs,
    fault: &SyscallFault,
) -> Result<Exit, Error> {
    let wish = Wish {
        target: &target.of,
        matching: target.matching.as_ref(),
        what: "system calls of processes",
        course,
        expectation: &expectation(fault),
        fault: ProcessFault::Syscall(Box::new(fault.clone())),
        capabilities: CAPABILITIES,
        inside: false,
        ends_container: false,
        check: &|_| Ok(warning(fault)),
    };
    process::run(connection, wish).await
}

/// What the program meets.
fn expectation(fault: &SyscallFault) -> String {
    let mut deeds = Vec::new();
    if let Some(error) = fault.error {
        deeds.push(format!("calls fail with {error}"));
    }
    if fault.delay_enter != Latency::ZERO || fault.delay_exit != Latency::ZERO {
        deeds.push("threads wait in their calls".to_owned());
    }
    if let Some(signal) = fault.signal {
        deeds.push(format!("threads get {signal}"));
    }
    format!("{}; all other calls take some microseconds longer", deeds.join(", "))
}

/// What a person may not have thought of.
fn warning(fault: &SyscallFault) -> Option<String> {
    let signal =
        fault.signal.filter(|signal| [SignalName::KILL, SignalName::STOP].contains(signal))?;
    let after = if signal == SignalName::KILL {
        "ends at its first hit"
    } else {
        "goes on at SIGCONT only"
    };
    Some(format!("warning: {signal} cannot be handled: a process {after}"))
}
