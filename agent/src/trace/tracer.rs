//! The thread that traces: every system call of every thread of the target stops twice, and is let go at once
//! unless it is hit.
//!
//! It waits for nothing but its tracees. What is to be done at a time, the end included, an alarm reminds it of,
//! which comes again each millisecond until it was heard: one that comes just before the thread waits is not
//! lost.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    sched::{CpuSet, sched_setaffinity},
    sys::{
        signal::{SigEvent, SigSet, SigevNotify},
        time::TimeSpec,
        timer::{Expiration, Timer, TimerSetTimeFlags},
    },
    time::ClockId,
    unistd::Pid,
};
use pod_chaos_protocol::{Failure, FailureKind, Latency, SyscallFault};

use super::{
    Counters, End,
    filter::{Filter, Memory, Verdict},
};
use crate::{
    clock,
    error::failure,
    sys::{
        alarm,
        ptrace::{self, ARCHITECTURE, At, Change},
    },
};

/// How long threads may take to stop for the first time. One that waits for a disk or a file server stops only
/// when that answers; on a busy node one that waits for a processor takes its time too.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long those that have been told to fail may take to do so.
const PATIENCE_AT_END: Duration = Duration::from_secs(2);
/// How often an alarm is repeated.
const AGAIN: Duration = Duration::from_millis(1);
/// So many stops go by between two looks at which processor the threads run on.
const LOOK_EVERY: u32 = 512;
/// A call of the x32 interface (`__X32_SYSCALL_BIT`, asm/unistd.h), whose numbers differ.
const X32: u64 = 0x4000_0000;

/// Finds the threads of the target, those that are there now.
pub type Find = dyn FnMut() -> Result<Vec<Pid>, Failure> + Send;

/// A thread that is traced.
#[derive(Debug)]
struct Tracee {
    memory: Memory,
    phase: Phase,
    /// The call that it is in, if that is to be counted, and since when, in nanoseconds of the [`clock`].
    call: Option<(usize, u64)>,
    /// It is kept where it stands until then, in nanoseconds of the [`clock`].
    held: Option<u64>,
}

/// Where a thread is, as far as that is known from its stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Somewhere: it has been seized, and has not stopped yet.
    Unknown,
    /// Between calls.
    Outside,
    /// Within a call; its next stop at one is the end of this one.
    Inside(Fate),
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Untouched,
    Hit,
    /// Hit, and it has been taken from the thread: its end is to say that it failed.
    Failing,
}

