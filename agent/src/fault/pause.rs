//! No thread of the target's processes runs.
//!
//! Each is seized and interrupted (ptrace(2)). What is seized stays stopped until it is let go, or until this
//! process ends, however it ends: the kernel then lets go of all of them. So the fault cannot outlive its agent.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, BorrowedFd},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
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
    trace,
};

/// How long a thread may take to stop. One that waits for a disk or a file server does so only when that answers.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_micros(100);
/// How often to look for threads that were made meanwhile. Each time fewer are left that could make any.
const PASSES: usize = 100;

/// Threads that are stopped.
#[derive(Debug)]
pub struct Paused {
    /// Each with its process.
    threads: BTreeMap<Pid, Process>,
    /// Tells when one of them has ended.
    ends: SignalFd,
}

/// Stops all threads of the target, and sees that they are; undoes it when one cannot be.
pub fn apply(target: &Processes) -> Result<Paused, Failure> {
    // Before anything happens that it tells of.
    let mut paused = Paused { threads: BTreeMap::new(), ends: ends()? };
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

/// Listens for the ends of threads that are traced.
fn ends() -> Result<SignalFd, Failure> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()
        .and_then(|()| SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK))
        .map_err(|errno| {
            failure(
                FailureKind::Kernel,
                format!("failed to listen for SIGCHLD: {}", errno.desc()),
                None,
            )
        })
}

impl Paused {
    /// Stops threads until a pass finds none that runs.
    fn stop(&mut self, target: &Processes) -> Result<(), Failure> {
        for _ in 0..PASSES {
            let mut seized = Vec::new();
            for process in processes::find(target)? {
                for thread in process.threads() {
                    if !self.threads.contains_key(&thread) && seize(&process, thread)? {
                        self.threads.insert(thread, process.clone());
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
                self.threads.remove(&thread);
                Ok(true)
            }
            Ok(_) => Ok(true),
            Err(errno) => Err(doing("wait for", errno)),
        }
    }

    /// Reads each thread's state back from the kernel.
    fn verify(&self) -> Result<(), Failure> {
        let own = getpid().as_raw();
        for (&thread, process) in &self.threads {
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
        if self.threads.is_empty() {
            let message = "all processes of the target have ended";
            return Err(failure(FailureKind::NotFound, message, None));
        }
        Ok(())
    }

    fn describe(&self, thread: Pid) -> String {
        let Some(process) = self.threads.get(&thread) else { return format!("thread {thread}") };
        format!("thread {thread} of process {} ({})", process.pid, process.name)
    }
}

impl Hold for Paused {
    fn counts(&self) -> Counts {
        let mut processes: Vec<_> = self.threads.values().map(|process| process.pid).collect();
        processes.sort_unstable();
        processes.dedup();
        Counts { processes: processes.len(), threads: self.threads.len() }
    }

    /// Takes note of threads that were killed. Their parents are told of their end only when we have asked.
    fn tend(&mut self) -> bool {
        while matches!(self.ends.read_signal(), Ok(Some(_))) {}
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..)) => {
                    self.threads.remove(&thread);
                }
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => {
                    self.threads.clear();
                    break;
                }
            }
        }
        !self.threads.is_empty()
    }

    fn bell(&self) -> Option<BorrowedFd<'_>> {
        Some(self.ends.as_fd())
    }

    fn release(&mut self) -> Cleared {
        let mut cleared = Cleared::default();
        for (&thread, process) in &self.threads {
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
        for (thread, process) in std::mem::take(&mut self.threads) {
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
    let what = format!("thread {thread} of process {} ({})", process.pid, process.name);
    let tracer = state.map_or(0, |state| state.tracer);
    Err(trace::not_seized(&what, tracer, errno))
}
