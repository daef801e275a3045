//! For how long a packet is held.
//!
//! A correlation works as in `get_crandom` of net/sched/sch_netem.c: the last throw is mixed into the next,
//! which narrows the spread as it does there. Unlike there, it is felt with every shape: the kernel picks from
//! a shape's table by the lowest bits of the mix, in which nothing is left of it.

use pod_chaos_protocol::{Distribution, Percentage, Table};

use super::dice::Dice;
use crate::fault::distribution;

/// A delay, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Delay {
    mean: u64,
    jitter: u64,
    correlation: u64,
    quantiles: Vec<i16>,
    last: u32,
}

impl Delay {
    /// `mean` and `jitter` in nanoseconds.
    pub fn new(mean: u64, jitter: u64, correlation: Percentage, shape: &Distribution) -> Self {
        let quantiles = distribution::table(shape);
        Self { mean, jitter, correlation: correlation.scaled().into(), quantiles, last: 0 }
    }

    /// That of the next packet; a shape with a long tail cannot make it negative.
    pub fn draw(&mut self, dice: &mut Dice) -> u64 {
        if self.jitter == 0 {
            return self.mean;
        }
        let throw = self.throw(dice);
        around(self.mean, self.jitter, draw(&self.quantiles, throw))
    }

    fn throw(&mut self, dice: &mut Dice) -> u32 {
        let fresh = dice.throw();
        if self.correlation == 0 {
            return fresh;
        }
        let whole = 1u64 << 32;
        let share = self.correlation + 1;
        let mixed = (u64::from(fresh) * (whole - share) + u64::from(self.last) * share) >> 32;
        self.last = u32::try_from(mixed).unwrap_or(u32::MAX);
        self.last
    }
}

/// `mean` + `x` times `jitter`, not below zero.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "to a microsecond in two hundred days"
)]
pub fn around(mean: u64, jitter: u64, x: f64) -> u64 {
    (mean as f64 + x * jitter as f64).max(0.0) as u64
}

/// What this throw stands for in a shape, which is given by its quantiles, or in the even one without: in
/// jitters from the mean. A throw that is higher stands for more.
pub fn draw(quantiles: &[i16], throw: u32) -> f64 {
    let index = (u64::from(throw) * quantiles.len() as u64) >> 32;
    let entry = usize::try_from(index).ok().and_then(|index| quantiles.get(index));
    entry.map_or_else(
        || 2.0 * (f64::from(throw) + 0.5) / 2f64.powi(32) - 1.0,
        |entry| f64::from(*entry) / f64::from(Table::SCALE),
    )
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "of small numbers")]
mod tests {
    use super::*;

    const COUNT: u32 = 100_000;

    fn draws(jitter: u64, correlation: &str, distribution: &str) -> Vec<f64> {
        let mut delay = Delay::new(
            10_000_000,
            jitter,
            correlation.parse().unwrap(),
            &distribution.parse().unwrap(),
        );
        let mut dice = Dice::new(3);
        (0..COUNT).map(|_| delay.draw(&mut dice) as f64 / 1e6).collect()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    fn deviation(values: &[f64]) -> f64 {
        let mean = mean(values);
        (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    }

    fn correlation(values: &[f64]) -> f64 {
        let mean = mean(values);
        let pairs = values.windows(2).map(|pair| (pair[0] - mean) * (pair[1] - mean)).sum::<f64>();
        pairs / values.iter().map(|x| (x - mean).powi(2)).sum::<f64>()
    }

    fn assert_near(found: f64, want: f64, within: f64) {
        assert!((found - want).abs() <= within, "{found} instead of {want} ± {within}");
    }

    #[test]
    fn without_jitter_all_are_the_same() {
        assert!(draws(0, "0", "uniform").iter().all(|delay| (delay - 10.0).abs() < 1e-9));
    }

    #[test]
    fn shapes_have_their_mean_and_spread() {
        let uniform = draws(2_000_000, "0", "uniform");
        assert!(uniform.iter().all(|delay| (8.0..12.0).contains(delay)));
        assert_near(mean(&uniform), 10.0, 0.03);
        assert_near(deviation(&uniform), 2.0 / 3f64.sqrt(), 0.03);

        let normal = draws(2_000_000, "0", "normal");
        assert_near(mean(&normal), 10.0, 0.04);
        assert_near(deviation(&normal), 2.0, 0.04);
        let within = normal.iter().filter(|delay| (8.0..12.0).contains(*delay)).count();
        assert_near(within as f64 / f64::from(COUNT), 0.6827, 0.01);

        let pareto = draws(2_000_000, "0", "pareto");
        assert_near(mean(&pareto), 10.0, 0.15);
        // The lowest is a third of a jitter times two below the mean.
        let lowest = pareto.iter().copied().fold(f64::MAX, f64::min);
        assert_near(lowest, 10.0 - 2.0 * 2.0 / 3.0, 0.01);

        let both = draws(2_000_000, "0", "paretonormal");
        assert_near(mean(&both), 10.0, 0.15);
    }

    #[test]
    fn a_table_is_drawn_from_evenly() {
        let drawn = draws(1_000_000, "0", "table:-8192,0,8192,16384");
        for want in [9.0, 10.0, 11.0, 12.0] {
            let count = drawn.iter().filter(|delay| (*delay - want).abs() < 1e-9).count();
            assert_near(count as f64 / f64::from(COUNT), 0.25, 0.01);
        }
    }

    #[test]
    fn a_correlation_is_felt_in_every_shape() {
        for shape in ["uniform", "normal"] {
            assert_near(correlation(&draws(2_000_000, "0", shape)), 0.0, 0.02);
            assert_near(correlation(&draws(2_000_000, "50%", shape)), 0.5, 0.03);
        }
        // As the kernel's: √((1-ρ)/(1+ρ)) of the spread is left.
        let narrowed = deviation(&draws(2_000_000, "50%", "uniform"));
        assert_near(narrowed, 2.0 / 3f64.sqrt() * (0.5f64 / 1.5).sqrt(), 0.03);
    }

    #[test]
    fn nothing_leaves_before_it_came() {
        let mut delay = Delay::new(1_000_000, 1_000_000, Percentage::ZERO, &Distribution::Normal);
        let mut dice = Dice::new(5);
        let early = (0..10_000).filter(|_| delay.draw(&mut dice) == 0).count();
        // What lies more than one standard deviation below the mean.
        assert_near(early as f64 / 10_000.0, 0.1587, 0.02);
    }
}
