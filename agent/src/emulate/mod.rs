//! What the kernel's netem does to packets, done here: for kernels without it.
//!
//! Pure: no clock, no socket, and the same dice for the same seed. A packet is taken at a time and comes out
//! at another one, or never, or twice. It is a frame with a `struct virtio_net_hdr` in front (see
//! [`crate::sys::packet`]); times are in nanoseconds of any clock.
//!
//! The order of what happens to a packet is the one of `netem_enqueue` (net/sched/sch_netem.c): doubled, lost
//! or marked, corrupted, lost because too many are held, delayed or sent ahead, and held until its slot. Where
//! it differs from the kernel, on purpose, its file says so, and so does docs/backends.md.

pub mod chance;
pub mod checksum;
pub mod congestion;
pub mod corruption;
pub mod delay;
pub mod dice;
pub mod frame;
pub mod loss;
pub mod memory;
pub mod queue;
pub mod rate;
pub mod reorder;
pub mod slot;

use pod_chaos_protocol::Netem;

use self::{
    chance::Coin, delay::Delay, dice::Dice, loss::LossModel, memory::Memory, queue::Queue,
    rate::Wire, reorder::Overtaking, slot::Slots,
};
use crate::{fault::counts::Done, sys::packet::VNET_HEADER};

/// Bytes that are held at most in all, whatever the number of packets: this is the memory of a container.
pub const BYTES_MAX: usize = 128 << 20;

/// A worse network, and the packets on their way through it.
#[derive(Debug)]
pub struct Emulator {
    dice: Dice,
    duplicate: Coin,
    loss: LossModel,
    ecn: bool,
    corrupt: Coin,
    limit: usize,
    bytes_max: usize,
    reorder: Overtaking,
    delay: Delay,
    wire: Option<Wire>,
    slots: Option<Slots>,
    queue: Queue,
    memory: Memory,
    done: Done,
}

impl Emulator {
    /// With these parameters, holding so many packets and bytes at most; what `netem` says of seed and limit
    /// is for the caller to decide.
    pub fn new(netem: &Netem, (limit, bytes_max): (u32, usize), seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            duplicate: Coin::new(netem.duplicate),
            loss: LossModel::new(netem.loss),
            ecn: netem.ecn,
            corrupt: Coin::new(netem.corrupt),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            bytes_max,
            reorder: Overtaking::new(netem.reorder),
            delay: Delay::new(
                netem.delay.as_nanos(),
                netem.jitter.as_nanos(),
                netem.correlation,
                &netem.distribution,
            ),
            wire: netem.rate.map(Wire::new),
            slots: netem.slot.as_ref().map(Slots::new),
            queue: Queue::default(),
            memory: Memory::default(),
            done: Done::default(),
        }
    }

    /// Takes a packet that has come at `now`.
    pub fn take(&mut self, now: u64, packet: &[u8]) {
        // Each of the two is lost or not by itself. The kernel sends one when it has thrown both.
        let copies = if self.duplicate.falls(&mut self.dice) { 2 } else { 1 };
        for _ in 0..copies {
            let hit = self.loss.loses(&mut self.dice);
            let lost = hit && !(self.ecn && congestion::can_be_marked(frame_of(packet)));
            let bytes = self.queue.bytes() + packet.len();
            if lost || self.queue.len() >= self.limit || bytes > self.bytes_max {
                self.done.dropped += 1;
                continue;
            }
            let mut packet = self.memory.copy(packet);
            if hit {
                congestion::mark(&mut packet[VNET_HEADER..]);
            }
            if self.corrupt.falls(&mut self.dice) {
                corruption::corrupt(&mut packet, &mut self.dice);
            }
            let due = self.due_time(now, packet.len().saturating_sub(VNET_HEADER));
            self.done.delayed += u64::from(due > now || self.slots.is_some());
            self.queue.push(due, packet);
        }
    }

    /// When a packet of this length that has come at `now` leaves, but for slots.
    fn due_time(&mut self, now: u64, length: usize) -> u64 {
        if self.reorder.overtakes(&mut self.dice) {
            return now;
        }
        let due = now.saturating_add(self.delay.draw(&mut self.dice));
        self.wire.as_mut().map_or(due, |wire| wire.pass(due, length))
    }

    /// When the next packet leaves; `None` while none is held.
    pub fn next_due(&mut self) -> Option<u64> {
        let due = self.queue.due()?;
        let slots = self.slots.as_mut();
        Some(slots.map_or(due, |slots| slots.next_for(due, &mut self.dice)))
    }

    /// The next packet that leaves at `now` or before.
    pub fn give(&mut self, now: u64) -> Option<Vec<u8>> {
        if self.next_due()? > now {
            return None;
        }
        let packet = self.queue.pop()?;
        if let Some(slots) = &mut self.slots {
            slots.leave(now, packet.len().saturating_sub(VNET_HEADER), &mut self.dice);
        }
        Some(packet)
    }

    /// The next packet, whenever it should leave.
    pub fn give_up(&mut self) -> Option<Vec<u8>> {
        self.queue.pop()
    }

    /// Takes back the memory of a packet that it gave.
    pub fn free(&mut self, packet: Vec<u8>) {
        self.memory.free(packet);
    }

    /// Packets that are held.
    pub fn held(&self) -> usize {
        self.queue.len()
    }

    /// What has been done to packets so far.
    pub fn done(&self) -> Done {
        self.done
    }
}

/// Whether super-packets may stay whole: only when all that happens to each part of one is the same.
pub fn keeps_super_packets(netem: &Netem) -> bool {
    let whole =
        Netem { delay: netem.delay, limit: netem.limit, seed: netem.seed, ..Netem::default() };
    *netem == whole
}

/// The frame behind the header.
fn frame_of(packet: &[u8]) -> &[u8] {
    packet.get(VNET_HEADER..).unwrap_or_default()
}

#[cfg(test)]
mod tests;
