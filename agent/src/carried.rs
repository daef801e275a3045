//! A plan that came with the container: the agent acts on it at its start, long before an exec could
//! reach it. A `serve` that is then asked for the same plan joins it.
//!
//! What came of it is told by an abstract Unix socket that `wait` holds for as long as it lives: such a
//! name belongs to the pod's network namespace, needs no file, and goes with its process.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use pod_chaos_protocol::{Carried, Failure, FailureKind, FaultId, OWNER, PROTOCOL};

use crate::{apply, error::failure, waiting};

/// How long a `serve` waits for `wait` to be done with its plan. It takes milliseconds, or as long as
/// another agent holds the lock.
const PATIENCE: Duration = Duration::from_secs(6);
const RETRY: Duration = Duration::from_millis(3);

/// What came of a carried plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was put in force.
    Applied,
    /// It was not: it came too late, or it failed, and all was undone.
    Left,
}

impl Outcome {
    fn address(self, id: FaultId) -> io::Result<SocketAddr> {
        let word = match self {
            Self::Applied => "applied",
            Self::Left => "left",
        };
        SocketAddr::from_abstract_name(format!("{OWNER}-{id}-{word}"))
    }
}

/// Says what came of a plan, for as long as it is held.
#[derive(Debug)]
pub struct Mark(#[expect(dead_code, reason = "held, not used")] UnixDatagram);

/// Acts on the plan that this process was started with. What goes wrong is said on stderr, which is the
/// container's log; who asks for the same plan again is told.
pub fn carry_out(argument: &str) -> Option<Mark> {
    let carried: Carried = serde_json::from_str(argument)
        .inspect_err(|error| eprintln!("the plan cannot be read: {error}"))
        .ok()?;
    let id = carried.plan.id;
    let outcome = match act(&carried) {
        Ok(()) => Outcome::Applied,
        Err(failure) => {
            eprintln!("fault {id} was not put in force: {failure}");
            Outcome::Left
        }
    };
    let socket = outcome.address(id).and_then(|address| UnixDatagram::bind_addr(&address));
    socket.inspect_err(|error| eprintln!("telling what came of fault {id}: {error}")).ok().map(Mark)
}

fn act(carried: &Carried) -> Result<(), Failure> {
    let refuse = |message: String| Err(failure(FailureKind::BadRequest, message, None));
    if carried.protocol != PROTOCOL {
        return refuse(format!("its protocol is {}, not {PROTOCOL}", carried.protocol));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if !carried.is_fresh(now) {
        return refuse(format!(
            "it was to be put in force from {} to {} (seconds since 1970), and now it is {now}",
            carried.from, carried.until
        ));
    }
    // It may take longer than a plan holds, and what they stand for would be known to nobody else.
    if let Some(target) = carried.plan.traffic.targets().find(|target| target.is_open()) {
        return refuse(format!("`{}` is to be resolved by who stays with the fault", target.name));
    }
    apply::apply(&carried.plan, &mut |_| {}).map(drop)
}

/// What came of this plan, if it is one that this container's agent was given: waits until that has dealt
/// with it.
pub fn settled(id: FaultId) -> Result<Option<Outcome>, Failure> {
    let start = Instant::now();
    loop {
        let given = given().contains(&id);
        for outcome in [Outcome::Applied, Outcome::Left] {
            if is_marked(id, outcome) {
                return Ok(Some(outcome));
            }
        }
        if !given {
            return Ok(None);
        }
        if start.elapsed() > PATIENCE {
            let message =
                format!("the agent has been putting fault {id} in force for {PATIENCE:?}");
            return Err(failure(FailureKind::NotClean, message, None));
        }
        thread::sleep(RETRY);
    }
}

/// The plans that this container's agent was given.
pub fn given() -> Vec<FaultId> {
    waiting::find().into_iter().filter_map(|agent| Some(agent.carried?.plan.id)).collect()
}

/// Asks by connecting, which changes nothing: to bind would look like a mark to another who asks.
fn is_marked(id: FaultId, outcome: Outcome) -> bool {
    let connect = || UnixDatagram::unbound()?.connect_addr(&outcome.address(id)?);
    connect().is_ok()
}
