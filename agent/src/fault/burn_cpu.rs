//! Processor time is used up in the control group that this process is in.
//!
//! The plugin starts this process in the target container, whose limit then holds for both. Threads work for a
//! part of the time, each by its own clock of processor time, so that others on the processor do not make it less:
//! what could not be had is made up for. They are part of this process, and end with it, however it ends.

use std::{
    fs,
    hint::black_box,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

use nix::{
    time::{ClockId, clock_gettime},
    unistd::{SysconfVar, sysconf},
};
use pod_chaos_protocol::{
    CpuBurn, CpuLoad, CpuUsage, CpuWhole, Event, Failure, FailureKind, Phase,
};

use super::Cleared;
use crate::{
    carry::{Counts, Hold},
    cgroup::{Cpu, CpuTime, unreadable},
    error::failure,
    serve::say,
};

/// How long the control group is looked at before and after.
const LOOK: Duration = Duration::from_millis(250);
/// A thread works and pauses for about that long at a time.
const SLICE: Duration = Duration::from_millis(5);
/// What a thread may be behind and make up for later. A limit that is reached must not be followed by a storm.
const DEBT: Duration = Duration::from_millis(200);
/// How long the first thread may take to be seen at work.
const PATIENCE: Duration = Duration::from_secs(2);
/// More threads than that help nobody.
const WORKERS_MAX: f64 = 1024.0;

/// Threads that work.
#[derive(Debug)]
pub struct Burning {
    cpu: Cpu,
    start: Mark,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

/// Starts to work, and sees in the control group that it does.
pub fn apply(burn: &CpuBurn) -> Result<Burning, Failure> {
    let reading = |error: io::Error| unreadable(&error);
    let cpu = Cpu::own().map_err(reading)?;
    let cores = cores(burn.load, cpu.limit().map_err(reading)?)?;
    let before = Mark::set(&cpu).map_err(reading)?;
    sleep(LOOK);
    let start = Mark::set(&cpu).map_err(reading)?;
    say(&Event::CpuUsed { phase: Phase::Before, usage: before.until(&start) });
    // Who runs out of memory then is not the target. It may be forbidden, and is only a courtesy.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let mut burning = Burning { cpu, start, stop: Arc::default(), workers: Vec::new() };
    let done = burning.begin(cores, burn.ramp.map(Duration::from)).and_then(|()| burning.verify());
    if let Err(failure) = done {
        burning.end();
        return Err(failure);
    }
    Ok(burning)
}

/// How many processors are to be kept busy.
fn cores(load: CpuLoad, limit: Option<f64>) -> Result<f64, Failure> {
    let (percent, of) = match load {
        CpuLoad::Workers(count) => return Ok(f64::from(count.get())),
        CpuLoad::Share { percent, of } => (percent, of),
    };
    let whole = match of {
        CpuWhole::Core => 1.0,
        CpuWhole::Node => {
            let count = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
            count.and_then(|count| u32::try_from(count).ok()).map_or(1.0, f64::from)
        }
        CpuWhole::Limit => limit.ok_or_else(|| {
            let hint = "--of core or --of node names another whole, --workers a number of threads";
            failure(
                FailureKind::Unsupported,
                "the container has no limit of processor time",
                Some(hint),
            )
        })?,
    };
    Ok(percent.fraction() * whole)
}

impl Burning {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 1024")]
    fn begin(&mut self, cores: f64, ramp: Option<Duration>) -> Result<(), Failure> {
        let count = cores.ceil().clamp(1.0, WORKERS_MAX);
        let pace = Pace { duty: (cores / count).min(1.0), ramp };
        for number in 0..count as u32 {
            let stop = Arc::clone(&self.stop);
            let worker = std::thread::Builder::new().name(format!("burn-{number}"));
            let worker = worker.spawn(move || work(pace, &stop)).map_err(|error| {
                failure(
                    FailureKind::Kernel,
                    format!("failed to start thread {number}: {error}"),
                    None,
                )
            })?;
            self.workers.push(worker);
        }
        Ok(())
    }

    /// Waits until the control group has been charged for something.
    fn verify(&self) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let now = self.cpu.time().unwrap_or_default();
            if now.used > self.start.time.used {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let message =
                    "the container's control group is not charged for what the threads use";
                return Err(failure(FailureKind::Kernel, message, None));
            }
            sleep(SLICE);
        }
    }

    fn end(&mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let workers = std::mem::take(&mut self.workers).into_iter();
        workers
            .filter_map(|worker| worker.join().err().map(|_| "a thread has panicked".to_owned()))
            .collect()
    }
}

