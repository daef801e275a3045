//! From a plan to a fault in force, read back; and from a fault in force to the same.

use std::{io, time::Duration};

use pod_chaos_protocol::{
    Backend, Cidr, Event, Failure, FailureKind, Fault, FaultId, FaultStatus, Interface,
    PartitionMode, Plan, Traffic,
};

use crate::{
    backend,
    error::{Doing, failure},
    fault::{clear::undone, connections, emulator, label::Label, netem, partition, prio},
    interface,
    kernel::{self, Kernel},
    lock::Lock,
    netlink::{link::Link, nftables::Monitor},
    overlap, resolve, status, sweep,
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
    /// Which traffic was asked for, with what its names stand for.
    pub traffic: Traffic,
    /// Tells when something happens to it; it has missed nothing since the fault was read back.
    pub monitor: Option<Monitor>,
}

/// Puts a fault in force and reads it back; undoes it when that fails. `say` is told what was found
/// before anything is changed.
pub fn apply(plan: &Plan, say: &mut dyn FnMut(Event)) -> Result<InForce, Failure> {
    let mut plan = resolved(plan)?;
    let _lock = take_lock()?;
    let mut kernel = Kernel::open()?;
    spare_gateways(&mut kernel, &mut plan.traffic)?;
    let plan = &plan;
    let held = status::scan(&mut kernel)?;
    let (live, cleared) = sweep::sweep(&mut kernel, held);
    sweep::report(&cleared);
    let interfaces = interface::choose(&mut kernel, &plan.traffic.interfaces)?;
    let prepared = Prepared::new(&mut kernel, plan, interfaces)?;
    if prepared.backend() == Backend::Userspace {
        overlap::refuse_same_mark(&live, plan.id)?;
    }
    let in_the_way = overlap::find(&live, plan.id, &prepared.interfaces(), &plan.traffic);
    if !plan.replace || in_the_way.iter().any(|fault| fault.id == plan.id) {
        overlap::refuse(&in_the_way)?;
    }
    say(prepared.probed());
    for fault in in_the_way {
        overlap::replace(&mut kernel, fault, say)?;
    }
    prepared.put_in_force(kernel, &plan.traffic, say)
}

/// The plan with its names looked up, before anything is locked: that may take its time.
fn resolved(plan: &Plan) -> Result<Plan, Failure> {
    let mut plan = plan.clone();
    // Before anybody is asked in vain.
    plan.traffic.check().map_err(|error| partition::bad_traffic(&error))?;
    resolve::fill(&mut plan.traffic)?;
    plan.traffic.check().map_err(|error| partition::bad_traffic(&error))?;
    Ok(plan)
}

/// Who spares the node spares it under all of its addresses.
fn spare_gateways(kernel: &mut Kernel, traffic: &mut Traffic) -> Result<(), Failure> {
    if !traffic.spare_node.is_empty() {
        traffic.spare_node.extend(interface::gateways(kernel)?.into_iter().map(Cidr::from));
        traffic.check().map_err(|error| partition::bad_traffic(&error))?;
    }
    Ok(())
}

/// A fault that can be made, as far as is known without trying.
enum Prepared {
    Netem(netem::Plan, Backend),
    Prio(prio::Plan),
    Emulated(netem::Plan),
    Partition(partition::Plan),
}

impl Prepared {
    fn new(
        kernel: &mut Kernel,
        plan: &Plan,
        interfaces: Vec<(Interface, Link)>,
    ) -> Result<Self, Failure> {
        let (id, traffic, time) = (plan.id, plan.traffic.clone(), plan.running_time);
        match &plan.fault {
            Fault::Netem(fault) => {
                let directions = traffic.directions();
                let backend = backend::choose(kernel, fault.backend, &directions)?;
                let plan = netem::Plan::new(id, interfaces, traffic, fault.netem.clone(), time)?;
                match backend {
                    Backend::Userspace => return Ok(Self::Emulated(plan)),
                    Backend::Prio => return prio::Plan::new(plan).map(Self::Prio),
                    _ => {}
                }
                if backend != Backend::by_netem(&directions) {
                    let message = format!("this agent cannot do such a fault by {backend:?}");
                    return Err(failure(FailureKind::BadRequest, message, None));
                }
                Ok(Self::Netem(plan, backend))
            }
            Fault::Partition(fault) => {
                partition::Plan::new(id, interfaces, traffic, *fault, time).map(Self::Partition)
            }
            other => Err(failure(
                FailureKind::BadRequest,
                format!("this agent ({}) does not know {other:?}", env!("CARGO_PKG_VERSION")),
                None,
            )),
        }
    }

