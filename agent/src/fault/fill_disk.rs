//! Room on a disk is taken, by a file without a name.
//!
//! The plugin starts this process in the target container, where it allocates the file (fallocate(2)). It cannot be
//! found, and nothing of it stays when this process ends, however it ends.

use std::{fs::File, io, os::unix::fs::MetadataExt as _, path::Path};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
};
use pod_chaos_protocol::{
    DiskFill, DiskLoad, DiskUsage, Event, Failure, FailureKind, MemoryLoad, Percentage, Phase,
};

use super::{Cleared, part};
use crate::{
    carry::{Counts, Hold},
    cgroup::Memory,
    disk::{Disk, Owner},
    error::failure,
    nameless,
    serve::say,
};

/// What is allocated at a time.
const CHUNK: u64 = 1 << 30;
/// What is left on a disk of the node's, as a fraction of it, unless it may run short. The kubelet evicts pods when
/// less is available (`imagefs.available` of its hard eviction thresholds; `nodefs.available` is 0.1).
const NODE_RESERVE: f64 = 0.15;

/// Room that is taken.
#[derive(Debug)]
pub struct Filled {
    fill: DiskFill,
    file: File,
    bytes: u64,
}

/// Takes it, and sees on the file system that it is taken.
pub fn apply(fill: &DiskFill) -> Result<Filled, Failure> {
    let path = Path::new(&fill.path);
    let disk = Disk::of(path).map_err(|error| cannot("look at", fill, &error))?;
    say(&Event::DiskUsed { phase: Phase::Before, usage: disk.usage });
    let bytes = room(fill, &disk)?;
    let nameless =
        nameless::create(path).map_err(|error| cannot("make a file in", fill, &error))?;
    let mut filled = Filled { fill: fill.clone(), file: nameless, bytes: 0 };
    // With the file goes what has been allocated.
    filled.grow(bytes).and_then(|()| filled.verify(&disk.usage))?;
    Ok(filled)
}

fn cannot(doing: &str, fill: &DiskFill, error: &io::Error) -> Failure {
    let hint = "--path names a folder that the container can write to, as it sees it";
    failure(
        FailureKind::Unsupported,
        format!("failed to {doing} {}: {error}", fill.path),
        Some(hint),
    )
}

/// How many bytes are to be taken; says no before any is.
fn room(fill: &DiskFill, disk: &Disk) -> Result<u64, Failure> {
    let refused = |message, hint| Err(failure(FailureKind::Unsupported, message, Some(hint)));
    let (path, usage) = (&fill.path, disk.usage);
    let bytes = match fill.load {
        DiskLoad::Size(size) => size.bytes(),
        DiskLoad::To(percent) => match missing(usage, percent) {
            0 => return refused(format!("{path} has {usage} already"), "--to names more"),
            missing => missing,
        },
    };
    if bytes > usage.available {
        return refused(
            format!("{path} has {usage}, and no room for that much"),
            "--to 100% takes all",
        );
    }
    let left = usage.available - bytes;
    match disk.owner {
        Owner::Node if !fill.allow_node_pressure && left < part(disk.size, NODE_RESERVE) => {
            refused(
                format!(
                    "{path} is on a disk of the node's, of which less than 15% would be left ({usage})"
                ),
                "the kubelet then evicts pods, also others; --allow-node-pressure does it all the same",
            )
        }
        Owner::Memory if !fits_memory(bytes) => refused(
            format!("{path} is in memory, and the container has too little of it left"),
            "it would be killed: `burn memory --oom` is for that",
        ),
        _ => Ok(bytes),
    }
}

/// Whether the control group may have so much more.
fn fits_memory(bytes: u64) -> bool {
    let Ok(memory) = Memory::own() else { return true };
    match (memory.limit(), memory.used()) {
        (Ok(Some(limit)), Ok(used)) => used + bytes <= part(limit, MemoryLoad::TO_MAX),
        _ => true,
    }
}

