//! A signal for processes of the target, once: there is nothing to revert.
//!
//! The first process of a process namespace gets no signal from inside it that it does not handle, not even
//! SIGKILL (pid_namespaces(7)). To SIGKILL it, a thread of the agent seizes it with `PTRACE_O_EXITKILL` and ends:
//! the kernel then kills what that thread traces, whoever it is (`exit_ptrace()` in kernel/ptrace.c). All
//! processes of the namespace go with it, the agent too, so it says what it does before it does it.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace,
        signal::{Signal, kill},
    },
    unistd::Pid,
};
use pod_chaos_protocol::{
    Disposition, Event, Failure, FailureKind, ProcessSignal, Processes, SignalName, SignalPlan,
};

use crate::{
    error::failure,
    processes::{self, Process, ThreadState},
    serve::say,
    trace,
};

/// How long a process may take to be gone after SIGKILL.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(1);
/// How often a signal is found blocked before it is so for good.
const LOOKS: u32 = 5;
/// The first process of its namespace, by the number that it has there.
const FIRST: Pid = Pid::from_raw(1);

/// Sends it, and sees that who was killed is gone.
pub(crate) fn send(plan: &SignalPlan) -> Result<(), Failure> {
    let meant = meant(&plan.target)?;
    let signals: Vec<_> = meant
        .iter()
        .map(|process| Ok((process, choose(process, plan.signal)?)))
        .collect::<Result<_, Failure>>()?;
    say(&Event::Signals {
        signals: signals.iter().map(|(process, chosen)| chosen.told(process)).collect(),
    });
    // The first of a namespace comes last: it may take all others with it.
    let mut errors = Vec::new();
    for (process, chosen) in signals.iter().rev() {
        errors.extend(deliver(process, chosen.signal).err());
    }
    let Some(first) = errors.first().cloned() else { return Ok(()) };
    let messages: Vec<_> = errors.into_iter().map(|failure| failure.message).collect();
    Err(Failure { message: messages.join("; "), ..first })
}

/// Who gets it, by their ids.
fn meant(target: &Processes) -> Result<Vec<Process>, Failure> {
    let mut found = processes::find(target)?;
    if target.matching.is_none() {
        found.sort_by_key(|process| (process.started(), process.pid));
        found.truncate(1);
    }
    Ok(found)
}

/// A signal, and what a process makes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chosen {
    signal: SignalName,
    disposition: Disposition,
}

impl Chosen {
    fn told(self, process: &Process) -> ProcessSignal {
        let info = process.info();
        let Self { signal, disposition } = self;
        ProcessSignal { pid: info.pid, name: info.name, signal, disposition }
    }
}

/// The signal for a process; a failure where the kernel would keep it from that process.
fn choose(process: &Process, wanted: Option<SignalName>) -> Result<Chosen, Failure> {
    let of = |signal| Chosen { signal, disposition: disposition(|| process.status(), signal) };
    let chosen = wanted.map_or_else(
        || {
            let term = of(SignalName::TERM);
            if term.disposition == Disposition::Handled { term } else { of(SignalName::KILL) }
        },
        of,
    );
    let Process { pid, name } = process;
    if *pid != FIRST {
        return Ok(chosen);
    }
    if chosen.signal == SignalName::KILL {
        // It takes a tracer.
        return match ThreadState::read(*pid, *pid) {
            Some(ThreadState { tracer: tracer @ 1.., .. }) => {
                Err(trace::not_seized(&format!("process 1 ({name})"), tracer, Errno::EPERM))
            }
            _ => Ok(chosen),
        };
    }
    if chosen.disposition != Disposition::Handled {
        let signal = chosen.signal;
        let message = format!(
            "process 1 ({name}) does not handle {signal}, and what the first process of a container does not \
             handle the kernel keeps from it"
        );
        let hint = "SIGKILL ends it all the same; --process chooses others";
        return Err(failure(FailureKind::Unsupported, message, Some(hint)));
    }
    Ok(chosen)
}