    fn interfaces(&self) -> Vec<Interface> {
        let interfaces = match self {
            Self::Netem(plan, _) | Self::Emulated(plan) => &plan.interfaces,
            Self::Prio(plan) => plan.interfaces(),
            Self::Partition(plan) => &plan.interfaces,
        };
        interfaces.iter().map(|(name, _)| name.clone()).collect()
    }

    fn backend(&self) -> Backend {
        match self {
            Self::Netem(_, backend) => *backend,
            Self::Emulated(_) => Backend::Userspace,
            Self::Prio(_) => Backend::Prio,
            Self::Partition(plan) => match plan.partition.mode {
                PartitionMode::Reject => Backend::InetReject,
                _ => Backend::NetdevDrop,
            },
        }
    }

    fn probed(&self) -> Event {
        probed(self.interfaces(), self.backend())
    }

    fn put_in_force(
        self,
        mut kernel: Kernel,
        traffic: &Traffic,
        say: &mut dyn FnMut(Event),
    ) -> Result<InForce, Failure> {
        let kernel_now = &mut kernel;
        let (id, monitor) = match &self {
            // Each listens first, then reads back: what happens from here on is not missed.
            Self::Netem(plan, _) => {
                let applied = netem::apply(kernel_now, plan)?;
                let monitor = monitor();
                netem::verify(kernel_now, plan, &applied)?;
                (plan.id, monitor)
            }
            Self::Prio(plan) => {
                let applied = prio::apply(kernel_now, plan)?;
                let monitor = monitor();
                prio::verify(kernel_now, plan, &applied)?;
                (plan.id(), monitor)
            }
            Self::Emulated(plan) => {
                let applied = emulator::apply(kernel_now, plan)?;
                let monitor = monitor();
                emulator::verify(kernel_now, plan, &applied)?;
                (plan.id, monitor)
            }
            Self::Partition(plan) => {
                let gate = partition::apply(kernel_now, plan)?;
                let monitor = monitor();
                partition::verify(kernel_now, plan, &gate)?;
                if plan.partition.kill_connections {
                    let links: Vec<_> =
                        plan.interfaces.iter().map(|(_, link)| link.index).collect();
                    let killed = connections::kill(kernel_now, &gate.selection, &links);
                    let connections =
                        killed.map_err(|failure| undone(kernel_now, plan.id, failure))?;
                    say(Event::Killed { connections });
                }
                (plan.id, monitor)
            }
        };
        let (status, label) =
            read_back(kernel_now, id).map_err(|failure| undone(kernel_now, id, failure))?;
        Ok(InForce { kernel, label, status, traffic: traffic.clone(), monitor })
    }
}

/// Joins a fault that another process has put in force; it may have expired since.
pub fn join(plan: &Plan, say: &mut dyn FnMut(Event)) -> Result<InForce, Failure> {
    let id = plan.id;
    let _lock = take_lock()?;
    let mut kernel = Kernel::open()?;
    let monitor = monitor();
    let mut traffic = plan.traffic.clone();
    spare_gateways(&mut kernel, &mut traffic)?;
    let Some((status, label)) = find(&mut kernel, id)? else {
        let message = format!(
            "fault {id} was in force and has ended; somebody cleared it before it could be read back"
        );
        return Err(failure(FailureKind::Gone, message, None));
    };
    say(probed(status.interfaces.clone(), status.backend));
    Ok(InForce { kernel, label, status, traffic, monitor })
}

fn probed(interfaces: Vec<Interface>, backend: Backend) -> Event {
    Event::Probed { interfaces, backend, kernel: kernel::release() }
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

/// What the kernel holds of a fault that has just been put in force.
fn read_back(kernel: &mut Kernel, id: FaultId) -> Result<(FaultStatus, Label), Failure> {
    find(kernel, id)?.ok_or_else(|| {
        failure(
            FailureKind::Kernel,
            format!("fault {id} was cleared as soon as it was in force"),
            None,
        )
    })
}

fn find(kernel: &mut Kernel, id: FaultId) -> Result<Option<(FaultStatus, Label)>, Failure> {
    let held = status::scan(kernel)?.into_iter().find(|fault| fault.id == id);
    Ok(held.and_then(|fault| Some((fault.status()?, fault.label?))))
}
