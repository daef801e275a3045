//! Memory is held in the control group that this process is in.
//!
//! The plugin starts this process in the target container, whose limit then holds for both. The memory is that of a
//! file without a name (memfd_create(2)), allocated and never mapped: the control group is charged for it, but it is
//! no process's own, so that the kernel, when it looks for who uses most, does not find this one. It goes with this
//! process, however it ends.
//!
//! What is held is measured against what the container uses, all the time: when the app grows, it shrinks.

use std::{fs, fs::File, io, os::unix::fs::MetadataExt as _, time::Duration, time::Instant};

use nix::{
    errno::Errno,
    fcntl::{FallocateFlags, fallocate},
    sys::memfd::{MFdFlags, memfd_create},
};
use pod_chaos_protocol::{
    Event, Failure, FailureKind, MemoryBurn, MemoryLoad, MemoryUsage, Phase, ProcessInfo,
};

use super::{Cleared, part};
use crate::{
    carry::{Counts, Hold},
    cgroup::{Memory, unreadable},
    clock,
    error::failure,
    processes::{self, Process, field},
    serve::say,
};

/// How often what is held is measured again. An app that grows by a gigabyte a second grows by 20 MiB meanwhile.
const TICK_MS: u64 = 20;
/// What is allocated at a time.
const CHUNK: u64 = 1 << 20;
/// And at most until somebody else is listened to: a tenth of a second's work.
const STEP: u64 = 64 << 20;
/// A difference that is not worth it.
const NOISE: u64 = 64 << 10;
/// How long it may take to allocate everything at the start.
const PATIENCE: Duration = Duration::from_secs(20);
/// How far the container's usage may be from what was asked for, as a fraction of its limit.
const TOLERANCE: f64 = 0.02;
/// What is left to the node, as a fraction of its memory, unless it may be harmed. The kubelet evicts pods when less
/// than 100 MiB are available (`memory.available` of its hard eviction thresholds).
const NODE_RESERVE: f64 = 0.1;

/// Memory that is held.
#[derive(Debug)]
pub struct Held {
    memory: Memory,
    limit: Option<u64>,
    burn: MemoryBurn,
    file: File,
    /// Bytes of the file.
    bytes: u64,
    start_ms: u64,
    due_ms: u64,
    /// How often the kernel had killed when that was asked last, and whom it could have.
    kills: u64,
    beside: Vec<Process>,
}

/// Starts to hold memory, and sees in the control group that it is charged.
pub fn apply(burn: &MemoryBurn) -> Result<Held, Failure> {
    burn.load.check().map_err(|error| failure(FailureKind::BadRequest, error.to_string(), None))?;
    let read = |error: io::Error| unreadable(&error);
    let memory = Memory::own().map_err(read)?;
    let limit = memory.limit().map_err(read)?;
    let (used, kills) = (memory.used().map_err(read)?, memory.kills().map_err(read)?);
    say(&Event::MemoryUsed { phase: Phase::Before, usage: MemoryUsage { used, held: 0, limit } });
    refuse(burn, used, limit)?;
    let name = crate::processes::OWN_NAME;
    let file = memfd_create(name, MFdFlags::MFD_CLOEXEC).map_err(|errno| {
        failure(
            FailureKind::Kernel,
            format!("failed to make a file in memory: {}", errno.desc()),
            None,
        )
    })?;
    if burn.load != MemoryLoad::Oom {
        // Should memory run out all the same, this process goes first. It may be forbidden, and is only a courtesy.
        let _ = fs::write("/proc/self/oom_score_adj", "1000");
    }
    let now = clock::now_ms();
    let mut held = Held {
        memory,
        limit,
        burn: *burn,
        file: file.into(),
        bytes: 0,
        start_ms: now,
        due_ms: now + TICK_MS,
        kills,
        beside: processes::beside(),
    };
    held.begin()?;
    Ok(held)
}

