//! Sentences for people.

use std::fmt::Write as _;

use pod_chaos_protocol::{
    CallCounts, Event, FaultState, FaultStatus, Interface, Netem, PartitionMode, ProcessFault,
    ProcessInfo, ProcessStatus, Processes, Traffic,
};

use crate::{
    cluster::{Fate, Removed, RemovedBy, RestoredBy, Swap},
    plan::PodName,
};

/// An event as one line.
pub fn event(name: &PodName, event: &Event) -> String {
    let mut text = format!("pod/{name} ");
    let written = match event {
        Event::Hello { version, .. } => write!(text, "agent {version} answers"),
        Event::Probed { interfaces, backend, kernel } => {
            write!(text, "{}: {backend}, kernel {kernel}", names(interfaces))
        }
        Event::InForce { status } => write!(
            text,
            "{} on {} for {}{}: {} (fault {})",
            if status.state == FaultState::InForce { "in force" } else { "was in force" },
            names(&status.interfaces),
            seconds(status.age_ms + status.remaining_ms),
            // One that came with its agent has begun before anyone could ask.
            match (status.state, status.age_ms) {
                (FaultState::InForce, 100..) => format!(", since {}", seconds(status.age_ms)),
                _ => String::new(),
            },
            what(status),
            status.fault
        ),
        Event::Found { processes } => write!(text, "has {}", processes_of(processes)),
        Event::ProcessInForce { status } => write!(
            text,
            "in force on {} for {}: {} {} {} (fault {})",
            container(&status.target),
            seconds(status.age_ms + status.remaining_ms),
            status.doing,
            // Others are not hit themselves.
            if status.doing == ProcessFault::Pause { "of" } else { "by" },
            hit(status),
            status.fault
        ),
        Event::Signals { signals } => {
            let each = signals.iter().map(|it| {
                format!("{} to process {} {} ({})", it.signal, it.pid, it.name, it.disposition)
            });
            write!(text, "{}", each.collect::<Vec<_>>().join(", "))
        }
        Event::CpuUsed { phase, usage } => write!(text, "{phase}: {usage}"),
        Event::MemoryUsed { phase, usage } => write!(text, "{phase}: {usage}"),
        Event::DiskUsed { phase, usage } => write!(text, "{phase}: {usage}"),
        Event::IoUsed { phase, usage } => write!(text, "{phase}: {usage}"),
        Event::OutOfMemory { kills, processes } => {
            write!(text, "{}", out_of_memory(*kills, processes))
        }
        Event::Calls { counts } => write!(text, "{counts}"),
        Event::Ended { .. } => write_end(&mut text, event),
        Event::Resumed { probe, after_ms, passed_meanwhile } => {
            let when = after_ms.map_or_else(
                || format!("{probe} could not be reached again yet"),
                |ms| format!("{probe} was reached again {ms} ms after the end"),
            );
            let hint = "; it was reached meanwhile too: this traffic is not hit";
            write!(text, "{when}{}", if *passed_meanwhile > 0 { hint } else { "" })
        }
        Event::Retargeted { target, added, removed, addresses, skipped } => {
            let mut changed = write!(text, "{target} changed: {addresses} addresses");
            for (count, how) in [(*added, "new"), (*removed, "gone")] {
                if count > 0 {
                    changed = changed.and_then(|()| write!(text, ", {count} {how}"));
                }
            }
            for endpoint in skipped {
                changed = changed.and_then(|()| {
                    write!(text, "\n  left out: {endpoint}, which another fault hits")
                });
            }
            changed
        }
        Event::Kept { target, message } => {
            write!(text, "{target} stays what it was: {message}")
        }
        Event::Replaced { fault } => write!(text, "ended fault {fault}, which was in the way"),
        Event::Untold { fault, why } => {
            write!(text, "fault {fault} is carried by a process that does not tell of it: {why}")
        }
        Event::Killed { connections } => write!(text, "{connections} connections ended"),
        Event::Status { faults, processes } => match faults.len() + processes.len() {
            0 => text.write_str("nothing in force"),
            count => write!(text, "{count} faults in force"),
        },
        Event::Failed { failure } => write!(text, "failed: {failure}"),
        other => write!(text, "{other:?}"),
    };
    debug_assert!(written.is_ok(), "writing to a String does not fail");
    text
}

fn write_end(text: &mut String, event: &Event) -> std::fmt::Result {
    let Event::Ended { by, ran_ms, left, errors, .. } = event else { return Ok(()) };
    write!(
        text,
        "{}: ended by {by} after {}",
        if left.is_empty() && errors.is_empty() { "clean" } else { "NOT CLEAN" },
        seconds(*ran_ms),
    )?;
    if let Some(done) = done(event) {
        write!(text, ", {done}")?;
    }
    for left in left {
        write!(text, "\n  left behind: {left}")?;
    }
    for error in errors {
        write!(text, "\n  error: {error}")?;
    }
    Ok(())
}

