//! Slots in which packets leave together, as on a medium that is shared.

use std::num::NonZeroU32;

use pod_chaos_protocol::{Distance, Slot};

use super::{
    delay::{around, draw},
    dice::Dice,
};
use crate::fault::distribution;

/// The slots, and what is left of the next one.
#[derive(Clone, Debug)]
pub struct Slots {
    slot: Slot,
    /// Of the shape of the times between them, when they have one.
    quantiles: Vec<i16>,
    /// When it begins.
    next: u64,
    packets: u32,
    bytes: u64,
}

impl Slots {
    /// The first one has begun.
    pub fn new(slot: &Slot) -> Self {
        let quantiles = match slot.distance() {
            Distance::Around { distribution, .. } => distribution::table(distribution),
            Distance::Between { .. } => Vec::new(),
        };
        let mut slots = Self { slot: slot.clone(), quantiles, next: 0, packets: 0, bytes: 0 };
        slots.fill();
        slots
    }

    fn fill(&mut self) {
        self.packets = self.slot.packets().map_or(u32::MAX, NonZeroU32::get);
        self.bytes = self.slot.bytes().map_or(u64::MAX, |bytes| bytes.get().into());
    }

    fn begin_after(&mut self, time: u64, dice: &mut Dice) {
        let distance = match self.slot.distance() {
            Distance::Between { min, max } => {
                let (min, max) = (min.as_nanos(), max.as_nanos());
                min + dice.below(max.saturating_sub(min).max(1))
            }
            Distance::Around { delay, jitter, .. } => {
                let x = draw(&self.quantiles, dice.throw());
                around(delay.as_nanos(), jitter.as_nanos(), x)
            }
        };
        self.next = time.saturating_add(distance);
        self.fill();
    }

    /// When a packet leaves that is due at `due`, if it is the next one. One that comes after the slot has
    /// begun waits for another.
    pub fn next_for(&mut self, due: u64, dice: &mut Dice) -> u64 {
        if self.next < due {
            self.begin_after(due, dice);
        }
        self.next
    }

    /// A packet of so many bytes has left at `now`.
    pub fn leave(&mut self, now: u64, length: usize, dice: &mut Dice) {
        self.packets -= 1;
        self.bytes = self.bytes.saturating_sub(length as u64);
        if self.packets == 0 || self.bytes == 0 {
            self.begin_after(now, dice);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_packets_leave_together() {
        let (mut slots, mut dice) = (Slots::new(&"10 packets 2".parse().unwrap()), Dice::new(1));
        let ms = 1_000_000;
        // All are due at once.
        let mut times = Vec::new();
        for _ in 0..5 {
            let time = slots.next_for(100 * ms, &mut dice);
            slots.leave(time, 100, &mut dice);
            times.push(time / ms);
        }
        assert_eq!(times, [110, 110, 120, 120, 130]);
    }

    #[test]
    fn bytes_fill_a_slot_too() {
        let (mut slots, mut dice) = (Slots::new(&"10 bytes 250".parse().unwrap()), Dice::new(1));
        let mut times = Vec::new();
        for _ in 0..4 {
            let time = slots.next_for(1_000_000, &mut dice);
            slots.leave(time, 100, &mut dice);
            times.push(time / 1_000_000);
        }
        assert_eq!(times, [11, 11, 11, 21]);
    }

    #[test]
    fn who_comes_after_a_slot_has_begun_waits_for_the_next() {
        let (mut slots, mut dice) = (Slots::new(&"5 10".parse().unwrap()), Dice::new(1));
        let mut waits = Vec::new();
        for packet in 1..1_000u64 {
            let due = packet * 50_000_000;
            waits.push(slots.next_for(due, &mut dice) - due);
        }
        assert!(waits.iter().all(|wait| (5_000_000..10_000_000).contains(wait)), "{waits:?}");
    }
}
