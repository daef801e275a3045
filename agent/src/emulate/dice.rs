//! Numbers that look random, and are the same for the same seed.

/// A generator with 64 bits of state: a counter in large odd steps, its bits mixed until each of the output
/// depends on all of them (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014). Not
/// for secrets.
#[derive(Clone, Debug)]
pub struct Dice(u64);

/// 2^64 divided by the golden ratio, odd.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Dice {
    /// Any seed is as good as any other.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// All 64 bits.
    pub fn throw64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Any number of 32 bits.
    pub fn throw(&mut self) -> u32 {
        (self.throw64() >> 32) as u32
    }

    /// A number below `end`, which must not be zero; even up to one part in 2^32.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.throw64()) * u128::from(end);
        (wide >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let throws = |seed| {
            let mut dice = Dice::new(seed);
            [dice.throw(), dice.throw(), dice.throw()]
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
    }

    #[test]
    fn each_side_comes_up_as_often() {
        let (mut dice, mut counts) = (Dice::new(1), [0u32; 6]);
        for _ in 0..600_000 {
            counts[usize::try_from(dice.below(6)).unwrap()] += 1;
        }
        // Five standard deviations of a binomial distribution.
        assert!(counts.iter().all(|count| count.abs_diff(100_000) < 1_450), "{counts:?}");
    }
}