/// What a fault that has ended has done, if it is one that counts packets or system calls.
pub fn done(ended: &Event) -> Option<String> {
    let Event::Ended { packets, delayed, dropped, calls, .. } = ended else { return None };
    let hit = packets.map(|packets| format!("{packets} packets hit"));
    let calls = calls.as_ref().map(ToString::to_string);
    let parts = [hit, some(*delayed, "delayed"), some(*dropped, "dropped"), calls];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// How many that was done to, unless it was none.
fn some(count: Option<u64>, what: &str) -> Option<String> {
    count.filter(|count| *count > 0).map(|count| format!("{count} {what}"))
}

/// The packets that a fault has hit, and what was done to them.
pub(super) fn packets(status: &FaultStatus) -> String {
    let hit = Some(format!("{} packets", status.packets));
    let parts = [hit, some(status.delayed, "delayed"), some(status.dropped, "dropped")];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// Whom the kernel has killed.
fn out_of_memory(kills: u64, processes: &[ProcessInfo]) -> String {
    let gone = processes.iter().map(|one| format!("{} {}", one.pid, one.name));
    let gone = gone.collect::<Vec<_>>().join(", ");
    let times = if kills == 1 { "once".to_owned() } else { format!("{kills} times") };
    let who = if gone.is_empty() { String::new() } else { format!(": {gone}") };
    format!("out of memory: the kernel has killed {times}{who}")
}

/// What became of a container, as one line.
pub fn fate(name: &PodName, fate: &Fate) -> String {
    let mut parts = Vec::new();
    match (fate.exit_code, &fate.reason) {
        (Some(code), Some(reason)) => parts.push(format!("ended with exit code {code} ({reason})")),
        (Some(code), None) => parts.push(format!("ended with exit code {code}")),
        (None, _) if fate.has_ended() => parts.push("ended".to_owned()),
        (None, _) => parts.push("has not ended".to_owned()),
    }
    parts.push(format!("restarts {} → {}", fate.restarts_before, fate.restarts_after));
    if let Some(down) = fate.down_s {
        parts.push(format!("down for {down} s"));
    }
    if let Some(ms) = fate.ready_after_ms {
        parts.push(format!("ready again {} after the signal", seconds(ms)));
    }
    if fate.stays_down {
        parts.push("stays down".to_owned());
    }
    format!("pod/{name} container {}: {}", fate.container, parts.join(", "))
}

/// What became of a pod that was made to go, as one line.
pub fn removed(name: &PodName, by: RemovedBy, removed: &Removed) -> String {
    let deed = match by {
        RemovedBy::Eviction => "evicted",
        RemovedBy::Deletion => "deleted",
    };
    let mut parts = vec![deed.to_owned()];
    parts.push(match removed.gone_after_ms {
        Some(ms) => format!("gone after {}", seconds(ms)),
        None => "not gone yet".to_owned(),
    });
    if let Some(successor) = &removed.successor {
        let ready = removed.ready_after_ms.map(|ms| format!("ready after {}", seconds(ms)));
        let ready = ready.unwrap_or_else(|| "not ready yet".to_owned());
        parts.push(format!("pod/{successor} in its place {ready}"));
    }
    format!("pod/{name} {}", parts.join(", "))
}

/// A pod's images were replaced, as one line.
pub fn swapped(name: &PodName, swap: &Swap) -> String {
    format!(
        "pod/{name} in force for {} s: {}, until job/{} puts them back (fault {})",
        swap.until - swap.since,
        images(swap),
        swap.job,
        swap.fault
    )
}

/// They were put back, as one line.
pub fn restored(name: &PodName, by: RestoredBy) -> String {
    let by = match by {
        RestoredBy::Job => "its Job",
        RestoredBy::Client => "this command",
    };
    format!("pod/{name} clean: images put back by {by}")
}

pub(super) fn images(swap: &Swap) -> String {
    let containers: Vec<_> = swap.images.keys().map(String::as_str).collect();
    format!("images of {} replaced", containers.join(", "))
}

/// What a fault does to what, in a few words.
pub fn what(status: &FaultStatus) -> String {
    let deed = match (&status.partition, &status.netem) {
        (Some(partition), _) => {
            let deed = match partition.mode {
                PartitionMode::Drop => "drop",
                PartitionMode::Reject => "reject",
                _ => "cut",
            };
            let opening = if partition.new_only { " new connections" } else { "" };
            format!("{deed}{opening}")
        }
        // The kernel always has a seed, whether somebody asked for it or not.
        (None, Some(netem)) => Netem { seed: None, ..netem.clone() }.to_string(),
        (None, None) => return "no qdisc any more".to_owned(),
    };
    // What is spared, the node first of all, would make it long.
    let traffic = status.traffic.clone().unwrap_or_default();
    format!("{deed} on {}", Traffic { exclude: Vec::new(), ..traffic })
}

pub(super) fn names(interfaces: &[Interface]) -> String {
    interfaces.iter().map(Interface::as_str).collect::<Vec<_>>().join(", ")
}

/// Whose processes are meant.
pub(super) fn container(target: &Processes) -> String {
    match &target.matching {
        Some(pattern) => format!("container {} (`{pattern}`)", target.container),
        None => format!("container {}", target.container),
    }
}

/// How many a fault on processes is done to.
pub(super) fn hit(status: &ProcessStatus) -> String {
    let (processes, threads) = (status.processes, status.threads);
    let calls = status.calls.as_ref().map_or((0, 0), CallCounts::total);
    let calls = match calls {
        (0, _) => String::new(),
        (seen, hit) => format!(", {hit} of {seen} calls"),
    };
    format!("{}, {}{calls}", counted(processes, "process", "es"), counted(threads, "thread", "s"))
}

pub(super) fn counted(count: u32, what: &str, plural: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { plural })
}

/// How many of the processes are named.
const NAMED: usize = 8;

fn processes_of(processes: &[ProcessInfo]) -> String {
    let named = processes.iter().take(NAMED).map(|one| format!("{} {}", one.pid, one.name));
    let named = named.collect::<Vec<_>>().join(", ");
    let count = u32::try_from(processes.len()).unwrap_or(u32::MAX);
    let rest = if processes.len() > NAMED { ", …" } else { "" };
    format!("{} to be hit: {named}{rest}", counted(count, "process", "es"))
}

/// Milliseconds as seconds.
pub(super) fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