/// So long after now, in nanoseconds of the [`clock`].
fn from_now(time: Duration) -> u64 {
    clock::now_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

impl Tracee {
    const fn is_failing(&self) -> bool {
        matches!(self.phase, Phase::Inside(Fate::Failing))
    }
}

/// What traces.
pub struct Tracer {
    fault: SyscallFault,
    filter: Filter,
    counters: Arc<Counters>,
    threads: HashMap<Pid, Tracee>,
    /// Threads that have been seized and have not stopped yet.
    strangers: usize,
    /// Calls are hit.
    in_force: bool,
    /// When a thread is to be let go.
    due: BinaryHeap<Reverse<(u64, Pid)>>,
    alarm: Timer,
    /// For when that is set.
    alarm_at: u64,
    /// When all ends.
    deadline: u64,
    /// Stops up to the next look at where the threads run.
    until_look: u32,
    stop: Arc<AtomicBool>,
}

impl Tracer {
    /// For the thread that calls it, which is the one that has to do all the rest.
    pub fn new(
        fault: &SyscallFault,
        filter: Filter,
        counters: Arc<Counters>,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Errno> {
        alarm::install()?;
        let notify = SigevNotify::SigevSignal { signal: alarm::SIGNAL, si_value: 0 };
        let alarm = Timer::new(ClockId::CLOCK_MONOTONIC, SigEvent::new(notify))?;
        SigSet::from(alarm::SIGNAL).thread_unblock()?;
        Ok(Self {
            fault: fault.clone(),
            filter,
            counters,
            threads: HashMap::new(),
            strangers: 0,
            in_force: false,
            due: BinaryHeap::new(),
            alarm,
            alarm_at: u64::MAX,
            deadline: u64::MAX,
            until_look: LOOK_EVERY,
            stop,
        })
    }

    /// Seizes threads until a pass finds none that is new. From then on calls are hit, for this long.
    pub fn begin(&mut self, find: &mut Find, running_time: Duration) -> Result<(), Failure> {
        loop {
            let mut new = 0;
            for thread in find()? {
                if !self.threads.contains_key(&thread) && seize(thread)? {
                    self.threads.insert(thread, self.tracee(Phase::Unknown));
                    self.strangers += 1;
                    new += 1;
                }
            }
            if new == 0 {
                break;
            }
            self.meet()?;
        }
        if self.threads.is_empty() {
            return Err(failure(FailureKind::NotFound, "the target has no thread to trace", None));
        }
        self.deadline = from_now(running_time);
        self.set_alarm(self.deadline);
        self.in_force = true;
        self.note_count();
        Ok(())
    }

    /// Waits until all that were seized have stopped and go on.
    fn meet(&mut self) -> Result<(), Failure> {
        let patience = from_now(PATIENCE);
        self.set_alarm(patience);
        while self.strangers > 0 {
            match ptrace::wait() {
                Ok((thread, change)) => self.changed(thread, change),
                Err(Errno::ECHILD) => break,
                Err(_) => {}
            }
            if alarm::rung() && clock::now_ns() >= patience {
                let unknown = |tracee: &Tracee| tracee.phase == Phase::Unknown;
                let late = self.threads.iter().find(|(_, tracee)| unknown(tracee));
                let Some((thread, _)) = late else { break };
                let message = format!(
                    "thread {thread} does not stop: it has been waiting in the kernel for {PATIENCE:?}"
                );
                return Err(failure(FailureKind::Kernel, message, None));
            }
        }
        Ok(())
    }

    /// Traces until the deadline, until it is told to stop, or until nothing is left to trace.
    pub fn run(&mut self) -> End {
        loop {
            if alarm::rung() {
                let now = clock::now_ns();
                if self.stop.load(Ordering::SeqCst) {
                    return End::Stopped;
                }
                if now >= self.deadline {
                    return End::Deadline;
                }
                self.release_due(now);
            }
            match ptrace::wait() {
                Ok((thread, change)) => self.changed(thread, change),
                Err(Errno::ECHILD) => return End::Gone,
                Err(_) => {}
            }
        }
    }

    /// Lets go of all threads that stand, and sees to it that no call that was taken from a thread comes back
    /// to it as if this kernel had none such. The others go on undisturbed: the kernel lets go of them when this
    /// thread ends, without a stop that would interrupt what they wait for.
    pub fn end(&mut self) -> Vec<Pid> {
        self.in_force = false;
        let known: Vec<Pid> = self.threads.keys().copied().collect();
        for (thread, tracee) in &mut self.threads {
            if tracee.held.take().is_some() {
                let _ = ptrace::detach(*thread, 0);
            }
        }
        let patience = from_now(PATIENCE_AT_END);
        self.set_alarm(patience);
        while self.threads.values().any(Tracee::is_failing) {
            match ptrace::wait() {
                Ok((thread, change)) => self.let_go(thread, change),
                Err(Errno::ECHILD) => break,
                Err(_) => {}
            }
            if alarm::rung() && clock::now_ns() >= patience {
                break;
            }
        }
        known
    }

    fn let_go(&mut self, thread: Pid, change: Change) {
        let tracee = self.threads.remove(&thread);
        let signal = match change {
            Change::Ended => return,
            Change::Signal(signal) => signal,
            Change::Syscall => {
                if let (true, Some(error)) =
                    (tracee.is_some_and(|tracee| tracee.is_failing()), self.fault.error)
                {
                    let _ = ptrace::fail(thread, error.number());
                }
                0
            }
            // It is still on its way to the end of the same call.
            Change::Exec(_) | Change::Other | Change::GroupStop => 0,
        };
        let _ = ptrace::detach(thread, signal);
    }

    /// Goes to the processor that this thread runs on: to wake another processor up for each stop takes longer than
    /// all the rest. It may not be allowed to, and stays then.
    fn follow(thread: Pid) {
        let processor = fs::read_to_string(format!("/proc/{thread}/stat")).ok();
        let processor = processor.and_then(|stat| last_processor(&stat));
        let mut only = CpuSet::new();
        if processor.is_some_and(|processor| only.set(processor).is_ok()) {
            let _ = sched_setaffinity(Pid::from_raw(0), &only);
        }
    }

    fn tracee(&self, phase: Phase) -> Tracee {
        Tracee { memory: self.filter.memory(), phase, call: None, held: None }
    }

    /// Takes note of a change, and lets the thread go on unless it is to wait. A thread that is killed in the
    /// meantime refuses all, and its end is the next change.
    fn changed(&mut self, thread: Pid, change: Change) {
        self.until_look -= 1;
        if self.until_look == 0 {
            self.until_look = LOOK_EVERY;
            Self::follow(thread);
        }
        if change == Change::Ended {
            let gone = self.threads.remove(&thread);
            self.note_met(gone.as_ref());
            self.note_count();
            return;
        }
        if let Change::Exec(before) = change
            && before != thread
            && let Some(tracee) = self.threads.remove(&before)
        {
            // It has taken the id of its process's first thread, which is no more.
            let gone = self.threads.insert(thread, tracee);
            self.note_met(gone.as_ref());
        }
        if !self.threads.contains_key(&thread) {
            // Made by one that is traced.
            self.threads.insert(thread, self.tracee(Phase::Outside));
            self.note_count();
        }
        let Some(tracee) = self.threads.get_mut(&thread) else { return };
        let phase = tracee.phase;
        if phase == Phase::Unknown {
            tracee.phase = Phase::Outside;
            self.strangers -= 1;
        }
        match (change, phase) {
            (Change::Syscall, Phase::Inside(fate)) => self.after(thread, fate),
            (Change::Syscall, _) => self.before(thread),
            (Change::Signal(signal), _) => go_on(thread, signal),
            (Change::GroupStop, _) => drop(ptrace::listen(thread)),
            (Change::Exec(_) | Change::Other | Change::Ended, _) => go_on(thread, 0),
        }
    }

    /// A thread that was to stop for the first time has gone.
    fn note_met(&mut self, gone: Option<&Tracee>) {
        if gone.is_some_and(|tracee| tracee.phase == Phase::Unknown) {
            self.strangers -= 1;
        }
    }

    fn note_count(&self) {
        self.counters.threads.store(self.threads.len() as u64, Ordering::Relaxed);
    }

    /// A thread stands before a system call.
    fn before(&mut self, thread: Pid) {
        let Some(tracee) = self.threads.get_mut(&thread) else { return };
        let (architecture, number, arguments) = match ptrace::at(thread) {
            Ok(At::Entry { architecture, number, arguments }) => (architecture, number, arguments),
            // It was within a call when it was seized.
            Ok(At::Exit | At::Nowhere) | Err(_) => return go_on(thread, 0),
        };
        tracee.phase = Phase::Inside(Fate::Untouched);
        if !self.in_force {
            return go_on(thread, 0);
        }
        if architecture != ARCHITECTURE
            || (cfg!(target_arch = "x86_64") && number & X32 != 0 && number < u64::MAX >> 32)
        {
            self.counters.foreign.fetch_add(1, Ordering::Relaxed);
            return go_on(thread, 0);
        }
        let Some(index) = self.filter.find(number) else { return go_on(thread, 0) };
        let counter = &self.counters.calls[index];
        counter.seen.fetch_add(1, Ordering::Relaxed);
        tracee.call = Some((index, clock::now_ns()));
        match self.filter.judge(&mut tracee.memory, thread, index, &arguments) {
            Verdict::Hit => {}
            Verdict::Spared => return go_on(thread, 0),
            Verdict::Unresolved => {
                self.counters.unresolved.fetch_add(1, Ordering::Relaxed);
                return go_on(thread, 0);
            }
        }
        counter.hit.fetch_add(1, Ordering::Relaxed);
        tracee.phase = Phase::Inside(Fate::Hit);
        if self.fault.delay_enter > Latency::ZERO {
            self.hold(thread, self.fault.delay_enter);
        } else {
            self.hit(thread);
        }
    }

    /// Does to a call that is about to be made what is to be done to it.
    fn hit(&mut self, thread: Pid) {
        if let (Some(tracee), Some(error)) = (self.threads.get_mut(&thread), self.fault.error)
            && ptrace::skip(thread, error.number()).is_ok()
        {
            tracee.phase = Phase::Inside(Fate::Failing);
        }
        go_on(thread, self.fault.signal.map_or(0, |signal| i32::from(signal.number())));
    }

    /// A thread stands after a system call.
    fn after(&mut self, thread: Pid, fate: Fate) {
        let Some(tracee) = self.threads.get_mut(&thread) else { return };
        tracee.phase = Phase::Outside;
        let delay = match fate {
            Fate::Untouched => Latency::ZERO,
            Fate::Hit | Fate::Failing => self.fault.delay_exit,
        };
        if let Some((index, since)) = tracee.call.take() {
            let took = clock::now_ns().saturating_sub(since) + delay.as_nanos();
            let counter = &self.counters.calls[index];
            counter.ended.fetch_add(1, Ordering::Relaxed);
            counter.took_ns.fetch_add(took, Ordering::Relaxed);
        }
        if let (Fate::Failing, Some(error)) = (fate, self.fault.error) {
            // Again: a filter of the program's own may have had its say about the call that was none.
            let _ = ptrace::fail(thread, error.number());
        }
        if delay > Latency::ZERO {
            self.hold(thread, delay);
        } else {
            go_on(thread, 0);
        }
    }

    /// Keeps a thread where it stands.
    fn hold(&mut self, thread: Pid, delay: Latency) {
        let until = clock::now_ns().saturating_add(delay.as_nanos());
        if let Some(tracee) = self.threads.get_mut(&thread) {
            tracee.held = Some(until);
            self.due.push(Reverse((until, thread)));
            if until < self.alarm_at {
                self.set_alarm(until);
            }
        }
    }

    /// Has threads go on whose time has come.
    fn release_due(&mut self, now: u64) {
        while let Some(&Reverse((until, thread))) = self.due.peek()
            && until <= now
        {
            self.due.pop();
            // It may have been killed, and its id be another's.
            let Some(tracee) = self.threads.get_mut(&thread) else { continue };
            if tracee.held != Some(until) {
                continue;
            }
            tracee.held = None;
            match tracee.phase {
                Phase::Inside(_) => self.hit(thread),
                Phase::Unknown | Phase::Outside => go_on(thread, 0),
            }
        }
        let next = self.due.peek().map_or(self.deadline, |Reverse((until, _))| *until);
        self.set_alarm(next.min(self.deadline));
    }

    fn set_alarm(&mut self, at: u64) {
        self.alarm_at = at;
        // Zero would switch it off.
        let first = TimeSpec::from_duration(Duration::from_nanos(at.max(1)));
        let again = TimeSpec::from_duration(AGAIN);
        let times = Expiration::IntervalDelayed(first, again);
        // It fails for a timer that does not exist, or a time that is none.
        let _ = self.alarm.set(times, TimerSetTimeFlags::TFD_TIMER_ABSTIME);
    }
}

/// The 39th field of `/proc/PID/stat` (proc_pid_stat(5)); the second one is a name in brackets.
fn last_processor(stat: &str) -> Option<usize> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(36)?.parse().ok()
}

/// Lets a thread go on. One that has been killed refuses.
fn go_on(thread: Pid, signal: i32) {
    let _ = ptrace::resume(thread, signal);
}

/// Seizes a thread and has it stop; `false` when it has ended, or is traced by this thread already.
fn seize(thread: Pid) -> Result<bool, Failure> {
    let Err(errno) = ptrace::seize(thread).and_then(|()| ptrace::interrupt(thread)) else {
        return Ok(true);
    };
    match super::tracer_of(thread) {
        None => Ok(false),
        Some(tracer) if tracer == nix::unistd::gettid().as_raw() => Ok(false),
        Some(0) if errno == Errno::ESRCH => Ok(false),
        Some(tracer) => Err(super::not_seized(&format!("thread {thread}"), tracer, errno)),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_where_a_thread_ran() {
        let own = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        assert!(super::last_processor(&own).unwrap() < 4096);
        let numbers: Vec<_> = (4..53).map(|number: u32| number.to_string()).collect();
        let stat = format!("7 (a) b) S {}", numbers.join(" "));
        assert_eq!(super::last_processor(&stat), Some(39));
    }
}
