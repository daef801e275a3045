//! The processes of a container, found in `/proc`.
//!
//! The agent's container shares the process namespace of the one that it is for, and perhaps of the whole pod:
//! then process 1 is the pod's sandbox, and not to be touched. So a process belongs to a container when it is in
//! its control group, whose path has the container's id in it, with control groups v1 and v2 and with each
//! runtime (cgroups(7), the Linux part of the OCI runtime specification).

use std::{fs, path::Path};

use nix::unistd::Pid;
use pod_chaos_protocol::{Failure, FailureKind, ProcessInfo, Processes};

use crate::error::failure;

/// The name of all processes of the agent, also of those in another's container; see [`crate::serve`].
pub const OWN_NAME: &str = "pod-chaos-agent";

/// A process of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id here.
    pub pid: Pid,
    /// Its name (`/proc/PID/comm`).
    pub name: String,
}

impl Process {
    /// Its threads now; none when it has ended.
    pub fn threads(&self) -> Vec<Pid> {
        let tasks =
            fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        tasks.filter_map(|task| pid_of(&task.file_name())).collect()
    }

    /// What the kernel says of it; nothing when it has ended.
    pub fn status(&self) -> String {
        fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default()
    }

    /// When it was started, in the kernel's ticks (`starttime` of proc_pid_stat(5)); the latest there is when it
    /// has ended. A container's main process is its first.
    pub fn started(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        start_time(&stat).unwrap_or(u64::MAX)
    }

    /// As the plugin is told.
    pub fn info(&self) -> ProcessInfo {
        ProcessInfo {
            pid: self.pid.as_raw().unsigned_abs(),
            name: self.name.clone(),
            threads: u32::try_from(self.threads().len()).unwrap_or(u32::MAX),
        }
    }
}

/// The processes that are meant, by their ids; none is a failure.
pub fn find(target: &Processes) -> Result<Vec<Process>, Failure> {
    let all = in_container(target.id.as_str());
    if all.is_empty() {
        let message = format!(
            "no process of container {} ({}) can be seen by the agent",
            target.container, target.id
        );
        let hint = "it may have restarted a moment ago: try again; else the node's runtime has not put the \
                    agent into its process namespace (targetContainerName)";
        return Err(failure(FailureKind::NotFound, message, Some(hint)));
    }
    let Some(pattern) = &target.matching else { return Ok(all) };
    let names: Vec<_> = all.iter().map(|one| one.name.clone()).collect();
    let meant: Vec<_> =
        all.into_iter().filter(|one| pattern.matches(&one.name, &command_line(one.pid))).collect();
    if meant.is_empty() {
        let message = format!(
            "no process of container {} matches `{pattern}`; there are: {}",
            target.container,
            names.join(", ")
        );
        return Err(failure(FailureKind::NotFound, message, None));
    }
    Ok(meant)
}

/// All processes of a container but for our own, by their ids.
pub fn in_container(id: &str) -> Vec<Process> {
    all(|groups| is_in(groups, id))
}

/// Those of the container that this process itself is in, but for our own, by their ids. It may see its control groups
/// under other names than the agent beside it does (cgroup_namespaces(7)).
pub fn beside() -> Vec<Process> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    all(|groups| groups == own)
}

/// All processes whose control groups are such, but for our own, by their ids.
fn all(meant: impl Fn(&str) -> bool) -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let pid = pid_of(&entry.file_name())?;
            let groups = fs::read_to_string(entry.path().join("cgroup")).ok()?;
            let name = name_of(&entry.path())?;
            (meant(&groups) && name != OWN_NAME && !is_dead(pid)).then_some(Process { pid, name })
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// Whether control groups, as `/proc/PID/cgroup` has them, are those of a container. What stands in front of
/// the id and after it depends on the runtime: `cri-containerd-ID.scope`, `crio-ID.scope`, `ID`.
fn is_in(groups: &str, id: &str) -> bool {
    groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).any(|path| path.contains(id))
}

fn pid_of(name: &std::ffi::OsStr) -> Option<Pid> {
    Some(Pid::from_raw(name.to_str()?.parse().ok()?))
}

fn name_of(process: &Path) -> Option<String> {
    let name = fs::read(process.join("comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end_matches('\n').to_owned())
}

/// The words of a process's command line, with a space in between.
fn command_line(pid: Pid) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    words.join(" ").trim_end().to_owned()
}

/// The 22nd field; the second one is a name in brackets, which may have anything in it.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Whether it has ended, and only waits for its parent to ask.
fn is_dead(pid: Pid) -> bool {
    ThreadState::read(pid, pid).is_none_or(ThreadState::is_dead)
}

/// What the kernel says of a thread in its `status` (proc_pid_status(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// As `R`, `S`, `t`.
    pub state: char,
    /// The process that traces it; 0 is none.
    pub tracer: i32,
}

impl ThreadState {
    /// `None` when there is no such thread (any more).
    pub fn read(process: Pid, thread: Pid) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{process}/task/{thread}/status")).ok()?;
        Self::parse(&status)
    }

    fn parse(status: &str) -> Option<Self> {
        let state = field(status, "State")?.chars().next()?;
        Some(Self { state, tracer: field(status, "TracerPid")?.parse().ok()? })
    }

    /// Whether it has ended.
    pub const fn is_dead(self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// A field of `/proc/PID/status`.
pub fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0a57d0c7a9e64d2f8e1b";

    #[test]
    fn control_groups_tell_containers_apart() {
        for groups in [
            format!("0::/../cri-containerd-{ID}.scope\n"),
            format!("0::/kubepods/besteffort/pod12/{ID}/init\n"),
            format!("12:cpu,cpuacct:/kubepods.slice/crio-{ID}.scope\n3:pids:/\n"),
        ] {
            assert!(is_in(&groups, ID), "{groups}");
        }
        assert!(!is_in("0::/../cri-containerd-ffff.scope\n", ID));
        // A named hierarchy is not a path.
        assert!(!is_in(&format!("1:name={ID}:/\n"), ID));
    }

    #[test]
    fn reads_a_thread_of_this_process() {
        let own = nix::unistd::getpid();
        let thread = ThreadState::read(own, own).unwrap();
        assert!(!thread.is_dead() && thread.tracer == 0, "{thread:?}");
        assert_eq!(
            ThreadState::parse("Name:\tx\nState:\tt (tracing stop)\nTracerPid:\t7\n"),
            Some(ThreadState { state: 't', tracer: 7 })
        );
    }

    #[test]
    fn reads_when_a_process_was_started() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 2 3 0 0 20 0 1 0 4711 8 9";
        assert_eq!(start_time(stat), Some(4711));
        assert_eq!(start_time("7"), None);
    }

    #[test]
    fn reads_a_command_line() {
        assert!(!command_line(nix::unistd::getpid()).contains('\0'));
    }
}