/// What is missing until so much is used of what is not root's alone.
fn missing(usage: DiskUsage, percent: Percentage) -> u64 {
    part(usage.used + usage.available, percent.fraction()).saturating_sub(usage.used)
}

impl Filled {
    fn grow(&mut self, to: u64) -> Result<(), Failure> {
        while self.bytes < to {
            let step = (to - self.bytes).min(CHUNK);
            let offset = |bytes: u64| i64::try_from(bytes).map_err(|_| Errno::EFBIG);
            let grown = offset(self.bytes)
                .and_then(|at| fallocate(&self.file, FallocateFlags::empty(), at, offset(step)?));
            match grown {
                Ok(()) => self.bytes += step,
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    let hint = (errno == Errno::EOPNOTSUPP).then_some(
                        "this file system cannot allocate (fallocate(2)), as NFS before 4.2",
                    );
                    let message = format!(
                        "failed to allocate {to} bytes in {}: {}",
                        self.fill.path,
                        errno.desc()
                    );
                    return Err(failure(FailureKind::Unsupported, message, hint));
                }
            }
        }
        Ok(())
    }

    /// Whether the file has its blocks, and the file system says that they are used.
    fn verify(&self, before: &DiskUsage) -> Result<(), Failure> {
        let held = self.held().unwrap_or(0);
        let used = Disk::of(Path::new(&self.fill.path)).map_or(0, |disk| disk.usage.used);
        // Others may have freed some meanwhile; all of it they have not.
        if held < self.bytes || used <= before.used.min(held) {
            let message = format!(
                "{} was to be filled with {} bytes, and has {used} used, {held} of them by the fault",
                self.fill.path, self.bytes
            );
            return Err(failure(FailureKind::Kernel, message, None));
        }
        Ok(())
    }

    /// Bytes that the file takes, in units of 512 (stat(2)).
    fn held(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    fn tell(&self, phase: Phase) {
        if let (Ok(disk), Ok(held)) = (Disk::of(Path::new(&self.fill.path)), self.held()) {
            say(&Event::DiskUsed { phase, usage: DiskUsage { held, ..disk.usage } });
        }
    }
}

impl Hold for Filled {
    fn counts(&self) -> Counts {
        Counts { processes: 1, threads: 1 }
    }

    fn tend(&mut self) -> bool {
        true
    }

    fn release(&mut self) -> Cleared {
        let mut cleared = Cleared::default();
        self.tell(Phase::During);
        if let Err(error) = self.file.set_len(0) {
            cleared.errors.push(format!("failed to empty the file in {}: {error}", self.fill.path));
        }
        match self.held() {
            Ok(0) => {}
            Ok(held) => cleared.left.push(format!("{held} bytes in {}", self.fill.path)),
            Err(error) => cleared.errors.push(format!("failed to look at the file: {error}")),
        }
        self.tell(Phase::After);
        cleared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn asked(load: &str, owner: Owner) -> Result<u64, String> {
        let load =
            load.parse().map_or_else(|_| DiskLoad::Size(load.parse().unwrap()), DiskLoad::To);
        let fill = DiskFill { path: "/data".to_owned(), load, allow_node_pressure: false };
        let usage = DiskUsage { used: 40 * GIB, available: 50 * GIB, held: 0 };
        room(&fill, &Disk { size: 100 * GIB, usage, owner }).map_err(|failure| failure.message)
    }

    #[test]
    fn takes_what_is_missing() {
        assert!(asked("50%", Owner::Volume).unwrap().abs_diff(5 * GIB) < 1000);
        assert_eq!(asked("100%", Owner::Volume), Ok(50 * GIB));
        assert_eq!(asked("10Gi", Owner::Volume), Ok(10 * GIB));
    }

    #[test]
    fn leaves_enough_to_the_node() {
        assert_eq!(asked("35Gi", Owner::Node), Ok(35 * GIB));
        for (load, owner, why) in [
            ("36Gi", Owner::Node, "less than 15%"),
            ("51Gi", Owner::Volume, "no room"),
            ("40%", Owner::Volume, "already"),
        ] {
            let refused = asked(load, owner).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
    }
}
