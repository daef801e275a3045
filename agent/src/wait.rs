//! `pod-chaos-agent wait [PLAN]`: the container's main process. It sleeps, once it has put the plan in force
//! that it may have been given.
//!
//! It is also the janitor: a `serve` that is killed leaves an expired fault behind, which hits nothing
//! but is there. The kernel tells of every table that is made; from then on there is a time at which to
//! look for such leftovers. As long as there is no fault there is no timer either, and no wake-up.
//!
//! It reverts nothing that is in force, not even when it is told to exit: the kernel does at the deadline.

use std::{io, os::fd::AsFd, process::ExitCode};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
};
use pod_chaos_protocol::Failure;

use crate::{
    carried, clock, fault,
    kernel::Kernel,
    lock::Lock,
    netlink::nftables::{Monitor, News},
    role,
    status::{self, Held},
    sweep,
};

/// How long after its deadline a fault's own agent has to clear it, in milliseconds. It needs a second when
/// there are packets to let out, and some more when it only joins a fault that has just ended.
const GRACE_MS: u64 = 5_000;
/// When to look again at a fault that cannot be without its agent, in milliseconds.
const LOOK_MS: u64 = 2_000;
/// When to look again while another agent is at work, in milliseconds.
const BUSY_MS: u64 = 500;
/// When to look again after something could not be read or cleared, in milliseconds.
const TROUBLE_MS: u64 = 30_000;

/// Runs the subcommand; ends with SIGTERM or SIGINT. `plan` is the one that came with the container.
pub fn run(plan: Option<&str>) -> ExitCode {
    match wait(plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pod-chaos-agent wait: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wait(plan: Option<&str>) -> io::Result<()> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        mask.add(signal);
    }
    // Blocked signals reach process 1 too; unblocked ones that it has no handler for do not.
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    // Without it (no NET_ADMIN, no nf_tables) there can be no fault to clear either.
    let mut monitor = role::sees_network().then(Monitor::open).and_then(|opened| {
        opened.inspect_err(|refusal| eprintln!("cannot listen to nf_tables: {refusal}")).ok()
    });
    // Held, so that whoever asks later is told.
    let _mark = plan.and_then(carried::carry_out);
    let mut due_ms = if monitor.is_some() { tidy() } else { None };
    loop {
        let timeout = due_ms.map_or(PollTimeout::NONE, |due| {
            let left = due.saturating_sub(clock::now_ms());
            i32::try_from(left)
                .ok()
                .and_then(|left| left.try_into().ok())
                .unwrap_or(PollTimeout::MAX)
        });
        let mut polled = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        polled.extend(monitor.as_ref().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)));
        match poll(&mut polled, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        while let Some(signal) = signals.read_signal()? {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                return Ok(());
            }
            reap();
        }
        let news = monitor.as_mut().is_some_and(|monitor| concerns_us(&monitor.news()));
        if news || due_ms.is_some_and(|due| due <= clock::now_ms()) {
            due_ms = tidy();
        }
    }
}

fn concerns_us(news: &News) -> bool {
    match news {
        News::Lost => true,
        News::Tables(tables) => tables.iter().any(|table| fault::id_of_any_table(table).is_some()),
    }
}

/// Process 1 inherits the orphans of its container.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

/// Clears what is left over, and says when to look again.
fn tidy() -> Option<u64> {
    let now = clock::now_ms();
    let Ok(_lock) = Lock::try_take() else { return Some(now + BUSY_MS) };
    tidy_locked(now).unwrap_or_else(|failure| {
        eprintln!("looking for leftovers: {failure}");
        Some(now + TROUBLE_MS)
    })
}

fn tidy_locked(now: u64) -> Result<Option<u64>, Failure> {
    let mut kernel = Kernel::open()?;
    let held = status::scan(&mut kernel)?;
    let (later, now_due): (Vec<_>, Vec<_>) =
        held.into_iter().map(|fault| (due_ms(&fault, now), fault)).partition(|(due, _)| *due > now);
    let due = now_due.into_iter().map(|(_, fault)| fault).collect();
    let (_, cleared) = sweep::sweep(&mut kernel, due);
    sweep::report(&cleared);
    let trouble =
        cleared.iter().any(|(_, cleared)| !cleared.is_clean()).then_some(now + TROUBLE_MS);
    Ok(later.into_iter().map(|(due, _)| due).chain(trouble).min())
}

/// When this one is to be cleared, if it is still there then.
fn due_ms(fault: &Held, now: u64) -> u64 {
    if fault.is_live() {
        let over = now.saturating_add(fault.remaining_ms()).saturating_add(GRACE_MS);
        // The kernel tells nobody when its agent dies.
        return if fault.needs_agent() { over.min(now + LOOK_MS) } else { over };
    }
    if fault.is_abandoned() {
        return now;
    }
    // Without a label it is a link without a table, whose agent died while making it, or a table of
    // another version that has expired.
    fault.label.as_ref().map_or(now, |label| label.to_ms.saturating_add(GRACE_MS))
}
