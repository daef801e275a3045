//! A disk is kept busy, by reading and writing a file without a name.
//!
//! The plugin starts this process in the target container: its limits hold for both, and the folder is what the
//! container sees. What has been read or written is dropped from the kernel's cache, so that the disk is asked each time.
//! Threads of this process do it, and end with it, as the file does.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use pod_chaos_protocol::{Event, Failure, FailureKind, IoBurn, IoUsage, Pace, Phase};

use super::Cleared;
use crate::{
    carry::{Counts, Hold},
    disk::Disk,
    error::failure,
    nameless,
    serve::say,
};

/// How long the first operation may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A pause of who is ahead of its pace.
const STEP: Duration = Duration::from_millis(5);
/// What may be made up for later. A disk that is slower than asked for must not be followed by a storm.
const DEBT: Duration = Duration::from_millis(200);
/// A pause after an operation that failed.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// A disk that is kept busy.
#[derive(Debug)]
pub struct Busy {
    shared: Arc<Shared>,
    start: Instant,
    /// What this process had read from disks and written to them at the start.
    before: (u64, u64),
    workers: Vec<JoinHandle<()>>,
}

/// What the threads share.
#[derive(Debug)]
struct Shared {
    file: File,
    burn: IoBurn,
    stop: AtomicBool,
    counters: [AtomicU64; 2],
    operations: AtomicU64,
    failed: AtomicU64,
    slowest_us: AtomicU64,
    /// Why the last one failed.
    error: Mutex<Option<String>>,
}

/// What a thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Read = 0,
    Write = 1,
}

/// Starts to read and write, and sees that the kernel does it.
pub fn apply(burn: &IoBurn) -> Result<Busy, Failure> {
    burn.check().map_err(|error| failure(FailureKind::BadRequest, error.to_string(), None))?;
    let path = Path::new(&burn.path);
    let cannot = |doing: &str, error: &io::Error| {
        let hint = "--path names a folder that the container can write to, as it sees it";
        failure(
            FailureKind::Unsupported,
            format!("failed to {doing} {}: {error}", burn.path),
            Some(hint),
        )
    };
    let disk = Disk::of(path).map_err(|error| cannot("look at", &error))?;
    if burn.size.bytes() > disk.usage.available / 2 {
        let message = format!(
            "{} has {}, and a file of {} takes more than half of the rest",
            burn.path, disk.usage, burn.size
        );
        return Err(failure(FailureKind::Unsupported, message, Some("--size names less")));
    }
    let file = nameless::create(path).map_err(|error| cannot("make a file in", &error))?;
    let shared = Arc::new(Shared {
        file,
        burn: burn.clone(),
        stop: AtomicBool::new(false),
        counters: [AtomicU64::new(0), AtomicU64::new(0)],
        operations: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        slowest_us: AtomicU64::new(0),
        error: Mutex::new(None),
    });
    if burn.read.is_some() {
        // There is something to be read from the disk.
        shared.prepare().map_err(|error| cannot("write a file in", &error))?;
    }
    let mut busy = Busy { shared, start: Instant::now(), before: by_disks(), workers: Vec::new() };
    let done = busy.begin().and_then(|()| busy.verify());
    if let Err(failure) = done {
        busy.end();
        return Err(failure);
    }
    Ok(busy)
}

impl Busy {
    fn begin(&mut self) -> Result<(), Failure> {
        let burn = &self.shared.burn;
        let ways = [(Way::Read, burn.read), (Way::Write, burn.write)];
        for (way, pace) in ways {
            let Some(pace) = pace else { continue };
            let shared = Arc::clone(&self.shared);
            let worker = std::thread::Builder::new().name(format!("{way:?}").to_lowercase());
            let worker = worker.spawn(move || shared.work(way, pace)).map_err(|error| {
                failure(FailureKind::Kernel, format!("failed to start a thread: {error}"), None)
            })?;
            self.workers.push(worker);
        }
        Ok(())
    }

    /// Waits until one operation of each kind has been done.
    fn verify(&self) -> Result<(), Failure> {
        let Shared { burn, counters, error, .. } = &*self.shared;
        let asked = [burn.read.is_some(), burn.write.is_some()];
        let begun = Instant::now();
        loop {
            let moved = counters.iter().map(|count| count.load(Ordering::Relaxed) > 0);
            if moved.zip(asked).all(|(moved, asked)| moved || !asked) {
                return Ok(());
            }
            let why = error.lock().ok().and_then(|error| error.clone());
            if why.is_some() || begun.elapsed() > PATIENCE {
                let why = why.unwrap_or_else(|| format!("nothing was done within {PATIENCE:?}"));
                let message = format!("failed to keep the disk of {} busy: {why}", burn.path);
                return Err(failure(FailureKind::Kernel, message, None));
            }
            sleep(STEP);
        }
    }

    fn usage(&self) -> IoUsage {
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let now = by_disks();
        let Shared { counters, operations, failed, slowest_us, .. } = &*self.shared;
        IoUsage {
            span_ms: u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX),
            read: number(&counters[Way::Read as usize]),
            written: number(&counters[Way::Write as usize]),
            read_from_disk: now.0.saturating_sub(self.before.0),
            written_to_disk: now.1.saturating_sub(self.before.1),
            operations: number(operations),
            failed: number(failed),
            slowest_us: number(slowest_us),
        }
    }

    fn end(&mut self) -> Vec<String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let workers = std::mem::take(&mut self.workers).into_iter();
        workers
            .filter_map(|worker| worker.join().err().map(|_| "a thread has panicked".to_owned()))
            .collect()
    }
}

