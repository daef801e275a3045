//! What is said on stderr, beside the data: hints at what goes on, and errors.

use std::{
    fmt::Display,
    io::{Write as _, stderr},
    sync::OnceLock,
};

/// Whether nothing is to be said but errors; there is one command line.
static QUIET: OnceLock<()> = OnceLock::new();

/// From now on nothing is said but errors.
pub fn be_quiet() {
    let _ = QUIET.set(());
}

/// Whether nothing is said but errors.
pub fn is_quiet() -> bool {
    QUIET.get().is_some()
}

/// A line that is no error. A reader that has gone misses nothing.
pub fn say(line: impl Display) {
    if !is_quiet() {
        let _ = writeln!(stderr(), "{line}");
    }
}
