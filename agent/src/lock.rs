//! One agent at a time changes the pod's network.
//!
//! The lock is an abstract Unix socket: such names belong to a network namespace, which is exactly what
//! is to be guarded, they need no file, and the kernel gives them back when their process dies, however
//! it dies. It is held while a fault is being made or cleared, never while one is merely in force.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    thread,
    time::{Duration, Instant},
};

use pod_chaos_protocol::OWNER;

/// How often a taken lock is tried again.
const RETRY: Duration = Duration::from_millis(3);

/// The right to change the pod's network; given back when dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] UnixDatagram);

impl Lock {
    /// Takes the lock, or finds it taken (`AddrInUse`).
    pub fn try_take() -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(OWNER)?;
        UnixDatagram::bind_addr(&address).map(Self)
    }

    /// Takes the lock as soon as it is free, within `patience`.
    pub fn take(patience: Duration) -> io::Result<Self> {
        let start = Instant::now();
        loop {
            match Self::try_take() {
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < patience =>
                {
                    thread::sleep(RETRY);
                }
                result => return result,
            }
        }
    }
}
