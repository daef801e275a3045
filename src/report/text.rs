//! Sentences and tables for people.

use std::fmt::Write as _;

use pod_chaos_protocol::{
    Event, FaultState, FaultStatus, Interface, Netem, PartitionMode, Traffic,
};

use crate::plan::PodName;

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
        Event::Ended { by, ran_ms, packets, left, errors, .. } => {
            let mut ended = write!(
                text,
                "{}: ended by {by} after {}, {packets} packets hit",
                if left.is_empty() && errors.is_empty() { "clean" } else { "NOT CLEAN" },
                seconds(*ran_ms),
            );
            for left in left {
                ended = ended.and_then(|()| write!(text, "\n  left behind: {left}"));
            }
            for error in errors {
                ended = ended.and_then(|()| write!(text, "\n  error: {error}"));
            }
            ended
        }
        Event::Replaced { fault } => write!(text, "ended fault {fault}, which was in the way"),
        Event::Killed { connections } => write!(text, "{connections} connections ended"),
        Event::Status { faults } if faults.is_empty() => text.write_str("nothing in force"),
        Event::Status { faults } => write!(text, "{} faults in force", faults.len()),
        Event::Failed { failure } => write!(text, "failed: {failure}"),
        other => write!(text, "{other:?}"),
    };
    debug_assert!(written.is_ok(), "writing to a String does not fail");
    text
}

/// A table of faults.
pub fn status(rows: &[(PodName, FaultStatus)]) -> String {
    let head = ["POD", "FAULT", "STATE", "INTERFACE", "WHAT", "AGE", "LEFT", "PACKETS"];
    let mut table = vec![head.map(str::to_owned)];
    table.extend(rows.iter().map(|(name, fault)| {
        [
            name.to_string(),
            fault.fault.to_string(),
            match fault.state {
                FaultState::InForce => "in force".to_owned(),
                _ => "expired".to_owned(),
            },
            names(&fault.interfaces),
            what(fault),
            seconds(fault.age_ms),
            seconds(fault.remaining_ms),
            fault.packets.to_string(),
        ]
    }));
    let mut text = String::new();
    for row in &table {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            let _ = write!(line, "{cell:width$}   ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
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

fn names(interfaces: &[Interface]) -> String {
    interfaces.iter().map(Interface::as_str).collect::<Vec<_>>().join(", ")
}

/// Milliseconds as seconds.
fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}
