//! Clears what faults leave behind whose agent died before it could.

use pod_chaos_protocol::FaultId;

use crate::{
    fault::{self, Cleared, emulator},
    kernel::Kernel,
    status::Held,
};

/// Clears one fault, in force or not.
pub fn clear(kernel: &mut Kernel, id: FaultId) -> Cleared {
    // Every kind of fault is made of the same parts, and so is what is left of an emulator that has died.
    if emulator::is_at_work(kernel, id).unwrap_or(false) {
        emulator::revert(kernel, id)
    } else {
        fault::clear::revert(kernel, id)
    }
}

/// Clears those of `held` that no longer hit anything, and returns the others. Only for who holds the
/// [`crate::lock::Lock`]: a link without a table may else be one that another agent is just making.
pub fn sweep(kernel: &mut Kernel, held: Vec<Held>) -> (Vec<Held>, Vec<(FaultId, Cleared)>) {
    let (live, expired): (Vec<_>, Vec<_>) = held.into_iter().partition(Held::is_live);
    let cleared = expired.into_iter().map(|fault| (fault.id, clear(kernel, fault.id))).collect();
    (live, cleared)
}

/// Says on stderr what could not be cleared.
pub fn report(cleared: &[(FaultId, Cleared)]) {
    for (id, cleared) in cleared {
        for problem in cleared.errors.iter().chain(&cleared.left) {
            eprintln!("clearing what is left of fault {id}: {problem}");
        }
    }
}
