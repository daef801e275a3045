//! A process that is the same user and group as a container's own, and nothing more.
//!
//! The kernel lets a process start the file that another one runs (`/proc/PID/exe`) only when both are the same user
//! and group, and it has no fewer capabilities (`ptrace_may_access()`, credentials(7)). So that a container can start
//! the agent's file there has to be such a process. An agent that is root becomes one with SETUID and SETGID.

use std::{
    ffi::CString,
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitCode, Stdio},
};

use nix::sys::prctl;
use pod_chaos_protocol::{Failure, FailureKind, Processes};

use crate::{
    error::failure,
    processes::{self, OWN_NAME, field},
};

/// Such a process; it ends with the value, and with the one that has started it.
#[derive(Debug)]
pub struct Anchor(Child);

impl Anchor {
    /// As the container's main process is.
    pub fn start(target: &Processes) -> Result<Self, Failure> {
        let found = processes::find(&Processes { matching: None, ..target.clone() })?;
        let main = found.iter().min_by_key(|process| (process.started(), process.pid));
        let (uid, gid) = main.and_then(|main| user(&main.status())).ok_or_else(|| {
            let message = format!("container {} has just ended", target.container);
            failure(FailureKind::NotFound, message, None)
        })?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("anchor").uid(uid).gid(gid).stdin(Stdio::piped()).stdout(Stdio::null());
        command.spawn().map(Self).map_err(|error| {
            let hint = "the agent's container needs the capabilities SETUID and SETGID";
            failure(
                FailureKind::NotPermitted,
                format!("failed to become user {uid} and group {gid}: {error}"),
                Some(hint),
            )
        })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the subcommand: waits until who has started it is gone.
pub fn run() -> ExitCode {
    let _ = CString::new(OWN_NAME).map(|name| prctl::set_name(&name));
    let _ = io::stdin().read(&mut [0]);
    ExitCode::SUCCESS
}

/// User and group of a process: the first ones of each, as it was started (proc_pid_status(5)).
fn user(status: &str) -> Option<(u32, u32)> {
    let first = |name| field(status, name)?.split_whitespace().next()?.parse().ok();
    Some((first("Uid")?, first("Gid")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_user_and_group() {
        assert_eq!(user("Name:\tx\nUid:\t7\t8\t8\t8\nGid:\t9\t9\t9\t9\n"), Some((7, 9)));
        assert_eq!(user(""), None);
    }
}
