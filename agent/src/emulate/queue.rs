//! Packets in the order in which they leave.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
};

/// Packets that are held, each until its time. Those of the same time leave as they came.
///
/// Most come in the order in which they leave, and are simply lined up; only those that overtake others are
/// sorted.
#[derive(Debug, Default)]
pub struct Queue {
    line: VecDeque<Held>,
    overtaking: BinaryHeap<Reverse<Held>>,
    bytes: usize,
    count: u64,
}

/// Ordered by the first two, which no other one has.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: u64,
    number: u64,
    packet: Vec<u8>,
}

impl Queue {
    /// Holds a packet until `due`.
    pub fn push(&mut self, due: u64, packet: Vec<u8>) {
        self.count += 1;
        self.bytes += packet.len();
        let held = Held { due, number: self.count, packet };
        if self.line.back().is_none_or(|last| last.due <= due) {
            self.line.push_back(held);
        } else {
            self.overtaking.push(Reverse(held));
        }
    }

    /// When the next one leaves.
    pub fn due(&self) -> Option<u64> {
        let line = self.line.front().map(|held| held.due);
        let overtaking = self.overtaking.peek().map(|Reverse(held)| held.due);
        match (line, overtaking) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// The next one.
    pub fn pop(&mut self) -> Option<Vec<u8>> {
        let first = self.line.front().map(|held| (held.due, held.number));
        let overtaking = self.overtaking.peek().map(|Reverse(held)| (held.due, held.number));
        let overtakes = overtaking.is_some_and(|other| first.is_none_or(|first| other < first));
        let held = if overtakes {
            self.overtaking.pop().map(|Reverse(held)| held)?
        } else {
            self.line.pop_front()?
        };
        self.bytes -= held.packet.len();
        if self.is_empty() {
            // The memory of a large burst is given back.
            *self = Self { count: self.count, ..Self::default() };
        }
        Some(held.packet)
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.line.len() + self.overtaking.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes they have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn packets_leave_at_their_time_and_else_as_they_came(
            dues in proptest::collection::vec(0u64..20, 0..60)
        ) {
            let mut queue = Queue::default();
            for (number, due) in (0u8..).zip(&dues) {
                queue.push(*due, vec![number]);
            }
            prop_assert_eq!(queue.bytes(), dues.len());
            let mut want: Vec<_> = (0u8..).zip(dues).map(|(number, due)| (due, number)).collect();
            want.sort_unstable();
            let mut found = Vec::new();
            while let Some(due) = queue.due() {
                found.push((due, queue.pop().unwrap()[0]));
            }
            prop_assert_eq!(found, want);
            prop_assert!(queue.is_empty() && queue.bytes() == 0);
        }
    }
}
