//! Lets the agent that waits in this container exit, and the container with it.

use std::{fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpid},
};

/// Sends SIGTERM to each `pod-chaos-agent wait` of this container and network namespace. It is not always
/// process 1: the pod's containers may share their process namespace.
pub fn waiting_agents() -> Vec<String> {
    let own_surroundings = surroundings("self");
    let mut errors = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let pid = Pid::from_raw(pid);
        if pid == getpid() || !waits(&entry.path()) {
            continue;
        }
        if own_surroundings.is_some() && surroundings(&pid.to_string()) != own_surroundings {
            continue;
        }
        if let Err(errno) = kill(pid, Signal::SIGTERM) {
            errors.push(format!(
                "failed to stop the waiting agent (process {pid}): {}",
                errno.desc()
            ));
        }
    }
    errors
}

/// Whether the process was started as `…/pod-chaos-agent wait`.
fn waits(process: &Path) -> bool {
    let Ok(line) = fs::read(process.join("cmdline")) else { return false };
    let mut words = line.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let name = program.rsplit(|byte| *byte == b'/').next();
    name == Some(b"pod-chaos-agent") && words.next() == Some(b"wait")
}

/// What tells a process of this container from one of another: control groups and network namespace.
fn surroundings(process: &str) -> Option<(Vec<u8>, std::path::PathBuf)> {
    let process = Path::new("/proc").join(process);
    let groups = fs::read(process.join("cgroup")).ok()?;
    Some((groups, fs::read_link(process.join("ns/net")).ok()?))
}
