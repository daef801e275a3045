//! Finds the `pod-chaos-agent wait` of this container. It is not always process 1: the pod's containers may
//! share their process namespace.

use std::{fs, path::Path};

use nix::unistd::{Pid, getpid};
use pod_chaos_protocol::Carried;

/// An agent that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its process.
    pub pid: Pid,
    /// What it was given to carry out at its start, if this agent can read it.
    pub carried: Option<Carried>,
}

/// Those of this container and network namespace.
pub fn find() -> Vec<Waiting> {
    let own_surroundings = surroundings("self");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let pid = Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
        if pid == getpid() {
            return None;
        }
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let plan = plan_of(&line)?;
        let here = own_surroundings.is_none() || surroundings(&pid.to_string()) == own_surroundings;
        here.then(|| Waiting { pid, carried: serde_json::from_slice(plan).ok() })
    });
    found.collect()
}

/// What comes after `…/pod-chaos-agent wait`, nothing if need be; `None` for any other command line.
fn plan_of(line: &[u8]) -> Option<&[u8]> {
    let mut words = line.split(|byte| *byte == 0);
    let name = words.next()?.rsplit(|byte| *byte == b'/').next();
    let waits = name == Some(b"pod-chaos-agent") && words.next() == Some(b"wait");
    waits.then(|| words.next().unwrap_or_default())
}

/// What tells a process of this container from one of another: control groups and network namespace.
fn surroundings(process: &str) -> Option<(Vec<u8>, std::path::PathBuf)> {
    let process = Path::new("/proc").join(process);
    let groups = fs::read(process.join("cgroup")).ok()?;
    Some((groups, fs::read_link(process.join("ns/net")).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_an_agent_that_waits_by_its_command_line() {
        assert_eq!(plan_of(b"/pod-chaos-agent\0wait\0"), Some(&b""[..]));
        assert_eq!(plan_of(b"/pod-chaos-agent\0wait\0{}\0"), Some(&b"{}"[..]));
        assert_eq!(plan_of(b"/pod-chaos-agent\0serve\0"), None);
        assert_eq!(plan_of(b"sh\0-c\0pod-chaos-agent wait\0"), None);
        assert_eq!(plan_of(b""), None);
    }
}
