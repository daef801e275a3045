//! System calls of the target's processes fail, take long, or are accompanied by a signal.
//!
//! A thread of the agent traces them ([`crate::trace`]). It has the fault's deadline too, and when it ends, however
//! it ends, the kernel lets go of what it traces: the fault cannot outlive its agent.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    time::Duration,
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::Pid,
};
use pod_chaos_protocol::{CallCounts, Event, Failure, FailureKind, Processes, SyscallFault};

use super::Cleared;
use crate::{
    carry::{Counts, Hold},
    clock,
    error::failure,
    processes::{self, Process},
    serve::say,
    trace::{self, End, Tracing},
};

/// How often new counts are told.
const TELL_EVERY_MS: u64 = 1_000;

/// Processes whose system calls stop.
#[derive(Debug)]
pub struct Tampering {
    target: Processes,
    tracing: Tracing,
    /// Why the tracer has ended, and which threads it traces all the same.
    over: Option<(End, Vec<String>)>,
    told: CallCounts,
    /// When counts are told next.
    tell_ms: u64,
}

/// Traces all threads of the target, and sees that it does; undoes it when one cannot be traced.
pub fn apply(
    target: &Processes,
    fault: &SyscallFault,
    running_time: Duration,
) -> Result<Tampering, Failure> {
    let meant = target.clone();
    let find = move || threads(&meant);
    let tracing = trace::start(fault, running_time, Box::new(find))?;
    let mut tampering = Tampering {
        target: target.clone(),
        tracing,
        over: None,
        told: CallCounts::default(),
        tell_ms: clock::now_ms() + TELL_EVERY_MS,
    };
    if let Err(failure) = tampering.verify() {
        let cleared = tampering.release();
        let rest = [cleared.errors, cleared.left].concat();
        if rest.is_empty() {
            return Err(failure);
        }
        let message = format!("{}; and undoing it failed: {}", failure.message, rest.join("; "));
        return Err(Failure { kind: FailureKind::NotClean, message, hint: failure.hint });
    }
    Ok(tampering)
}

/// All threads of the target.
fn threads(target: &Processes) -> Result<Vec<Pid>, Failure> {
    Ok(processes::find(target)?.iter().flat_map(Process::threads).collect())
}

impl Tampering {
    /// Reads back from the kernel that every thread of the target is traced.
    fn verify(&self) -> Result<(), Failure> {
        for thread in threads(&self.target)? {
            let Some(false) = trace::traces(thread) else { continue };
            let message = format!("thread {thread} is not traced, although it was seized");
            return Err(failure(FailureKind::Kernel, message, None));
        }
        Ok(())
    }

    /// Takes note of the tracer's end, when it has come.
    fn note_end(&mut self) {
        let mut bell = [PollFd::new(self.tracing.as_fd(), PollFlags::POLLIN)];
        let rung = poll(&mut bell, PollTimeout::ZERO).is_ok_and(|count| count > 0);
        if rung && self.over.is_none() {
            self.over = Some(self.tracing.finish());
        }
    }
}

impl Hold for Tampering {
    /// By their tracer, as the kernel has it: children count too.
    fn counts(&self) -> Counts {
        let traced = |process: &Process| {
            process.threads().into_iter().filter(|one| trace::traces(*one) == Some(true)).count()
        };
        let of_each: Vec<_> = processes::in_container(self.target.id.as_str())
            .iter()
            .map(traced)
            .filter(|count| *count > 0)
            .collect();
        Counts { processes: of_each.len(), threads: of_each.iter().sum() }
    }

    fn calls(&self) -> Option<CallCounts> {
        Some(self.tracing.counters().calls())
    }

    fn tend(&mut self) -> bool {
        self.note_end();
        if clock::now_ms() >= self.tell_ms {
            self.tell_ms = clock::now_ms() + TELL_EVERY_MS;
            let counts = self.tracing.counters().calls();
            if counts != self.told {
                say(&Event::Calls { counts: counts.clone() });
                self.told = counts;
            }
        }
        !matches!(self.over, Some((End::Gone, _)))
    }

    fn bell(&self) -> Option<BorrowedFd<'_>> {
        self.over.is_none().then(|| self.tracing.as_fd())
    }

    fn due_ms(&self) -> Option<u64> {
        Some(self.tell_ms)
    }

    fn release(&mut self) -> Cleared {
        let (_, left) = self.over.take().unwrap_or_else(|| self.tracing.finish());
        Cleared { left, errors: Vec::new() }
    }
}
