//! What the threads of a fault have done to packets, for whoever asks: `status` is another process, and most often
//! in another container.
//!
//! The first of the threads listens at an abstract Unix socket with the fault's id in its name, which belongs to
//! the pod's network namespace and goes with its process, as the fault does. Whoever connects is told two numbers.
//! Anyone in the pod may ask; and may be there first: then the fault goes on without being counted.

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use pod_chaos_protocol::FaultId;

use crate::fault::{counts::Done, table_name};

/// For how long an answer may take: the thread that gives it has packets to send, and may hang.
const PATIENCE: Duration = Duration::from_millis(500);
/// Two numbers of 20 digits, a space and the end of the line.
const ANSWER_MAX: u64 = 42;

/// The faults of this process: they are known when nobody listens any more.
static OWN: Mutex<Vec<(FaultId, Vec<Arc<Tally>>)>> = Mutex::new(Vec::new());

/// What one thread has done so far.
#[derive(Debug, Default)]
pub struct Tally {
    delayed: AtomicU64,
    dropped: AtomicU64,
}

impl Tally {
    /// By the thread that counts.
    pub fn set(&self, done: Done) {
        self.delayed.store(done.delayed, Ordering::Relaxed);
        self.dropped.store(done.dropped, Ordering::Relaxed);
    }
}

fn sum(tallies: &[Arc<Tally>]) -> Done {
    let add = |done: Done, one: &Arc<Tally>| Done {
        delayed: done.delayed + one.delayed.load(Ordering::Relaxed),
        dropped: done.dropped + one.dropped.load(Ordering::Relaxed),
    };
    tallies.iter().fold(Done::default(), add)
}

fn address(id: FaultId) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("{}-counts", table_name(id)))
}

/// Tells of all threads of a fault.
#[derive(Debug)]
pub struct Teller {
    tallies: Vec<Arc<Tally>>,
    listener: UnixListener,
}

impl Teller {
    /// Of a fault of this process.
    pub fn new(id: FaultId, tallies: &[Arc<Tally>]) -> io::Result<Self> {
        OWN.lock().unwrap_or_else(PoisonError::into_inner).push((id, tallies.to_vec()));
        let listener = UnixListener::bind_addr(&address(id)?)?;
        listener.set_nonblocking(true)?;
        Ok(Self { tallies: tallies.to_vec(), listener })
    }

    /// Answers all who have connected. It waits for nobody: so little always has room.
    pub fn answer(&self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let Done { delayed, dropped } = sum(&self.tallies);
            let _ = stream.set_nonblocking(true);
            let _ = stream.write_all(format!("{delayed} {dropped}\n").as_bytes());
        }
    }
}

impl AsFd for Teller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// What the threads of this fault have done; `None` when they have ended with their process.
pub fn ask(id: FaultId) -> Option<Done> {
    let own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, tallies)) = own.iter().rfind(|(of, _)| *of == id) {
        return Some(sum(tallies));
    }
    drop(own);
    let stream = UnixStream::connect_addr(&address(id).ok()?).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer).ok()?;
    read(&answer)
}

fn read(answer: &str) -> Option<Done> {
    let (delayed, dropped) = answer.trim_end().split_once(' ')?;
    Some(Done { delayed: delayed.parse().ok()?, dropped: dropped.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_told_the_sum() {
        let id = FaultId::new(std::process::id());
        let tallies = [Arc::new(Tally::default()), Arc::new(Tally::default())];
        let teller = Teller::new(id, &tallies).unwrap();
        tallies[0].set(Done { delayed: 5, dropped: 2 });
        tallies[1].set(Done { delayed: u64::MAX - 5, dropped: 1 });
        let want = Done { delayed: u64::MAX, dropped: 3 };
        assert_eq!(ask(id), Some(want));
        // As from another process.
        let mut stream = UnixStream::connect_addr(&address(id).unwrap()).unwrap();
        teller.answer();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(read(&answer), Some(want));
        drop(teller);
        assert_eq!(ask(id), Some(want), "after the end");
        assert_eq!(ask(FaultId::new(0)), None);
    }

    #[test]
    fn no_answer_is_none() {
        for answer in ["", "5", "5 ", "five 6\n", "1 2 3"] {
            assert_eq!(read(answer), None, "{answer:?}");
        }
    }
}