impl Hold for Burning {
    fn counts(&self) -> Counts {
        Counts { processes: 1, threads: self.workers.len() }
    }

    fn tend(&mut self) -> bool {
        true
    }

    fn release(&mut self) -> Cleared {
        let errors = self.end();
        if let Ok(end) = Mark::set(&self.cpu) {
            say(&Event::CpuUsed { phase: Phase::During, usage: self.start.until(&end) });
            sleep(LOOK);
            if let Ok(after) = Mark::set(&self.cpu) {
                say(&Event::CpuUsed { phase: Phase::After, usage: end.until(&after) });
            }
        }
        Cleared { errors, ..Cleared::default() }
    }
}

/// What had been used at some time.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    time: CpuTime,
}

impl Mark {
    fn set(cpu: &Cpu) -> io::Result<Self> {
        Ok(Self { time: cpu.time()?, at: Instant::now() })
    }

    fn until(&self, later: &Self) -> CpuUsage {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        CpuUsage {
            span_ms: ms(later.at - self.at),
            used_ms: ms(later.time.used.saturating_sub(self.time.used)),
            throttled_ms: ms(later.time.throttled.saturating_sub(self.time.throttled)),
        }
    }
}

/// Which part of the time a thread works.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pace {
    /// From 0 to 1.
    duty: f64,
    /// In which time it grows to that.
    ramp: Option<Duration>,
}

impl Pace {
    /// How long it should have worked by then: the integral of a slope, then of a level.
    fn due(self, elapsed: Duration) -> Duration {
        let ramp = self.ramp.unwrap_or_default();
        let sloped = elapsed.min(ramp).as_secs_f64();
        let slope = if ramp.is_zero() { 0.0 } else { sloped * sloped / (2.0 * ramp.as_secs_f64()) };
        Duration::from_secs_f64(self.duty * (slope + elapsed.saturating_sub(ramp).as_secs_f64()))
    }
}

fn work(pace: Pace, stop: &AtomicBool) {
    let (start, used_before) = (Instant::now(), used());
    // What was not to be had, and is given up.
    let mut forgone = Duration::ZERO;
    while !stop.load(Ordering::Relaxed) {
        let done = used().saturating_sub(used_before) + forgone;
        let due = pace.due(start.elapsed());
        let Some(behind) = due.checked_sub(done).filter(|behind| !behind.is_zero()) else {
            sleep(SLICE);
            continue;
        };
        forgone += behind.saturating_sub(DEBT);
        spin(behind.min(SLICE));
    }
}

/// Works for that much processor time.
fn spin(time: Duration) {
    let end = used() + time;
    while used() < end {
        for number in 0..2_000u32 {
            black_box(number);
        }
    }
}

/// Processor time of this thread.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ramp_is_half_of_the_level() {
        let pace = Pace { duty: 0.5, ramp: Some(Duration::from_secs(4)) };
        let due = |seconds| pace.due(Duration::from_secs(seconds)).as_millis();
        assert_eq!([due(0), due(2), due(4), due(6)], [0, 250, 1000, 2000]);
        let level = Pace { duty: 0.5, ramp: None };
        assert_eq!(level.due(Duration::from_secs(6)).as_millis(), 3000);
    }

    #[test]
    fn amounts_are_turned_into_processors() {
        let share = |of| CpuLoad::Share { percent: "50%".parse().unwrap(), of };
        assert!((cores(share(CpuWhole::Limit), Some(0.5)).unwrap() - 0.25).abs() < 1e-6);
        assert!((cores(share(CpuWhole::Core), None).unwrap() - 0.5).abs() < 1e-6);
        let refused = cores(share(CpuWhole::Limit), None).unwrap_err();
        assert_eq!(refused.kind, FailureKind::Unsupported);
    }

    /// Never more than asked for; a busy machine may make it less.
    #[test]
    fn a_thread_keeps_its_pace() {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Pace { duty: 0.2, ramp: None };
        let worker = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let (start, before) = (Instant::now(), used());
                work(asked, &stop);
                used().saturating_sub(before).as_secs_f64() / start.elapsed().as_secs_f64()
            })
        };
        sleep(Duration::from_millis(400));
        stop.store(true, Ordering::Relaxed);
        let share = worker.join().unwrap();
        assert!((0.02..0.25).contains(&share), "{share}");
    }
}
