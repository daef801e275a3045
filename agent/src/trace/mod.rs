//! System calls of running programs that fail, are late, or are followed by a signal, by ptrace(2).
//!
//! A thread of its own does it ([`tracer`]), for which see there. It has its own deadline; when it ends, in
//! whatever way, the kernel lets go of all that it traced.

pub mod filter;
mod tracer;

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{SigSet, kill},
    unistd::{Pid, getpid},
};
use pod_chaos_protocol::{CallCount, CallCounts, Failure, FailureKind, SyscallFault};

use self::{
    filter::Filter,
    tracer::{Find, Tracer},
};
use crate::{error::failure, processes::ThreadState, sys::alarm};

/// How long the kernel may take to let go of threads.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(1);

/// What has been counted so far.
#[derive(Debug)]
pub struct Counters {
    /// Of each call that was chosen.
    calls: Vec<Counter>,
    names: Vec<&'static str>,
    /// Calls by another architecture's numbers, which are left alone.
    foreign: AtomicU64,
    /// Calls of which it could not be told which file they are about, which are left alone.
    unresolved: AtomicU64,
    /// Threads that are traced now.
    threads: AtomicU64,
}

/// What has been counted of one call.
#[derive(Debug, Default)]
struct Counter {
    seen: AtomicU64,
    hit: AtomicU64,
    ended: AtomicU64,
    /// How long those that have ended took together, in nanoseconds.
    took_ns: AtomicU64,
}

impl Counters {
    fn new(filter: &Filter) -> Self {
        let names: Vec<_> = filter.chosen().iter().map(|one| one.name).collect();
        let calls = names.iter().map(|_| Counter::default()).collect();
        let [foreign, unresolved, threads] = [const { AtomicU64::new(0) }; 3];
        Self { calls, names, foreign, unresolved, threads }
    }

    /// As the plugin is told.
    pub fn calls(&self) -> CallCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = self.names.iter().zip(&self.calls);
        let calls = counts
            .map(|(name, counter)| CallCount {
                call: (*name).to_owned(),
                seen: read(&counter.seen),
                hit: read(&counter.hit),
                ended: read(&counter.ended),
                took_us: read(&counter.took_ns) / 1_000,
            })
            .filter(|count| count.seen > 0)
            .collect();
        CallCounts { calls, foreign: read(&self.foreign), unresolved: read(&self.unresolved) }
    }

    /// Threads that are traced now.
    pub fn threads(&self) -> u64 {
        self.threads.load(Ordering::Relaxed)
    }
}

/// Why tracing has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its time was over.
    Deadline,
    /// It was told to.
    Stopped,
    /// Nothing is left to be traced.
    Gone,
}

/// Threads that are traced.
#[derive(Debug)]
pub struct Tracing {
    counters: Arc<Counters>,
    stop: Arc<AtomicBool>,
    /// Ends when the tracer does.
    ended: io::PipeReader,
    /// None once it was asked.
    thread: Option<JoinHandle<(End, Vec<Pid>)>>,
}

/// Traces the threads that `find` finds, for this long from when all of them are, and all that they make.
pub fn start(
    fault: &SyscallFault,
    running_time: Duration,
    mut find: Box<Find>,
) -> Result<Tracing, Failure> {
    fault
        .check()
        .map_err(|error| failure(FailureKind::BadRequest, error.to_string(), Some(error.hint())))?;
    let (filter, lacking) = Filter::new(fault);
    if let Some(call) = lacking.first() {
        let message = format!("there is no system call {call} on {}", std::env::consts::ARCH);
        return Err(failure(FailureKind::BadRequest, message, None));
    }
    let starting = |error: &dyn std::fmt::Display| {
        failure(FailureKind::Kernel, format!("failed to start a tracer: {error}"), None)
    };
    // Only the tracer is to be interrupted; threads inherit what is blocked.
    SigSet::from(alarm::SIGNAL).thread_block().map_err(|errno| starting(&errno))?;
    let (ended, ending) = io::pipe().map_err(|error| starting(&error))?;
    let (answer, begun) = mpsc::sync_channel(1);
    let counters = Arc::new(Counters::new(&filter));
    let stop = Arc::new(AtomicBool::new(false));
    let (shared, told, fault) = (counters.clone(), stop.clone(), fault.clone());
    let run = move || {
        let _ending = ending;
        let mut tracer = match Tracer::new(&fault, filter, shared, told) {
            Ok(tracer) => tracer,
            Err(errno) => {
                let message = format!("failed to set up a tracer: {}", errno.desc());
                let _ = answer.send(Err(failure(FailureKind::Kernel, message, None)));
                return (End::Gone, Vec::new());
            }
        };
        let begun = tracer.begin(&mut find, running_time);
        let failed = begun.is_err();
        let _ = answer.send(begun);
        let end = if failed { End::Gone } else { tracer.run() };
        (end, tracer.end())
    };
    let thread = thread::Builder::new()
        .name("tracer".to_owned())
        .spawn(run)
        .map_err(|error| starting(&error))?;
    let mut tracing = Tracing { counters, stop, ended, thread: Some(thread) };
    let mut refusal = match begun.recv() {
        Ok(Ok(())) => return Ok(tracing),
        Ok(Err(refusal)) => refusal,
        Err(_) => failure(FailureKind::Kernel, "the tracer has died", None),
    };
    let left = tracing.finish().1;
    if !left.is_empty() {
        refusal.kind = FailureKind::NotClean;
        refusal.message = format!("{}; still traced: {}", refusal.message, left.join(", "));
    }
    Err(refusal)
}

impl Tracing {
    /// What has been counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Ends it now, unless it has ended, and says why it did and which threads are traced all the same.
    /// Asked again, nothing is left.
    pub fn finish(&mut self) -> (End, Vec<String>) {
        let Some(tracer) = self.thread.take() else { return (End::Stopped, Vec::new()) };
        self.stop.store(true, Ordering::SeqCst);
        while !tracer.is_finished() {
            // Repeated: one that comes just before the tracer waits is lost.
            let _ = kill(getpid(), alarm::SIGNAL);
            thread::sleep(STEP);
        }
        let (end, threads) = tracer.join().unwrap_or((End::Gone, Vec::new()));
        // The kernel lets go of them when the thread is gone, shortly after it is said to be.
        let begun = Instant::now();
        let is_left = |thread: &Pid| traces(*thread) == Some(true);
        while threads.iter().any(is_left) && begun.elapsed() < PATIENCE {
            thread::sleep(STEP);
        }
        let left = threads.iter().filter(|thread| is_left(thread));
        let left = left.map(|thread| format!("thread {thread}"));
        (end, left.collect())
    }
}

/// Can be read once the tracing has ended, by itself or otherwise.
impl AsFd for Tracing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }
}

/// Who traces a thread, 0 for nobody; `None` when it has ended.
fn tracer_of(thread: Pid) -> Option<i32> {
    // Those that have ended are only waiting to be noticed.
    let state = ThreadState::read(thread, thread).filter(|state| !state.is_dead())?;
    Some(state.tracer)
}

/// Whether a thread of this process traces that one; `None` when it has ended.
pub fn traces(thread: Pid) -> Option<bool> {
    let tracer = tracer_of(thread)?;
    Some(tracer > 0 && fs::exists(format!("/proc/self/task/{tracer}")).unwrap_or(false))
}

/// Why `what`, a thread, cannot be traced, if `tracer` (0 is nobody) traces it.
pub fn not_seized(what: &str, tracer: i32, errno: Errno) -> Failure {
    if tracer > 0 {
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