/// By the sets of signals in `/proc/PID/status` (proc_pid_status(5)).
fn disposition(status: impl Fn() -> String, signal: SignalName) -> Disposition {
    let has = |name| {
        let status = status();
        let set = processes::field(&status, name).and_then(|set| u64::from_str_radix(set, 16).ok());
        set.is_some_and(|set| set & (1 << (signal.number() - 1)) != 0)
    };
    // Who waits for it (sigwait(3), signalfd(2)) blocks it for good; who starts a thread blocks all for a moment.
    let is_blocked = || {
        (0..LOOKS).all(|look| {
            thread::sleep(STEP * look.min(1));
            has("SigBlk")
        })
    };
    if has("SigCgt") || is_blocked() {
        Disposition::Handled
    } else if has("SigIgn") {
        Disposition::Ignored
    } else {
        Disposition::Default
    }
}

fn deliver(process: &Process, signal: SignalName) -> Result<(), Failure> {
    let Process { pid, name } = process;
    let doing = |errno: Errno| {
        let kind =
            if errno == Errno::EPERM { FailureKind::NotPermitted } else { FailureKind::Kernel };
        failure(
            kind,
            format!("failed to send {signal} to process {pid} ({name}): {}", errno.desc()),
            None,
        )
    };
    let sent = if *pid == FIRST && signal == SignalName::KILL {
        kill_by_exit(*pid)
    } else {
        Signal::try_from(i32::from(signal.number())).and_then(|signal| kill(*pid, signal))
    };
    match sent {
        // It has ended already.
        Err(Errno::ESRCH) => return Ok(()),
        Err(errno) => return Err(doing(errno)),
        Ok(()) if signal != SignalName::KILL => return Ok(()),
        Ok(()) => {}
    }
    let start = Instant::now();
    while ThreadState::read(*pid, *pid).is_some_and(|state| !state.is_dead()) {
        if start.elapsed() > PATIENCE {
            let message = format!("process {pid} ({name}) still lives {PATIENCE:?} after {signal}");
            return Err(failure(FailureKind::Kernel, message, None));
        }
        thread::sleep(STEP);
    }
    Ok(())
}

/// Has the kernel kill it for the end of who traces it.
fn kill_by_exit(pid: Pid) -> Result<(), Errno> {
    let tracer = thread::spawn(move || ptrace::seize(pid, ptrace::Options::PTRACE_O_EXITKILL));
    tracer.join().unwrap_or(Err(Errno::ECANCELED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_makes_of_a_signal_is_read_from_its_status() {
        // 1 handled, 2 ignored, 15 blocked.
        let status =
            "SigBlk:\t0000000000004000\nSigIgn:\t0000000000000002\nSigCgt:\t0000000000000001\n";
        let of = |name: &str| disposition(|| status.to_owned(), name.parse().unwrap());
        assert_eq!(of("HUP"), Disposition::Handled);
        assert_eq!(of("INT"), Disposition::Ignored);
        assert_eq!(of("TERM"), Disposition::Handled);
        assert_eq!(of("KILL"), Disposition::Default);
    }

    #[test]
    fn what_is_blocked_for_a_moment_is_not_handled() {
        let mut looks = [0b10, 0].into_iter().cycle();
        let looks = std::cell::RefCell::new(&mut looks);
        let status = || format!("SigBlk:\t{:016x}\n", looks.borrow_mut().next().unwrap_or(0));
        assert_eq!(disposition(status, "INT".parse().unwrap()), Disposition::Default);
    }

    #[test]
    fn only_a_thread_ends_so_the_agent_lives_on() {
        let mut child = std::process::Command::new("sleep").arg("1234").spawn().unwrap();
        let pid = Pid::from_raw(child.id().cast_signed());
        kill_by_exit(pid).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
}
