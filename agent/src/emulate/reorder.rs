//! Which packets overtake the others: they are sent at once, while the others are delayed.

use pod_chaos_protocol::Reorder;

use super::{chance::Coin, dice::Dice};

/// Packets that overtake.
#[derive(Clone, Debug)]
pub struct Overtaking {
    coin: Coin,
    gap: u32,
    /// Since the last one.
    delayed: u32,
    never: bool,
}

impl Overtaking {
    /// With this probability, when it is their turn.
    pub fn new(reorder: Reorder) -> Self {
        Self {
            coin: Coin::new(reorder.chance()),
            gap: reorder.gap().get(),
            delayed: 0,
            never: reorder.is_none(),
        }
    }

    /// Whether the next packet does.
    pub fn overtakes(&mut self, dice: &mut Dice) -> bool {
        if self.never {
            return false;
        }
        if self.delayed + 1 < self.gap || !self.coin.falls(dice) {
            self.delayed = self.delayed.saturating_add(1).min(self.gap);
            return false;
        }
        self.delayed = 0;
        true
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "of small numbers")]
mod tests {
    use super::*;

    fn pattern(text: &str, count: usize) -> Vec<bool> {
        let (mut overtaking, mut dice) = (Overtaking::new(text.parse().unwrap()), Dice::new(2));
        (0..count).map(|_| overtaking.overtakes(&mut dice)).collect()
    }

    #[test]
    fn a_gap_makes_every_so_many() {
        let every_third = pattern("100% gap 3", 9);
        assert_eq!(every_third, [false, false, true].repeat(3));
    }

    #[test]
    fn without_a_gap_any_packet_may() {
        let share = pattern("25%", 100_000).iter().filter(|one| **one).count();
        assert!(share.abs_diff(25_000) < 500, "{share}");
    }

    #[test]
    fn behind_a_gap_the_chance_is_taken_until_it_falls() {
        let distances: Vec<_> = {
            let pattern = pattern("50% gap 5", 60_000);
            let at: Vec<_> = (0..pattern.len()).filter(|index| pattern[*index]).collect();
            at.windows(2).map(|pair| pair[1] - pair[0]).collect()
        };
        assert!(distances.iter().all(|distance| *distance >= 5));
        // Four that may not, and then two throws in the mean.
        let mean = distances.iter().sum::<usize>() as f64 / distances.len() as f64;
        assert!((mean - 6.0).abs() < 0.1, "{mean}");
    }
}