impl Hold for Busy {
    fn counts(&self) -> Counts {
        Counts { processes: 1, threads: self.workers.len() }
    }

    fn tend(&mut self) -> bool {
        true
    }

    fn release(&mut self) -> Cleared {
        let usage = self.usage();
        let mut cleared = Cleared { errors: self.end(), ..Cleared::default() };
        say(&Event::IoUsed { phase: Phase::During, usage });
        if let Err(error) = self.shared.file.set_len(0) {
            let path = &self.shared.burn.path;
            cleared.errors.push(format!("failed to empty the file in {path}: {error}"));
        }
        cleared
    }
}

impl Shared {
    fn prepare(&self) -> io::Result<()> {
        let block = self.block();
        for number in 0..self.blocks() {
            self.file.write_all_at(&block, number * self.burn.block.bytes())?;
        }
        self.file.sync_data()?;
        self.drop_cache(0, 0);
        Ok(())
    }

    /// Contents that no disk makes smaller.
    #[expect(clippy::cast_possible_truncation, reason = "the lowest byte")]
    fn block(&self) -> Vec<u8> {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = || {
            // xorshift (Marsaglia, 2003).
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        let size = usize::try_from(self.burn.block.bytes()).unwrap_or(0);
        std::iter::repeat_with(&mut next).take(size).collect()
    }

    fn blocks(&self) -> u64 {
        self.burn.size.bytes() / self.burn.block.bytes()
    }

    /// Of all from there on when there is no length. What is still to be written is begun to be.
    fn drop_cache(&self, at: u64, length: u64) {
        let offset = |bytes: u64| i64::try_from(bytes).unwrap_or(0);
        let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        // Only advice: without it less is asked of the disk, which the figures tell.
        let _ = posix_fadvise(&self.file, offset(at), offset(length), advice);
    }

    fn work(&self, way: Way, pace: Pace) {
        let mut block = self.block();
        let start = Instant::now();
        // What was not to be had, and is given up.
        let mut forgone = 0;
        let counter = &self.counters[way as usize];
        for number in (0..self.blocks()).cycle() {
            let at = number * self.burn.block.bytes();
            while let Pace::PerSecond(size) = pace {
                let due = part_of(size.bytes(), start.elapsed());
                let done = counter.load(Ordering::Relaxed) + forgone;
                if self.stop.load(Ordering::Relaxed) || done <= due {
                    forgone +=
                        (due.saturating_sub(done)).saturating_sub(part_of(size.bytes(), DEBT));
                    break;
                }
                sleep(STEP);
            }
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let begun = Instant::now();
            match self.operate(way, &mut block, at) {
                Ok(()) => {
                    counter.fetch_add(self.burn.block.bytes(), Ordering::Relaxed);
                    self.operations.fetch_add(1, Ordering::Relaxed);
                    let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.slowest_us.fetch_max(took, Ordering::Relaxed);
                }
                Err(error) => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                    if let Ok(mut last) = self.error.lock() {
                        *last = Some(format!("{way:?}: {error}").to_lowercase());
                    }
                    sleep(AFTER_ERROR);
                }
            }
        }
    }

    fn operate(&self, way: Way, block: &mut [u8], at: u64) -> io::Result<()> {
        match way {
            Way::Read => self.file.read_exact_at(block, at)?,
            Way::Write => {
                self.file.write_all_at(block, at)?;
                if self.burn.sync {
                    self.file.sync_data()?;
                }
            }
        }
        self.drop_cache(at, self.burn.block.bytes());
        Ok(())
    }
}

/// What is due of so much a second.
fn part_of(per_second: u64, time: Duration) -> u64 {
    let due = u128::from(per_second) * time.as_nanos() / 1_000_000_000;
    u64::try_from(due).unwrap_or(u64::MAX)
}

/// Bytes that this process has had read from disks, and written to them (proc_pid_io(5)).
fn by_disks() -> (u64, u64) {
    let text = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let number = |name| crate::processes::field(&text, name).and_then(|value| value.parse().ok());
    (number("read_bytes").unwrap_or(0), number("write_bytes").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_grows_with_time() {
        assert_eq!(part_of(1000, Duration::from_millis(1500)), 1500);
        assert_eq!(part_of(u64::MAX, Duration::from_secs(9)), u64::MAX);
    }

    /// Never more than asked for; a busy machine may make it less.
    #[test]
    fn keeps_its_pace() {
        let burn = IoBurn {
            path: std::env::temp_dir().display().to_string(),
            read: Some("1Mi".parse().unwrap()),
            write: Some("max".parse().unwrap()),
            sync: false,
            block: "16Ki".parse().unwrap(),
            size: "256Ki".parse().unwrap(),
        };
        let mut busy = apply(&burn).unwrap();
        assert_eq!(busy.counts().threads, 2);
        sleep(Duration::from_millis(250));
        let usage = busy.usage();
        let (errors, left) = (busy.end(), busy.shared.file.metadata().unwrap().len());
        assert!(errors.is_empty() && left == 256 << 10, "{errors:?} {left}");
        let due = part_of(1 << 20, Duration::from_millis(usage.span_ms)) + (16 << 10);
        assert!(usage.read > 0 && usage.read <= due && usage.written > usage.read, "{usage:?}");
        assert_eq!(usage.failed, 0);
    }
}
