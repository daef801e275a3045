//! A signal that interrupts a system call that waits, and does nothing else.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::{
    errno::Errno,
    libc,
    sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction},
};

/// The signal. The agent gets it from nobody else.
pub const SIGNAL: Signal = Signal::SIGALRM;

static RUNG: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: libc::c_int) {
    RUNG.store(true, Ordering::SeqCst);
}

/// Has [`SIGNAL`] do this, in all of the process.
pub fn install() -> Result<(), Errno> {
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler does only what may be done in one: it stores to an atomic. Nobody relies on the
    // handler that was there before.
    unsafe { sigaction(SIGNAL, &action) }.map(drop)
}

/// Whether it has come since this was last asked.
pub fn rung() -> bool {
    RUNG.load(Ordering::Relaxed) && RUNG.swap(false, Ordering::SeqCst)
}