/// Says no before anything is held.
fn refuse(burn: &MemoryBurn, used: u64, limit: Option<u64>) -> Result<(), Failure> {
    let unsupported =
        |message: String, hint| failure(FailureKind::Unsupported, message, Some(hint));
    let more = match (burn.load, limit) {
        (MemoryLoad::Size(size), _) => size.bytes(),
        (_, None) => {
            let hint = "--size names an amount";
            return Err(unsupported("the container has no limit of memory".to_owned(), hint));
        }
        (MemoryLoad::To(percent), Some(limit)) => part(limit, percent.fraction())
            .checked_sub(used)
            .filter(|more| *more > 0)
            .ok_or_else(|| {
                let usage = MemoryUsage { used, held: 0, limit: Some(limit) };
                unsupported(format!("the container has {usage} already"), "--to names more")
            })?,
        (MemoryLoad::Oom, Some(limit)) => limit.saturating_sub(used),
    };
    if let (MemoryLoad::Size(_), Some(limit)) = (burn.load, limit)
        && used + more > part(limit, MemoryLoad::TO_MAX)
    {
        let usage = MemoryUsage { used, held: 0, limit: Some(limit) };
        let message = format!("the container has {usage}, and would be killed for that much more");
        return Err(unsupported(message, "--oom is for that"));
    }
    let node = Node::read();
    if !burn.allow_node_pressure && more > node.spare() {
        let message = format!(
            "the node has {} MiB of memory available, and would be left with less than a tenth of its own",
            node.available >> 20
        );
        let hint =
            "other pods would be evicted or killed; --allow-node-pressure does it all the same";
        return Err(unsupported(message, hint));
    }
    Ok(())
}

impl Held {
    /// Holds all of it, or with a ramp the first of it, and sees it in the control group.
    fn begin(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let grown = if self.burn.ramp.is_some() {
                self.grow(CHUNK)
            } else {
                self.measure().and_then(|used| self.follow(self.aim(used, false), STEP))
            };
            let refused = match grown {
                Ok(()) => match self.memory.used() {
                    Ok(used) if self.is_charged(used) => return Ok(()),
                    Ok(used) => format!("the control group is charged with {} KiB", used >> 10),
                    Err(error) => error.to_string(),
                },
                Err(errno) => errno.desc().to_owned(),
            };
            if begun.elapsed() > PATIENCE {
                let message =
                    format!("failed to hold memory: {} KiB are, and {refused}", self.bytes >> 10);
                return Err(failure(FailureKind::Kernel, message, None));
            }
        }
    }

    /// Whether what is held is seen, and all that was asked for.
    fn is_charged(&self, used: u64) -> bool {
        let enough = self.burn.ramp.is_some() || self.bytes + NOISE >= self.aim(used, false);
        let exact = match (self.burn.load, self.limit, self.burn.ramp) {
            (MemoryLoad::To(percent), Some(limit), None) => {
                part(limit, percent.fraction()).abs_diff(used) <= part(limit, TOLERANCE)
            }
            _ => true,
        };
        enough && exact && used >= self.bytes
    }

    fn measure(&self) -> Result<u64, Errno> {
        self.memory.used().map_err(|_| Errno::EIO)
    }

    /// How many bytes are to be held now that the container uses `used`. What is to kill goes `over` the limit only
    /// when that has been announced.
    fn aim(&self, used: u64, over: bool) -> u64 {
        let others = used.saturating_sub(self.bytes);
        let of_limit = |fraction| self.limit.map_or(u64::MAX, |limit| part(limit, fraction));
        let ceiling = of_limit(MemoryLoad::TO_MAX).saturating_sub(others);
        let most = match self.burn.load {
            MemoryLoad::To(percent) => of_limit(percent.fraction()).saturating_sub(others),
            MemoryLoad::Size(size) => size.bytes().min(ceiling),
            MemoryLoad::Oom if over => of_limit(1.0),
            MemoryLoad::Oom => ceiling,
        };
        let ramp = self.burn.ramp.map_or(0, |ramp| ramp.as_nanos() / 1_000_000).max(1);
        let elapsed = clock::now_ms().saturating_sub(self.start_ms).min(ramp);
        let now = u128::from(most) * u128::from(elapsed) / u128::from(ramp);
        let now = if self.burn.ramp.is_some() { u64::try_from(now).unwrap_or(most) } else { most };
        if self.burn.allow_node_pressure { now } else { now.min(Node::read().share(self.bytes)) }
    }

    /// Grows or shrinks towards `aim`, by not more than `step` at a time.
    fn follow(&mut self, aim: u64, step: u64) -> Result<(), Errno> {
        if aim < self.bytes {
            return self.shrink(aim);
        }
        let to = aim.min(self.bytes + step);
        while self.bytes + NOISE <= to {
            self.grow((to - self.bytes).min(CHUNK))?;
        }
        Ok(())
    }

    /// Grows until the kernel kills, and no further: by as little as possible, as each further page may cost another
    /// process its life, in the end this one.
    fn overstep(&mut self) -> Result<(), Errno> {
        let to = self.aim(self.measure()?, true).min(self.bytes + STEP);
        while self.bytes < to && self.memory.kills().map_err(|_| Errno::EIO)? == self.kills {
            self.grow((to - self.bytes).min(NOISE))?;
        }
        Ok(())
    }

    fn grow(&mut self, by: u64) -> Result<(), Errno> {
        let offset = |bytes: u64| i64::try_from(bytes).map_err(|_| Errno::EFBIG);
        fallocate(&self.file, FallocateFlags::empty(), offset(self.bytes)?, offset(by)?)?;
        self.bytes += by;
        Ok(())
    }

    fn shrink(&mut self, to: u64) -> Result<(), Errno> {
        self.file
            .set_len(to)
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
        self.bytes = to;
        Ok(())
    }

    /// Tells when the kernel has killed since it was asked last.
    fn has_killed(&mut self) -> bool {
        let kills = self.memory.kills().unwrap_or(self.kills);
        if kills <= self.kills {
            return false;
        }
        let now = processes::beside();
        let gone = self.beside.iter().filter(|one| !now.contains(one));
        let processes = gone.map(Process::info).collect::<Vec<ProcessInfo>>();
        say(&Event::OutOfMemory { kills: kills - self.kills, processes });
        (self.kills, self.beside) = (kills, now);
        true
    }

    fn tell(&self, phase: Phase) {
        if let Ok(used) = self.memory.used() {
            let usage = MemoryUsage { used, held: self.bytes, limit: self.limit };
            say(&Event::MemoryUsed { phase, usage });
        }
    }
}

