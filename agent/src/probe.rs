//! Whether traffic passes, as a process of the pod would find out: by opening TCP connections to one place, one
//! after the other, while a fault runs and until one comes about after its end.
//!
//! Limits: what it finds out is when a new connection passes. One that was open sends again at intervals of its
//! own, and may go on later.

use std::{
    net::{SocketAddr, TcpStream},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use pod_chaos_protocol::{Event, Failure, FailureKind, Probe, ProbeHost};

use crate::{error::failure, resolve::Resolver};

/// How long a connection may take. On ways that take longer than that there and back, none passes.
const PATIENCE: Duration = Duration::from_millis(200);
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(50);
/// How much earlier than the agent the kernel may have known of the end.
const SLACK: Duration = Duration::from_millis(50);
/// How long after the end of a fault one is waited for: less than the plugin waits for the end to be reported.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// Where to try.
#[derive(Clone, Debug)]
pub struct Place {
    probe: Probe,
    address: SocketAddr,
}

impl Place {
    /// Finds out the address.
    pub fn find(probe: &Probe) -> Result<Self, Failure> {
        let address = match &probe.host {
            ProbeHost::Address(address) => *address,
            ProbeHost::Name(name) => {
                let answer = Resolver::of_the_pod()?.resolve(name).map_err(|error| {
                    failure(FailureKind::NotFound, format!("the probe's host {error}"), None)
                })?;
                // There is always one.
                let first = answer.addresses.first().copied();
                first.unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into())
            }
        };
        Ok(Self { probe: probe.clone(), address: SocketAddr::new(address, probe.port) })
    }
}

/// Tries again and again.
#[derive(Debug)]
pub struct Prober {
    place: Place,
    /// When a connection was begun that came about.
    passed: Receiver<Instant>,
}

impl Prober {
    /// Starts to try, in a thread that goes with it.
    pub fn start(place: Place) -> std::io::Result<Self> {
        let (sender, passed) = channel();
        let address = place.address;
        let run = move || loop {
            let begun = Instant::now();
            if TcpStream::connect_timeout(&address, PATIENCE).is_ok() && sender.send(begun).is_err()
            {
                return;
            }
            thread::sleep(PAUSE);
        };
        thread::Builder::new().name("probe".to_owned()).spawn(run)?;
        Ok(Self { place, passed })
    }

    /// Waits until traffic passes again, for a while; the fault has ended at that time.
    pub fn resumed(self, ended: Instant) -> Event {
        let mut passed_meanwhile = 0;
        let until = ended + AFTERWARDS;
        let after_ms = loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.passed.recv_timeout(left) {
                Ok(begun) if begun + SLACK >= ended => {
                    break Some(begun.saturating_duration_since(ended));
                }
                Ok(_) => passed_meanwhile += 1,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break None,
            }
        };
        Event::Resumed {
            probe: self.place.probe,
            after_ms: after_ms.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            passed_meanwhile,
        }
    }
}
