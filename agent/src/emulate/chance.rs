//! What happens to some packets: with a probability, and more often after it has just happened.
//!
//! The kernel mixes the last throw into the next one, which draws all of them to the middle: of `loss 10% 50%`
//! it loses about a third of what was asked for, and tc-netem(8) advises against it. Here a chain of two
//! states does it: the share is the one that was asked for, and so is the correlation between a packet and
//! the next.

use pod_chaos_protocol::{Chance, Percentage};

use super::dice::Dice;

/// Something that happens or not, packet by packet.
#[derive(Clone, Debug)]
pub struct Coin {
    /// How likely it is after it has happened, and after it has not.
    after: [Threshold; 2],
    last: bool,
}

impl Coin {
    /// Falls with this probability and correlation.
    pub fn new(chance: Chance) -> Self {
        let (p, correlation) = (chance.probability().fraction(), chance.correlation().fraction());
        let after_it = p + correlation * (1.0 - p);
        let after_not = p * (1.0 - correlation);
        let mut after = [after_it, after_not].map(Threshold::of_fraction);
        if chance.correlation().is_zero() {
            // To the last bit.
            after = [Threshold::new(chance.probability()); 2];
        }
        Self { after, last: false }
    }

    /// Throws it.
    pub fn falls(&mut self, dice: &mut Dice) -> bool {
        let [after_it, after_not] = self.after;
        self.last = if self.last { after_it } else { after_not }.is_met(dice);
        self.last
    }
}

/// A probability to hold throws against: how many of 2^32 are hits.
#[derive(Clone, Copy, Debug)]
pub struct Threshold(u64);

impl Threshold {
    /// 0% is never and 100% is always.
    pub fn new(percentage: Percentage) -> Self {
        let scaled = u64::from(percentage.scaled());
        // A step is 1/4294967295.
        Self(if scaled == u64::from(u32::MAX) { scaled + 1 } else { scaled })
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 0 to 2^32")]
    fn of_fraction(fraction: f64) -> Self {
        Self((fraction.clamp(0.0, 1.0) * 2f64.powi(32)).round() as u64)
    }

    /// Whether it happens this time.
    pub fn is_met(self, dice: &mut Dice) -> bool {
        // No throw for what never happens: most of what could is not asked for.
        self.0 > 0 && u64::from(dice.throw()) < self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COUNT: u32 = 100_000;

    /// The share of packets that are hit, and the correlation between one and the next.
    fn measure(text: &str, seed: u64) -> (f64, f64) {
        let (mut coin, mut dice) = (Coin::new(text.parse().unwrap()), Dice::new(seed));
        let throws: Vec<_> = (0..COUNT).map(|_| coin.falls(&mut dice)).collect();
        let count = |hits: usize| f64::from(u32::try_from(hits).unwrap());
        let share = count(throws.iter().filter(|hit| **hit).count()) / f64::from(COUNT);
        let both = count(throws.windows(2).filter(|pair| pair[0] && pair[1]).count());
        let both = both / f64::from(COUNT - 1);
        (share, (both - share * share) / (share * (1.0 - share)))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn falls_as_often_as_asked(percent in 1u32..100, correlation in 0u32..80, seed: u64) {
            let (share, found) = measure(&format!("{percent}% {correlation}%"), seed);
            let (p, rho) = (f64::from(percent) / 100.0, f64::from(correlation) / 100.0);
            // Five standard deviations; a correlation makes fewer independent throws of as many.
            let few = ((1.0 + rho) / (1.0 - rho)).sqrt();
            let spread = 5.0 * (p * (1.0 - p) / f64::from(COUNT)).sqrt() * few;
            prop_assert!((share - p).abs() < spread.max(0.000_5), "{share} instead of {p}");
            prop_assert!((found - rho).abs() < 0.12, "{found} instead of {rho}");
        }
    }

    #[test]
    fn never_and_always_are_so() {
        let share = |text: &str| {
            let (mut coin, mut dice) = (Coin::new(text.parse().unwrap()), Dice::new(1));
            (0..COUNT).filter(|_| coin.falls(&mut dice)).count()
        };
        assert_eq!([share("0%"), share("100%")], [0, COUNT as usize]);
    }
}
