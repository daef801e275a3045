//! Two faults on one pod: side by side as long as no packet can be hit by both.

use std::time::Duration;

use pod_chaos_protocol::{Event, Failure, FailureKind, FaultId, Interface, Traffic};

use crate::{
    error::failure,
    fault::{gate, selection::Selection},
    kernel::Kernel,
    status::Held,
    sweep,
};

/// Those of `live` that may hit a packet that the new fault hits, or that have its id. Where that cannot be
/// told they are taken to be in the way.
pub fn find<'a>(
    live: &'a [Held],
    id: FaultId,
    interfaces: &[Interface],
    traffic: &Traffic,
) -> Vec<&'a Held> {
    let selection = Selection::new(traffic);
    let meets = |fault: &&Held| {
        // Without a label it is of another version, whose sets may mean something else.
        let (Some(gate), Some(label)) = (&fault.gate, &fault.label) else { return true };
        fault.id == id
            || (label.interfaces.iter().any(|one| interfaces.contains(one))
                && gate.selection().meets(&selection))
    };
    live.iter().filter(meets).collect()
}

/// Refuses a fault that would hit what others hit, naming them.
pub fn refuse(in_the_way: &[&Held]) -> Result<(), Failure> {
    let Some(fault) = in_the_way.first() else { return Ok(()) };
    let left = Duration::from_millis(fault.remaining_ms()).as_secs_f64();
    let interfaces: Vec<_> = fault.interfaces().iter().map(|name| format!("`{name}`")).collect();
    let more = match in_the_way.len() {
        1 => String::new(),
        count => format!(", and {} more", count - 1),
    };
    let message = format!(
        "fault {} is in force on {} for another {left:.1} s{more}",
        fault.id,
        interfaces.join(", "),
    );
    let hint = "wait for its end, revert it, or end it with --replace; faults that have no packet in \
                common can run side by side";
    Err(failure(FailureKind::Conflict, message, Some(hint)))
}

/// Refuses a fault by the agent itself whose packets would bear the same mark as those of another one: 26 bits
/// of the id are left in it.
pub fn refuse_same_mark(live: &[Held], id: FaultId) -> Result<(), Failure> {
    let same =
        |fault: &&Held| fault.emulator && fault.id != id && gate::hit(fault.id) == gate::hit(id);
    let Some(other) = live.iter().find(same) else { return Ok(()) };
    let message = format!("the packets of fault {id} could not be told from those of {}", other.id);
    Err(failure(FailureKind::Conflict, message, Some("try again: each fault has an id of its own")))
}

/// Ends a fault to make way for another.
pub fn replace(
    kernel: &mut Kernel,
    fault: &Held,
    say: &mut dyn FnMut(Event),
) -> Result<(), Failure> {
    let (id, cleared) = (fault.id, sweep::clear(kernel, fault.id));
    if cleared.is_clean() {
        say(Event::Replaced { fault: id });
        return Ok(());
    }
    let rest = [cleared.errors, cleared.left].concat().join("; ");
    let message = format!("fault {id} could not be cleared to make way: {rest}");
    Err(failure(FailureKind::NotClean, message, None))
}
