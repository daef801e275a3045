//! Faults on processes: this process carries each of them, from its start to its deadline.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use pod_chaos_protocol::{
    CallCounts, Ending, Event, Failure, FailureKind, FaultState, ProcessFault, ProcessPlan,
    ProcessStatus, Processes, Request,
};

use crate::{
    clock,
    error::failure,
    fault::{Cleared, burn_cpu, burn_io, burn_memory, fill_disk, pause, syscall},
    presence::{Presence, Visitor},
    processes,
    serve::{Conversation, Happening, say},
};

/// A fault that lasts as long as this process holds it.
pub trait Hold {
    /// Whom it is done to now.
    fn counts(&self) -> Counts;

    /// The system calls that it has counted, if it is about these.
    fn calls(&self) -> Option<CallCounts> {
        None
    }

    /// Looks after it: [`Self::bell`] rings, or [`Self::due_ms`] has come. `false` when nobody is left whom it is
    /// done to.
    fn tend(&mut self) -> bool;

    /// Can be read from when it has to be tended, if that is known at all.
    fn bell(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// When to be tended next without being asked, on the [`clock`].
    fn due_ms(&self) -> Option<u64> {
        None
    }

    /// Ends it; all steps are tried, and what went wrong or is left is told.
    fn release(&mut self) -> Cleared;
}

/// How many a fault is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Processes.
    pub processes: usize,
    /// Threads of them.
    pub threads: usize,
}

/// Puts a fault in force, reads it back, and stays with it to its end.
pub(crate) fn carry(conversation: &mut Conversation, plan: &ProcessPlan) -> Result<(), Failure> {
    let presence = claim(plan)?;
    let hold: Box<dyn Hold> = match &plan.fault {
        ProcessFault::Pause => {
            say_found(&plan.target)?;
            Box::new(pause::apply(&plan.target)?)
        }
        ProcessFault::BurnCpu(burn) => Box::new(burn_cpu::apply(burn)?),
        ProcessFault::BurnMemory(burn) => Box::new(burn_memory::apply(burn)?),
        ProcessFault::Syscall(fault) => {
            say_found(&plan.target)?;
            Box::new(syscall::apply(&plan.target, fault, plan.running_time.into())?)
        }
        ProcessFault::BurnIo(burn) => Box::new(burn_io::apply(burn)?),
        ProcessFault::FillDisk(fill) => Box::new(fill_disk::apply(fill)?),
        other => {
            let version = env!("CARGO_PKG_VERSION");
            let message = format!("this agent ({version}) does not know {other:?}");
            return Err(failure(FailureKind::BadRequest, message, None));
        }
    };
    let from_ms = clock::now_ms();
    let to_ms = from_ms.saturating_add(plan.running_time.as_nanos().div_ceil(1_000_000));
    let mut running = Running { plan, hold, from_ms, to_ms, visitors: Vec::new() };
    say(&Event::ProcessInForce { status: running.status() });
    let by = running.last(conversation, &presence);
    // Nobody is to find it any more once it is being ended.
    drop(presence);
    let ended = running.end(by);
    say(&ended);
    for visitor in &mut running.visitors {
        visitor.tell(&ended);
    }
    Ok(())
}

fn claim(plan: &ProcessPlan) -> Result<Presence, Failure> {
    Presence::claim(plan.id).map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            return failure(
                FailureKind::Conflict,
                format!("fault {} is in force already", plan.id),
                None,
            );
        }
        failure(
            FailureKind::Kernel,
            format!("failed to make fault {} known: {error}", plan.id),
            None,
        )
    })
}

/// Says whom it will be done to.
fn say_found(target: &Processes) -> Result<(), Failure> {
    let found = processes::find(target)?;
    say(&Event::Found { processes: found.iter().map(processes::Process::info).collect() });
    Ok(())
}

/// A fault in force.
struct Running<'a> {
    plan: &'a ProcessPlan,
    hold: Box<dyn Hold>,
    from_ms: u64,
    to_ms: u64,
    /// Who asked for its end, and is to be told.
    visitors: Vec<Visitor>,
}

impl Running<'_> {
    fn status(&self) -> ProcessStatus {
        let Counts { processes, threads } = self.hold.counts();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let now = clock::now_ms();
        ProcessStatus {
            fault: self.plan.id,
            state: FaultState::InForce,
            target: self.plan.target.clone(),
            doing: self.plan.fault.clone(),
            processes: number(processes),
            threads: number(threads),
            calls: self.hold.calls(),
            age_ms: now.saturating_sub(self.from_ms),
            remaining_ms: self.to_ms.saturating_sub(now),
        }
    }

    fn say_status(&self) -> Event {
        Event::Status { faults: Vec::new(), processes: vec![self.status()] }
    }

    /// Waits until it is to end.
    fn last(&mut self, conversation: &mut Conversation, presence: &Presence) -> Ending {
        let id = self.plan.id;
        loop {
            let until = self.hold.due_ms().map_or(self.to_ms, |due| due.min(self.to_ms));
            let others: Vec<_> = self.hold.bell().into_iter().chain([presence.as_fd()]).collect();
            // An error of poll itself must not leave the fault without an end.
            let happening = conversation.next(Some(until), &others).unwrap_or(Happening::Signal);
            match happening {
                Happening::Timeout if clock::now_ms() >= self.to_ms => return Ending::Deadline,
                Happening::Signal => return Ending::Request,
                Happening::Request(Ok(Request::Revert { fault }))
                    if fault.is_none_or(|of| of == id) =>
                {
                    return Ending::Request;
                }
                Happening::Request(Ok(Request::Status)) => say(&self.say_status()),
                Happening::Request(request) => {
                    let failure = request.err().unwrap_or_else(|| {
                        let message = format!(
                            "while fault {id} runs, this stream takes `revert` of it and `status`"
                        );
                        failure(FailureKind::BadRequest, message, None)
                    });
                    say(&Event::Failed { failure });
                }
                Happening::EndOfInput => {}
                Happening::Other | Happening::Timeout => {
                    if !self.hold.tend() {
                        return Ending::Gone;
                    }
                    if self.receive(presence) {
                        return Ending::Request;
                    }
                }
            }
        }
    }

    /// Answers other agents; `true` when one asks for the end.
    fn receive(&mut self, presence: &Presence) -> bool {
        let Some((request, mut visitor)) = presence.visitor() else { return false };
        match request {
            Request::Status => visitor.tell(&self.say_status()),
            Request::Revert { fault } if fault.is_none_or(|of| of == self.plan.id) => {
                self.visitors.push(visitor);
                return true;
            }
            _ => {}
        }
        false
    }

    fn end(&mut self, by: Ending) -> Event {
        let ran_ms = clock::now_ms().saturating_sub(self.from_ms);
        let Cleared { left, errors } = self.hold.release();
        let calls = self.hold.calls();
        let (packets, delayed, dropped) = (None, None, None);
        let fault = self.plan.id;
        Event::Ended { fault, by, ran_ms, packets, delayed, dropped, calls, left, errors }
    }
}
