//! Clearing a fault of any kind, by the id in the names of what it is made of: of this process or another
//! one, in force or expired, whole or half made.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use pod_chaos_protocol::{Failure, FailureKind, FaultId};

use super::{Cleared, gate, netem::TBF, owner_of, prio};
use crate::{
    error::{Doing, KernelError, failure},
    kernel::Kernel,
    netlink::{
        link::{self, Link},
        qdisc::{self, Qdisc},
    },
};

/// Packets that a link still holds at the end are let out at their time, for at most this long.
const DRAIN_MAX: Duration = Duration::from_secs(1);
const DRAIN_STEP: Duration = Duration::from_millis(5);

/// Ends the fault and clears what it has made. What is not there is fine.
pub fn revert(kernel: &mut Kernel, id: FaultId) -> Cleared {
    let mut cleared = Cleared::default();
    let mut note = |result: Result<(), KernelError>| {
        let done = result.is_ok();
        cleared.errors.extend(result.err().map(|error| error.to_string()));
        done
    };
    // The way in is closed first, and the way out only when the packets on their way have taken it.
    note(gate::close(kernel, id));
    let closed =
        gate::read_live(kernel, id).is_ok_and(|live| live.is_none_or(|live| live.is_empty()));
    let links = own_links(kernel, id).unwrap_or_default();
    let queues = prio::queues(kernel, id);
    let queues = queues.map_err(|error| note(Err(error))).unwrap_or_default();
    if closed && !(links.is_empty() && queues.is_empty()) {
        drain(kernel, &[&links[..], &queues].concat());
    }
    // The table claims them: it goes after them.
    for link in &queues {
        note(prio::remove(kernel, link));
    }
    let removed = note(gate::remove(kernel, id));
    // The kernel drops what an open gate hands to a link that is gone.
    for link in links.iter().filter(|_| closed || removed) {
        match kernel.route.request(&link::delete(link.index)) {
            // The other one of the pair went with the first.
            Err(refusal) if refusal.errno == Errno::ENODEV => {}
            deleted => {
                note(deleted.doing(|| format!("delete the link {}", link.name)));
            }
        }
    }
    match gate::left(kernel, id) {
        Ok(tables) => cleared.left.extend(tables),
        Err(error) => cleared.errors.push(error.to_string()),
    }
    match prio::queues(kernel, id) {
        Ok(queues) => cleared.left.extend(queues.iter().map(prio::name)),
        Err(error) => cleared.errors.push(error.to_string()),
    }
    match own_links(kernel, id) {
        Ok(links) => cleared.left.extend(links.iter().map(|link| format!("link {}", link.name))),
        Err(error) => cleared.errors.push(error.to_string()),
    }
    cleared
}

/// Undoes what was begun, and says so when that fails too.
pub fn undone(kernel: &mut Kernel, id: FaultId, failure: Failure) -> Failure {
    let cleared = revert(kernel, id);
    if cleared.is_clean() {
        return failure;
    }
    let rest = [cleared.errors, cleared.left].concat().join("; ");
    Failure {
        kind: FailureKind::NotClean,
        message: format!("{}; and undoing it failed: {rest}", failure.message),
        hint: failure.hint,
    }
}

/// Undoes the fault when the kernel does not hold what was asked for.
pub fn verified(
    kernel: &mut Kernel,
    id: FaultId,
    compared: Result<Vec<String>, Failure>,
) -> Result<(), Failure> {
    let compared = compared.and_then(|differences| {
        if differences.is_empty() {
            return Ok(());
        }
        let message =
            format!("the kernel does not hold what was asked for: {}", differences.join("; "));
        Err(failure(FailureKind::Kernel, message, None))
    });
    compared.map_err(|failure| undone(kernel, id, failure))
}

/// Those of the fault's own links that are there.
pub fn own_links(kernel: &mut Kernel, id: FaultId) -> Result<Vec<Link>, KernelError> {
    let links = link::list(&mut kernel.route).doing(|| "list the interfaces".to_owned())?;
    Ok(links.into_iter().filter(|link| owner_of(link) == Some(id)).collect())
}

/// The qdiscs of a link.
pub fn list_qdiscs(kernel: &mut Kernel, link: i32) -> Result<Vec<Qdisc>, KernelError> {
    qdisc::list(&mut kernel.route, link).doing(|| format!("list the qdiscs of link {link}"))
}

/// Waits until the links hold no packets: without a way out they would be lost.
fn drain(kernel: &mut Kernel, links: &[Link]) {
    let start = Instant::now();
    let mut holds_packets = || {
        links.iter().any(|link| {
            let qdiscs = list_qdiscs(kernel, link.index).unwrap_or_default();
            qdiscs.iter().any(|qdisc| qdisc.handle == TBF && qdisc.stats.queued > 0)
        })
    };
    while start.elapsed() < DRAIN_MAX && holds_packets() {
        thread::sleep(DRAIN_STEP);
    }
    // The last ones have left the qdisc, and wait for the kernel to receive them at the other end.
    thread::sleep(DRAIN_STEP);
}
