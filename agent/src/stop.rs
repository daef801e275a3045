//! Lets the agent that waits in this container exit, and the container with it.

use nix::sys::signal::{Signal, kill};

use crate::waiting;

/// Sends SIGTERM to each `pod-chaos-agent wait` of this container; what went wrong.
pub fn waiting_agents() -> Vec<String> {
    let mut errors = Vec::new();
    for agent in waiting::find() {
        if let Err(errno) = kill(agent.pid, Signal::SIGTERM) {
            errors.push(format!(
                "failed to stop the waiting agent (process {}): {}",
                agent.pid,
                errno.desc()
            ));
        }
    }
    errors
}