impl Hold for Held {
    fn counts(&self) -> Counts {
        Counts { processes: 1, threads: 1 }
    }

    fn due_ms(&self) -> Option<u64> {
        Some(self.due_ms)
    }

    /// What cannot be had now is tried for again the next time.
    fn tend(&mut self) -> bool {
        self.due_ms = clock::now_ms() + TICK_MS;
        if self.burn.load == MemoryLoad::Oom {
            let _ = self.overstep();
            return !self.has_killed();
        }
        self.has_killed();
        let _ = self.measure().and_then(|used| self.follow(self.aim(used, false), STEP));
        true
    }

    fn release(&mut self) -> Cleared {
        let mut cleared = Cleared::default();
        self.tell(Phase::During);
        if let Err(errno) = self.shrink(0) {
            cleared.errors.push(format!("failed to let go of memory: {}", errno.desc()));
        }
        // In units of 512 bytes (stat(2)).
        match self.file.metadata().map(|file| file.blocks()) {
            Ok(0) => {}
            Ok(blocks) => cleared.left.push(format!("{} KiB of memory", blocks / 2)),
            Err(error) => cleared.errors.push(format!("failed to look at what is left: {error}")),
        }
        self.tell(Phase::After);
        cleared
    }
}

/// The node's memory, in bytes, by `/proc/meminfo`, which a container sees as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Node {
    total: u64,
    available: u64,
}

