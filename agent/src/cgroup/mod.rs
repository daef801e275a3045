//! The control group that this process is in, of version 1 or 2 (cgroups(7)): what it may use, and has used.
//!
//! A container sees its own control group as the root of `/sys/fs/cgroup`, or, where the runtime gives it no
//! namespace of its own, by the path in `/proc/self/cgroup`.

mod cpu;
mod memory;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use cpu::{Cpu, CpuTime};
pub use memory::Memory;
use pod_chaos_protocol::{Failure, FailureKind};

use crate::error::failure;

/// Where control groups are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// The folder of this process for a controller that has this file, below `below`. `groups` as in `/proc/PID/cgroup`:
/// lines of `ID:CONTROLLERS:PATH`, without controllers for version 2.
fn folder(groups: &str, controller: &str, below: &Path, file: &str) -> Option<PathBuf> {
    let line = |line: &str| -> Option<PathBuf> {
        let mut parts = line.splitn(3, ':').skip(1);
        let here = parts.next()?.split(',').any(|one| one == controller);
        here.then_some(parts.next()?).map(|path| below.join(path.trim_start_matches('/')))
    };
    let by_path = groups.lines().find_map(line)?;
    [by_path, below.to_owned()].into_iter().find(|folder| folder.join(file).exists())
}

/// What `find` makes of the control groups of this process.
fn own<T>(what: &str, find: impl FnOnce(&str, &Path) -> Option<T>) -> io::Result<T> {
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    find(&groups, Path::new(MOUNT))
        .ok_or_else(|| io::Error::other(format!("no control group for {what} below {MOUNT}")))
}

/// What to say when files of the control group cannot be read.
pub fn unreadable(error: &io::Error) -> Failure {
    let message = format!("failed to read the control group: {error}");
    let hint = "a container sees its own control group below /sys/fs/cgroup, as Kubernetes has it";
    failure(FailureKind::Unsupported, message, Some(hint))
}

fn read(folder: &Path, file: &str) -> io::Result<String> {
    let path = folder.join(file);
    fs::read_to_string(&path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// A line `NAME NUMBER`; 0 where there is none.
fn field(name: &str, text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_default()
}

/// Files of control groups as a test wants them, in a folder that goes with the value.
#[cfg(test)]
struct Fake(PathBuf);

#[cfg(test)]
impl Fake {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("pod-chaos-{name}-{}", std::process::id())))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}

#[cfg(test)]
impl Drop for Fake {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
