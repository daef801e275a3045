//! The clock that everything here goes by.
//!
//! It is `CLOCK_MONOTONIC`: the one that the kernel's `jiffies` follow, which time the elements of
//! nf_tables sets. Nobody can set it, and all processes of a node read the same value, so that one
//! agent can read what another one wrote down.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since the node started, not counting suspension.
pub fn now_ms() -> u64 {
    u64::try_from(now().as_millis()).unwrap_or(u64::MAX)
}

/// Nanoseconds of the same.
pub fn now_ns() -> u64 {
    u64::try_from(now().as_nanos()).unwrap_or(u64::MAX)
}

fn now() -> Duration {
    // The kernel always has this clock: clock_gettime(2) fails only for a clock that does not exist.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Into::into)
}
