//! From a plan to a fault in force, read back; and from a fault in force to the same.

use std::{io, time::Duration};

use pod_chaos_protocol::{
    Backend, Event, Failure, FailureKind, Fault, FaultId, FaultStatus, Interface, NetemFault, Plan,
};

use crate::{
    backend,
    error::{Doing, failure},
    fault::{emulator, label::Label, netem},
    interface,
    kernel::{self, Kernel},
    lock::Lock,
    netlink::nftables::Monitor,
    status::{self, Held},
    sweep,
};

/// Another agent needs a few milliseconds, and up to a second when it has packets to let out.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// A fault that is in force.
pub struct InForce {
    /// The way to the kernel.
    pub kernel: Kernel,
    /// What the fault says about itself.
    pub label: Label,
    /// As read back.
    pub status: FaultStatus,
    /// Tells when something happens to it; it has missed nothing since the fault was read back.
    pub monitor: Option<Monitor>,
}

/// Puts a fault in force and reads it back; undoes it when that fails. `say` is told what was found
/// before anything is changed.
pub fn apply(plan: &Plan, say: &mut dyn FnMut(Event)) -> Result<InForce, Failure> {
    match &plan.fault {
        Fault::Netem(fault) => apply_netem(plan, fault, say),
        other => Err(failure(
            FailureKind::BadRequest,
            format!("this agent ({}) does not know {other:?}", env!("CARGO_PKG_VERSION")),
            None,
        )),
    }
}

fn apply_netem(
    plan: &Plan,
    fault: &NetemFault,
    say: &mut dyn FnMut(Event),
) -> Result<InForce, Failure> {
    let _lock = take_lock()?;
    let mut kernel = Kernel::open()?;
    let held = status::scan(&mut kernel)?;
    let (live, cleared) = sweep::sweep(&mut kernel, held);
    sweep::report(&cleared);
    let (name, link) = interface::choose(&mut kernel, fault.interface.as_ref())?;
    refuse_conflict(&live, plan.id, &name)?;
    let backend = backend::choose(&mut kernel, fault.backend)?;
    let netem_plan =
        netem::Plan::new(plan.id, (name.clone(), &link), fault.netem.clone(), plan.running_time)?;
    say(probed(name, backend));
    // Each listens first, then reads back: what happens from here on is not missed.
    let (label, monitor) = match backend {
        Backend::NetdevEgress => {
            let applied = netem::apply(&mut kernel, &netem_plan)?;
            let monitor = monitor();
            netem::verify(&mut kernel, &netem_plan, &applied)?;
            (applied.gate.label, monitor)
        }
        Backend::Userspace => {
            let applied = emulator::apply(&mut kernel, &netem_plan)?;
            let monitor = monitor();
            emulator::verify(&mut kernel, &netem_plan, &applied)?;
            (applied.gate.label, monitor)
        }
        other => {
            let message = format!("this agent cannot do a fault by {other:?}");
            return Err(failure(FailureKind::BadRequest, message, None));
        }
    };
    let status = read_status(&mut kernel, plan.id)
        .map_err(|failure| netem::undone(&mut kernel, plan.id, failure))?;
    Ok(InForce { kernel, label, status, monitor })
}

/// Joins a fault that another process has put in force; it may have expired since.
pub fn join(id: FaultId, say: &mut dyn FnMut(Event)) -> Result<InForce, Failure> {
    let _lock = take_lock()?;
    let mut kernel = Kernel::open()?;
    let monitor = monitor();
    let held = status::scan(&mut kernel)?.into_iter().find(|fault| fault.id == id);
    let found = held.and_then(|fault| Some((fault.status()?, fault.label?)));
    let Some((status, label)) = found else {
        let message = format!(
            "fault {id} was in force and has ended; somebody cleared it before it could be read back"
        );
        return Err(failure(FailureKind::Gone, message, None));
    };
    say(probed(status.interface.clone(), status.backend));
    Ok(InForce { kernel, label, status, monitor })
}

fn probed(interface: Interface, backend: Backend) -> Event {
    Event::Probed { interface, backend, kernel: kernel::release() }
}

fn monitor() -> Option<Monitor> {
    Monitor::open().doing(|| "listen to nf_tables".to_owned()).ok()
}

/// Takes the right to change the pod's network.
pub fn take_lock() -> Result<Lock, Failure> {
    Lock::take(LOCK_PATIENCE).map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            let seconds = LOCK_PATIENCE.as_secs();
            let message =
                format!("another agent has been changing this pod's network for {seconds} s");
            return failure(FailureKind::Conflict, message, Some("try again"));
        }
        failure(FailureKind::Kernel, format!("failed to lock the pod's network: {error}"), None)
    })
}

fn refuse_conflict(live: &[Held], id: FaultId, interface: &Interface) -> Result<(), Failure> {
    let in_the_way =
        live.iter().find(|fault| fault.id == id || fault.interface().as_ref() == Some(interface));
    in_the_way.map_or(Ok(()), |fault| {
        let left = Duration::from_millis(fault.remaining_ms());
        let message = format!(
            "fault {} is in force on `{interface}` for another {:.1} s",
            fault.id,
            left.as_secs_f64()
        );
        let hint = "wait for its end, or revert it";
        Err(failure(FailureKind::Conflict, message, Some(hint)))
    })
}

fn read_status(kernel: &mut Kernel, id: FaultId) -> Result<FaultStatus, Failure> {
    let held = status::scan(kernel)?;
    held.iter().find(|fault| fault.id == id).and_then(Held::status).ok_or_else(|| {
        failure(
            FailureKind::Kernel,
            format!("fault {id} was cleared as soon as it was in force"),
            None,
        )
    })
}
