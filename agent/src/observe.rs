//! What the container that this process is in uses, from `/proc` and its control group: nothing is changed, and no
//! capability is needed.

use std::{
    collections::BTreeMap,
    fs, io,
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use pod_chaos_protocol::{
    CallCount, Carriage, ContainerId, CpuUsage, Event, Failure, FailureKind, FaultId, Metrics,
    Observation, Request,
};

use crate::{
    cgroup::{Cpu, CpuTime, Memory, unreadable},
    clock,
    error::failure,
    presence,
    processes::{self, Process, field},
    serve::{Conversation, Happening, say},
};

/// Tells metrics until nobody listens any more, or the time is over.
pub(crate) fn observe(conversation: &mut Conversation, plan: &Observation) -> Result<(), Failure> {
    let ms = |time: pod_chaos_protocol::RunTime| time.as_nanos().div_ceil(1_000_000);
    let mut watch = Watch::begin(plan.container.clone()).map_err(|error| unreadable(&error))?;
    let start = clock::now_ms();
    let end = start.saturating_add(ms(plan.running_time));
    let mut next = start;
    loop {
        next = next.saturating_add(ms(plan.every));
        if next > end {
            return Ok(());
        }
        loop {
            match conversation.next(Some(next), &[]) {
                Ok(Happening::Timeout) => break,
                Ok(
                    Happening::Request(Ok(Request::Revert { fault: None }))
                    | Happening::EndOfInput
                    | Happening::Signal,
                )
                | Err(_) => return Ok(()),
                Ok(Happening::Request(_)) => {
                    let message = "while it observes, this stream takes `revert` only";
                    say(&Event::Failed {
                        failure: failure(FailureKind::BadRequest, message, None),
                    });
                }
                Ok(Happening::Other) => {}
            }
        }
        let metrics = watch.look().map_err(|error| unreadable(&error))?;
        say(&Event::Observed { metrics });
    }
}

/// A container that is looked at again and again.
#[derive(Debug)]
pub struct Watch {
    cpu: Cpu,
    memory: Memory,
    /// The container's id, if known.
    container: Option<ContainerId>,
    last: Look,
}

impl Watch {
    /// Of the container that this process is in, and that has this id.
    pub fn begin(container: Option<ContainerId>) -> io::Result<Self> {
        let (cpu, memory) = (Cpu::own()?, Memory::own()?);
        let last = Look::take(&cpu, container.as_ref())?;
        Ok(Self { cpu, memory, container, last })
    }

    /// What was used since the last look.
    pub fn look(&mut self) -> io::Result<Metrics> {
        let look = Look::take(&self.cpu, self.container.as_ref())?;
        let last = std::mem::replace(&mut self.last, look);
        let mut metrics = self.last.since(&last);
        metrics.memory_bytes = self.memory.charged()?;
        metrics.working_set_bytes = self.memory.used()?;
        Ok(metrics)
    }
}

/// What had been used at some time.
#[derive(Debug)]
struct Look {
    at: Instant,
    cpu: CpuTime,
    processes: usize,
    /// How often each thread gave up the processor, and how often it was taken from it.
    switches: BTreeMap<Pid, [u64; 2]>,
    /// Received and sent.
    carried: [Carriage; 2],
    /// System calls, by the faults that count them.
    calls: BTreeMap<(FaultId, String), CallCount>,
}

impl Look {
    fn take(cpu: &Cpu, container: Option<&ContainerId>) -> io::Result<Self> {
        let at = Instant::now();
        let processes = processes::beside();
        let threads = processes.iter().flat_map(|process| {
            process
                .threads()
                .into_iter()
                .filter_map(|thread| Some((thread, switches(process, thread)?)))
        });
        Ok(Self {
            at,
            cpu: cpu.time()?,
            processes: processes.len(),
            switches: threads.collect(),
            carried: carried(&fs::read_to_string("/proc/self/net/dev")?),
            calls: container.map(calls).unwrap_or_default(),
        })
    }

    fn since(&self, last: &Self) -> Metrics {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        // One that has ended since takes its counts with it, and a new one begins at none.
        let [voluntary_switches, involuntary_switches] = [0, 1].map(|kind| {
            let of = |(thread, counts): (&Pid, &[u64; 2])| {
                let before = last.switches.get(thread).map_or(0, |counts| counts[kind]);
                counts[kind].saturating_sub(before)
            };
            self.switches.iter().map(of).sum()
        });
        let [received, sent] = [0, 1].map(|way| {
            let (now, before) = (self.carried[way], last.carried[way]);
            Carriage {
                bytes: now.bytes.saturating_sub(before.bytes),
                packets: now.packets.saturating_sub(before.packets),
                dropped: now.dropped.saturating_sub(before.dropped),
            }
        });
        Metrics {
            cpu: CpuUsage {
                span_ms: ms(self.at - last.at),
                used_ms: ms(self.cpu.used.saturating_sub(last.cpu.used)),
                throttled_ms: ms(self.cpu.throttled.saturating_sub(last.cpu.throttled)),
            },
            memory_bytes: 0,
            working_set_bytes: 0,
            processes: number(self.processes),
            threads: number(self.switches.len()),
            voluntary_switches,
            involuntary_switches,
            received,
            sent,
            calls: self.calls_since(last),
        }
    }

    fn calls_since(&self, last: &Self) -> Vec<CallCount> {
        let none = CallCount::default();
        let since =
            |(key, count): (_, &CallCount)| count.since(last.calls.get(key).unwrap_or(&none));
        self.calls.iter().map(since).collect()
    }
}

/// What the faults have counted that are about system calls of this container.
fn calls(container: &ContainerId) -> BTreeMap<(FaultId, String), CallCount> {
    let faults = presence::statuses().0.into_iter().filter(|fault| fault.target.id == *container);
    let counts = faults.flat_map(|fault| {
        let calls = fault.calls.map(|counts| counts.calls).unwrap_or_default();
        calls.into_iter().map(move |count| ((fault.fault, count.call.clone()), count))
    });
    counts.collect()
}

fn switches(process: &Process, thread: Pid) -> Option<[u64; 2]> {
    let status = fs::read_to_string(format!("/proc/{}/task/{thread}/status", process.pid)).ok()?;
    let count = |name| field(&status, name)?.parse().ok();
    Some([count("voluntary_ctxt_switches")?, count("nonvoluntary_ctxt_switches")?])
}

/// What all interfaces but the loopback one have received and sent, as `/proc/net/dev` has it (proc_pid_net(5)):
/// eight columns for each way, the first four of which are bytes, packets, errors and drops.
fn carried(devices: &str) -> [Carriage; 2] {
    let mut sums = [Carriage::default(); 2];
    for line in devices.lines() {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> =
            numbers.split_whitespace().map(|number| number.parse().unwrap_or(0)).collect();
        for (sum, of) in sums.iter_mut().zip(numbers.chunks(8)) {
            if let [bytes, packets, _, dropped, ..] = of {
                sum.bytes += bytes;
                sum.packets += packets;
                sum.dropped += dropped;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_added_up_but_the_loopback_one() {
        let devices = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 900 9 0 0 0 0 0 0 900 9 0 0 0 0 0 0
  eth0: 100 1 0 2 0 0 0 0 300 3 0 4 0 0 0 0
  net1:  10 1 0 0 0 0 0 0  20 2 0 0 0 0 0 0
";
        let [received, sent] = carried(devices);
        assert_eq!((received.bytes, received.packets, received.dropped), (110, 2, 2));
        assert_eq!((sent.bytes, sent.packets, sent.dropped), (320, 5, 4));
    }

    #[test]
    fn the_switches_of_new_threads_count_and_those_of_old_ones_only_since() {
        let look = |switches: &[(i32, [u64; 2])]| Look {
            at: Instant::now(),
            cpu: CpuTime::default(),
            processes: 1,
            switches: switches.iter().map(|(pid, counts)| (Pid::from_raw(*pid), *counts)).collect(),
            carried: Default::default(),
            calls: BTreeMap::new(),
        };
        let last = look(&[(1, [10, 1]), (2, [50, 0])]);
        let metrics = look(&[(1, [14, 2]), (3, [5, 0])]).since(&last);
        assert_eq!((metrics.voluntary_switches, metrics.involuntary_switches), (9, 1));
        assert_eq!(metrics.threads, 2);
    }
}
