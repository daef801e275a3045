//! `syscall`.

use clap::{Args, Subcommand};
use pod_chaos_protocol::{
    Call, ErrorNumber, Latency, PathPattern, Percentage, Set, SignalName, When,
};

use super::{CourseArgs, MatrixArgs, ProcessArgs};

/// Flags of `syscall`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "\
Examples:
  kubectl pod-chaos syscall -p web --call open --error EACCES --path '/data/*'
  kubectl pod-chaos syscall -p web --call read,write --delay-enter 1s
  kubectl pod-chaos syscall -p web --set network --error ENETDOWN --when 3..+2
  kubectl pod-chaos syscall -p web --call accept --signal USR1

At least one of --error, --delay-enter, --delay-exit and --signal says what is
done; all of them may be. A call is hit when it meets all conditions: --when,
--path, --fd, --probability. Names are those of syscalls(2); those of the C
library mean a family: open is open, openat, openat2 and creat. Sets are
strace's: file, desc, process, network, signal, ipc, memory, creds, clock.

Every thread is traced, and all that it makes, so each of its system calls
takes some microseconds longer. If the agent dies, the kernel lets go of them
at once. docs/syscall.md explains all of it.")]
pub struct SyscallArgs {
    /// Something else than one fault.
    #[command(subcommand)]
    pub action: Option<SyscallAction>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub target: ProcessArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub course: CourseArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub calls: CallArgs,
}

/// What there is to do beside one fault.
#[derive(Debug, Subcommand)]
pub enum SyscallAction {
    /// Go through many faults in turn, and measure what the container makes of each
    Matrix(Box<MatrixArgs>),
}

/// Flags that say which system calls are hit, and what is done to them.
#[derive(Debug, Args)]
#[command(next_help_heading = "System calls")]
pub struct CallArgs {
    /// Which calls, by name
    #[arg(
        long = "call",
        value_name = "NAME,…",
        value_delimiter = ',',
        required_unless_present = "sets"
    )]
    pub calls: Vec<Call>,
    /// Which calls, by what they are about
    #[arg(long = "set", value_name = "SET,…", value_delimiter = ',')]
    pub sets: Vec<Set>,
    /// Not carried out, and fail with this: EACCES, ENOSYS, …
    #[arg(long, value_name = "ERROR")]
    pub error: Option<ErrorNumber>,
    /// Held up before they are carried out
    #[arg(long, value_name = "TIME")]
    pub delay_enter: Option<Latency>,
    /// Held up before their result is known
    #[arg(long, value_name = "TIME")]
    pub delay_exit: Option<Latency>,
    /// Their thread gets this signal: USR1, SIGUSR1 or 10
    #[arg(long, value_name = "SIGNAL")]
    pub signal: Option<SignalName>,
    /// Which invocations, counted for each call of each thread: 3, 3.., 3..7, 3..+2, 3..7+2
    #[arg(long, value_name = "WHICH")]
    pub when: Option<When>,
    /// Only about this file, `*` is any characters; repeatable
    #[arg(long = "path", value_name = "PATTERN")]
    pub paths: Vec<PathPattern>,
    /// Only given this file descriptor; repeatable
    #[arg(long = "fd", value_name = "NUMBER", value_delimiter = ',')]
    pub descriptors: Vec<u32>,
    /// How likely each of these is hit
    #[arg(long, value_name = "PERCENT")]
    pub probability: Option<Percentage>,
    /// Where the dice for that start, to have them fall the same again
    #[arg(long = "call-seed", value_name = "NUMBER")]
    pub call_seed: Option<u64>,
}