impl Node {
    fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
    }

    /// Where it does not say, nothing can be spared.
    fn parse(text: &str) -> Self {
        let bytes = |name| -> Option<u64> {
            let kilobytes: u64 = field(text, name)?.strip_suffix(" kB")?.parse().ok()?;
            Some(kilobytes << 10)
        };
        Self {
            total: bytes("MemTotal").unwrap_or(u64::MAX),
            available: bytes("MemAvailable").unwrap_or(0),
        }
    }

    /// What can be taken so that enough is left.
    fn spare(self) -> u64 {
        self.available.saturating_sub(part(self.total, NODE_RESERVE))
    }

    /// The most that who holds `bytes` may: when others have taken half of what was to be left, less and less.
    fn share(self, bytes: u64) -> u64 {
        (bytes + self.available).saturating_sub(part(self.total, NODE_RESERVE / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn burn(load: MemoryLoad) -> MemoryBurn {
        MemoryBurn { load, ramp: None, allow_node_pressure: true }
    }

    fn holding(load: MemoryLoad, limit: u64, bytes: u64) -> Held {
        Held {
            memory: Memory::V2("/nonexistent".into()),
            limit: Some(limit),
            burn: burn(load),
            file: memfd_create("test", MFdFlags::MFD_CLOEXEC).unwrap().into(),
            bytes,
            start_ms: clock::now_ms(),
            due_ms: 0,
            kills: 0,
            beside: Vec::new(),
        }
    }

    #[test]
    fn gives_way_to_the_app() {
        let half = holding(MemoryLoad::To("50%".parse().unwrap()), 100 * MIB, 40 * MIB);
        let about = |bytes: u64, mib: u64| bytes.abs_diff(mib * MIB) < MIB;
        // 10 MiB are the app's, then 20, then 90.
        let aims = [50, 60, 130].map(|used| half.aim(used * MIB, false));
        assert!(about(aims[0], 40) && about(aims[1], 30) && aims[2] == 0, "{aims:?}");
        let sized = holding(MemoryLoad::Size("60Mi".parse().unwrap()), 100 * MIB, 60 * MIB);
        let aims = [70, 110].map(|used| sized.aim(used * MIB, false));
        assert!(about(aims[0], 60) && about(aims[1], 48), "{aims:?}");
        let oom = holding(MemoryLoad::Oom, 100 * MIB, 60 * MIB);
        let aims = [false, true].map(|over| oom.aim(70 * MIB, over));
        assert!(about(aims[0], 88) && aims[1] == 100 * MIB, "{aims:?}");
    }

    #[test]
    fn a_ramp_is_climbed_evenly() {
        let mut held = holding(MemoryLoad::Size("80Mi".parse().unwrap()), 1000 * MIB, 0);
        held.burn.ramp = Some("1m".parse().unwrap());
        let at_first = held.aim(0, false);
        held.start_ms = clock::now_ms() - 15_000;
        let after_a_quarter = held.aim(0, false);
        held.burn.ramp = Some("1s".parse().unwrap());
        let in_the_end = held.aim(0, false);
        assert!(at_first < 2 * MIB, "{at_first}");
        assert!(after_a_quarter.abs_diff(20 * MIB) < 2 * MIB, "{after_a_quarter}");
        assert_eq!(in_the_end, 80 * MIB);
    }

    #[test]
    fn gives_way_to_the_node() {
        let node = Node::parse("MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:     300 kB\n");
        assert_eq!((node.spare() >> 10, node.share(100 << 10) >> 10), (200, 350));
        let full = Node { available: 0, ..node };
        assert_eq!((full.spare(), full.share(100 << 10) >> 10), (0, 50));
        assert_eq!(Node::parse("").spare(), 0);
    }

    #[test]
    fn grows_and_shrinks_in_whole() {
        let mut held = holding(MemoryLoad::Size("3Mi".parse().unwrap()), u64::MAX, 0);
        held.follow(3 * MIB, STEP).unwrap();
        assert_eq!(held.file.metadata().unwrap().blocks() * 512, 3 * MIB);
        held.follow(MIB, STEP).unwrap();
        assert_eq!(held.file.metadata().unwrap().blocks() * 512, MIB);
        assert_eq!(held.shrink(0), Ok(()));
        assert_eq!(held.file.metadata().unwrap().blocks(), 0);
    }

    #[test]
    fn refuses_what_makes_no_sense() {
        let to = |text: &str| burn(MemoryLoad::To(text.parse().unwrap()));
        let kind = |burn, used, limit| refuse(&burn, used, limit).map_err(|failure| failure.kind);
        let unsupported = Err(FailureKind::Unsupported);
        assert_eq!(kind(to("80%"), 10 * MIB, None), unsupported);
        assert_eq!(kind(to("80%"), 10 * MIB, Some(100 * MIB)), Ok(()));
        assert_eq!(kind(to("80%"), 90 * MIB, Some(100 * MIB)), unsupported);
        assert_eq!(kind(burn(MemoryLoad::Oom), 0, None), unsupported);
        let size = |text: &str| burn(MemoryLoad::Size(text.parse().unwrap()));
        assert_eq!(kind(size("50Mi"), 90 * MIB, Some(100 * MIB)), unsupported);
        assert_eq!(kind(size("50Mi"), 90 * MIB, None), Ok(()));
        let careful = MemoryBurn { allow_node_pressure: false, ..size("1024Ti") };
        assert_eq!(kind(careful, 0, None), unsupported);
    }
}
