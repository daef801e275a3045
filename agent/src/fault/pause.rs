//! No thread of the target's processes runs.
//!
//! Each is seized and interrupted (ptrace(2)). What is seized stays stopped until it is let go, or until this
//! process ends, however it ends: the kernel then lets go of all of them. So the fault cannot outlive its agent.

use std::{
    collections::BTreeMap,
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid},
};
use pod_chaos_protocol::{Failure, FailureKind, Processes};

use super::Cleared;
use crate::{
    carry::{Counts, Hold},
    error::failure,
    processes::{self, Process, ThreadState},
};

/// How long a thread may take to stop. One that waits for a disk or a file server does so only when that answers.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_micros(100);
/// How often to look for threads that were made meanwhile. Each time fewer are left that could make any.
const PASSES: usize = 100;

/// Threads that are stopped, each with its process.
#[derive(Debug, Default)]
pub struct Paused(BTreeMap<Pid, Process>);

/// Stops all threads of the target, and sees that they are; undoes it when one cannot be.
pub fn apply(target: &Processes) -> Result<Paused, Failure> {
    let mut paused = Paused::default();
    match paused.stop(target).and_then(|()| paused.verify()) {
        Ok(()) => Ok(paused),
        Err(failure) => {
            let cleared = paused.release();
            let rest = [cleared.errors, cleared.left].concat();
            if rest.is_empty() {
                return Err(failure);
            }
            let message =
                format!("{}; and undoing it failed: {}", failure.message, rest.join("; "));
            Err(Failure { kind: FailureKind::NotClean, message, hint: failure.hint })
        }
    }
}

impl Paused {
    /// Stops threads until a pass finds none that runs.
    fn stop(&mut self, target: &Processes) -> Result<(), Failure> {
        for _ in 0..PASSES {
            let mut seized = Vec::new();
            for process in processes::find(target)? {
                for thread in process.threads() {
                    if !self.0.contains_key(&thread) && seize(&process, thread)? {
                        self.0.insert(thread, process.clone());
                        seized.push(thread);
                    }
                }
            }
            if seized.is_empty() {
                return Ok(());
            }
            self.await_stops(&seized)?;
        }
        let message =
            format!("container {} makes new threads faster than they stop", target.container);
        Err(failure(FailureKind::Kernel, message, None))
    }

    fn await_stops(&mut self, seized: &[Pid]) -> Result<(), Failure> {
        let start = Instant::now();
        for &thread in seized {
            while !self.has_stopped(thread)? {
                if start.elapsed() > PATIENCE {
                    let message = format!(
                        "{} does not stop: it has been waiting in the kernel for {PATIENCE:?}",
                        self.describe(thread)
                    );
                    return Err(failure(FailureKind::Kernel, message, None));
                }
                sleep(STEP);
            }
        }
        Ok(())
    }

    /// Whether a thread that was interrupted has stopped, or ended.
    fn has_stopped(&mut self, thread: Pid) -> Result<bool, Failure> {
        let doing = |doing: &str, errno: Errno| {
            failure(
                FailureKind::Kernel,
                format!("failed to {doing} thread {thread}: {}", errno.desc()),
                None,
            )
        };
        match waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => Ok(false),
            // On its way to a signal's handler: it gets there, and stops next.
            Ok(WaitStatus::Stopped(_, signal)) => match ptrace::cont(thread, signal) {
                Ok(()) | Err(Errno::ESRCH) => Ok(false),
                Err(errno) => Err(doing("let a signal through to", errno)),
            },
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD) => {
                self.0.remove(&thread);
                Ok(true)
            }
            Ok(_) => Ok(true),
            Err(errno) => Err(doing("wait for", errno)),
        }
    }

    /// Reads each thread's state back from the kernel.
    fn verify(&self) -> Result<(), Failure> {
        let own = getpid().as_raw();
        for (&thread, process) in &self.0 {
            let Some(found) = ThreadState::read(process.pid, thread) else { continue };
            if !found.is_dead() && (found.state, found.tracer) != ('t', own) {
                let message = format!(
                    "{} is in state {} of tracer {}, and not stopped by the agent, {own}",
                    self.describe(thread),
                    found.state,
                    found.tracer
                );
                return Err(failure(FailureKind::Kernel, message, None));
            }
        }
        if self.0.is_empty() {
            let message = "all processes of the target have ended";
            return Err(failure(FailureKind::NotFound, message, None));
        }
        Ok(())
    }

    fn describe(&self, thread: Pid) -> String {
        let Some(process) = self.0.get(&thread) else { return format!("thread {thread}") };
        format!("thread {thread} of process {} ({})", process.pid, process.name)
    }
}

impl Hold for Paused {
    fn counts(&self) -> Counts {
        let mut processes: Vec<_> = self.0.values().map(|process| process.pid).collect();
        processes.sort_unstable();
        processes.dedup();
        Counts { processes: processes.len(), threads: self.0.len() }
    }

    /// Takes note of threads that were killed. Their parents are told of their end only when we have asked.
    fn tend(&mut self) -> bool {
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..)) => {
                    self.0.remove(&thread);
                }
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => {
                    self.0.clear();
                    break;
                }
            }
        }
        !self.0.is_empty()
    }

    fn release(&mut self) -> Cleared {
        let mut cleared = Cleared::default();
        for (&thread, process) in &self.0 {
            match ptrace::detach(thread, None) {
                Ok(()) => {}
                // It was killed, and nobody is told before we ask.
                Err(Errno::ESRCH) => {
                    let _ = waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG));
                }
                Err(errno) => cleared.errors.push(format!(
                    "failed to let go of thread {thread} of process {} ({}): {}",
                    process.pid,
                    process.name,
                    errno.desc()
                )),
            }
        }
        let own = getpid().as_raw();
        for (thread, process) in std::mem::take(&mut self.0) {
            if ThreadState::read(process.pid, thread)
                .is_some_and(|found| found.tracer == own && !found.is_dead())
            {
                cleared
                    .left
                    .push(format!("thread {thread} of process {} ({})", process.pid, process.name));
            }
        }
        cleared
    }
}

/// Seizes a thread and has it stop; `false` when it has ended.
fn seize(process: &Process, thread: Pid) -> Result<bool, Failure> {
    let seized =
        ptrace::seize(thread, ptrace::Options::empty()).and_then(|()| ptrace::interrupt(thread));
    let Err(errno) = seized else { return Ok(true) };
    let state = ThreadState::read(process.pid, thread);
    if errno == Errno::ESRCH || state.is_none_or(ThreadState::is_dead) {
        return Ok(false);
    }
    Err(refused(process, thread, state, errno))
}

/// Why a thread cannot be traced.
fn refused(process: &Process, thread: Pid, state: Option<ThreadState>, errno: Errno) -> Failure {
    let what = format!("thread {thread} of process {} ({})", process.pid, process.name);
    if let Some(ThreadState { tracer: tracer @ 1.., .. }) = state {
        let message = format!("{what} is traced by process {tracer} already");
        let hint = "a debugger, strace, or another fault that traces: only one can at a time";
        return failure(FailureKind::Conflict, message, Some(hint));
    }
    let hint = "the agent's container needs the capability SYS_PTRACE, and the node must not forbid tracing \
                (kernel.yama.ptrace_scope below 3)";
    let message = format!("failed to seize {what}: {}", errno.desc());
    let kind = if errno == Errno::EPERM { FailureKind::NotPermitted } else { FailureKind::Kernel };
    failure(kind, message, Some(hint))
}
