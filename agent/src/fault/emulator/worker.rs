//! The thread that does a fault: takes packets from the fault's links, and sends them on at their time.
//!
//! It ends when the gate is closed, by whomever, or its deadline has passed, and nothing is held any more. What
//! is to be held for longer than a second from then on is sent at the end of that second.

use std::{
    io,
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        time::TimeSpec,
        timer::Expiration,
        timerfd::{ClockId, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};
use pod_chaos_protocol::FaultId;

use super::tally::{Tally, Teller};
use crate::{
    clock,
    emulate::Emulator,
    fault::{self, gate},
    kernel::Kernel,
    netlink::nftables::{Monitor, News},
    sys::packet::{BATCH, Frames, PacketSocket, VNET_HEADER},
};

/// Memory of the kernel for packets that wait to be read, and for those that wait for the interface: the
/// bursts of some milliseconds, which is how long this thread may have to wait for a processor.
const RECEIVE_BUFFER: usize = 32 << 20;
const SEND_BUFFER: usize = 8 << 20;

/// The largest super-packet (`GSO_LEGACY_MAX_SIZE`, linux/netdevice.h) and what is around it: Ethernet, two
/// tags.
const SUPER_PACKET: u32 = 65_536;
const AROUND: u32 = 14 + 8;

/// What the kernel's timer may be late by: two ticks of the slowest configuration, 100 per second.
const TIMER_SLACK_NS: u64 = 20_000_000;
/// For how long packets may still be on their way to the thread once the gate is closed: the kernel receives
/// them in a thread of its own when it is busy.
const LINGER_NS: u64 = 50_000_000;
/// How long packets are still held once the gate is closed.
const DRAIN_NS: u64 = 1_000_000_000;

/// Where packets come in and go out.
#[derive(Debug)]
pub struct Sockets {
    receiver: PacketSocket,
    sender: PacketSocket,
}

impl Sockets {
    /// From the link with the index `exit`, and out of the one with the index `target`, with this priority.
    pub fn open(exit: i32, target: i32, priority: u32) -> io::Result<Self> {
        Ok(Self {
            receiver: PacketSocket::receiver(exit, RECEIVE_BUFFER)?,
            sender: PacketSocket::sender(target, priority, SEND_BUFFER)?,
        })
    }
}

/// All that a thread works with.
#[derive(Debug)]
pub struct Worker {
    /// The fault.
    pub id: FaultId,
    /// Holds the socket that owns the table: it goes with the last of the threads, or with the first that
    /// fails, so that its packets pass.
    pub owner: Arc<Mutex<Option<Kernel>>>,
    /// For questions about the gate.
    pub kernel: Kernel,
    /// Tells when to ask.
    pub monitor: Monitor,
    /// Where packets come in and go out.
    pub sockets: Sockets,
    /// What happens to them.
    pub emulator: Emulator,
    /// What has happened.
    pub tally: Arc<Tally>,
    /// Who tells of it, of one thread of a fault.
    pub teller: Option<Teller>,
    /// What the kernel sends from by itself on the first link.
    pub own_address: [u8; 6],
    /// The largest packet.
    pub largest: u32,
}

impl Worker {
    /// Starts it. The kernel ends the fault at `to_ms` of [`clock`].
    pub fn start(self, to_ms: u64) -> io::Result<()> {
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC)?;
        let slot = self.largest.min(SUPER_PACKET).saturating_add(AROUND) as usize + VNET_HEADER;
        let mut run = Run {
            worker: self,
            timer,
            armed: None,
            frames: Frames::new(slot),
            out: Vec::with_capacity(BATCH),
            closes: to_ms.saturating_mul(1_000_000).saturating_add(TIMER_SLACK_NS),
        };
        thread::Builder::new().name("emulator".to_owned()).spawn(move || {
            if let Err(error) = run.run() {
                eprintln!("fault {}: {error}", run.worker.id);
                run.worker.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        })?;
        Ok(())
    }
}

/// A thread that runs.
struct Run {
    worker: Worker,
    timer: TimerFd,
    /// For when the timer is set.
    armed: Option<u64>,
    frames: Frames,
    out: Vec<Vec<u8>>,
    /// When no new packets come: the deadline, or before.
    closes: u64,
}

impl Run {
    fn run(&mut self) -> io::Result<()> {
        loop {
            let now = clock::now_ns();
            self.send_due(now)?;
            // A thread that was kept from running may find the fault over, and packets that came before.
            let received = self.receive()?;
            if self.is_over(now, received) {
                return self.let_out();
            }
            // A full batch is not the last one.
            if received < BATCH {
                self.sleep()?;
            }
        }
    }

    /// Whether the fault has ended, and nothing more is to be waited for, so many packets having come last.
    fn is_over(&self, now: u64, received: usize) -> bool {
        let since = now.saturating_sub(self.closes);
        let nothing_left = received == 0 && self.worker.emulator.held() == 0;
        since > LINGER_NS && (nothing_left || since > DRAIN_NS && received < BATCH)
    }

    /// Sends what is held, at once.
    fn let_out(&mut self) -> io::Result<()> {
        loop {
            self.out.extend(std::iter::from_fn(|| self.worker.emulator.give_up()).take(BATCH));
            if self.out.is_empty() {
                return Ok(());
            }
            self.send()?;
        }
    }

    /// Sends what is due.
    fn send_due(&mut self, now: u64) -> io::Result<()> {
        loop {
            self.out.extend(std::iter::from_fn(|| self.worker.emulator.give(now)).take(BATCH));
            if self.out.is_empty() {
                return Ok(());
            }
            let full = self.out.len() == BATCH;
            self.send()?;
            if !full {
                return Ok(());
            }
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let mut rest = &self.out[..];
        while !rest.is_empty() {
            let sent = match self.worker.sockets.sender.send(rest) {
                Ok(sent) => sent.max(1),
                Err(Errno::EINTR) => 0,
                // The interface has gone: there is nothing more to be done.
                Err(errno @ (Errno::ENXIO | Errno::ENODEV)) => return Err(errno.into()),
                // No room, no carrier, too long: it is lost, as on any link.
                Err(_) => 1,
            };
            rest = &rest[sent..];
        }
        self.out.drain(..).for_each(|packet| self.worker.emulator.free(packet));
        Ok(())
    }

    /// Takes what has come; says how many packets that were.
    fn receive(&mut self) -> io::Result<usize> {
        let Worker { sockets, emulator, tally, own_address, .. } = &mut self.worker;
        let packets = match sockets.receiver.receive(&mut self.frames) {
            Ok(packets) => packets,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(0),
            Err(errno) => return Err(errno.into()),
        };
        let now = clock::now_ns();
        let mut count = 0;
        for packet in packets {
            count += 1;
            let source = packet.get(VNET_HEADER + 6..VNET_HEADER + 12);
            // What the kernel says of itself on a link that is set up stays there.
            if source.is_some_and(|source| source != own_address) {
                emulator.take(now, packet);
            }
        }
        tally.set(emulator.done());
        Ok(count)
    }

    /// Waits for a packet, for the time of the next one, or for the end.
    fn sleep(&mut self) -> io::Result<()> {
        let end = self.closes.saturating_add(LINGER_NS + 1);
        let now = clock::now_ns();
        let over = match self.worker.emulator.held() {
            _ if now <= end => end,
            0 => return Ok(()),
            _ => end.saturating_add(DRAIN_NS),
        };
        let next = self.worker.emulator.next_due().map_or(over, |due| due.min(over));
        if next <= now {
            return Ok(());
        }
        if self.armed != Some(next) {
            let at = Expiration::OneShot(TimeSpec::from_duration(Duration::from_nanos(next)));
            self.timer.set(at, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
            self.armed = Some(next);
        }
        let Worker { sockets, monitor, teller, .. } = &self.worker;
        let questions = teller.as_ref().map_or(monitor.as_fd(), AsFd::as_fd);
        let mut polled = [sockets.receiver.as_fd(), self.timer.as_fd(), monitor.as_fd(), questions]
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [_, timer, news, asked] = polled.map(|fd| fd.any().unwrap_or(false));
        if let Some(teller) = teller.as_ref().filter(|_| asked) {
            teller.answer();
        }
        if timer {
            // Setting it again clears it.
            self.armed = None;
        }
        if news {
            self.look_at_the_gate();
        }
        Ok(())
    }

    /// Someone may have closed the gate.
    fn look_at_the_gate(&mut self) {
        let id = self.worker.id;
        let concerned = match self.worker.monitor.news() {
            News::Lost => true,
            News::Tables(tables) => {
                tables.iter().any(|table| fault::id_of_table(table) == Some(id))
            }
        };
        if concerned && !gate::is_open(&mut self.worker.kernel, id) {
            self.closes = self.closes.min(clock::now_ns());
        }
    }
}
