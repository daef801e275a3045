//! For how long a packet is held.
//!
//! A correlation works as in `get_crandom` of net/sched/sch_netem.c: the last throw is mixed into the next,
//! which narrows the spread as it does there. Unlike there, it is felt with every shape: the kernel picks from
//! a shape's table by the lowest bits of the mix, in which nothing is left of it.

use pod_chaos_protocol::{Distribution, Percentage};

use super::dice::Dice;

/// A delay, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Delay {
    mean: u64,
    jitter: u64,
    correlation: u64,
    distribution: Distribution,
    last: u32,
}

impl Delay {
    /// `mean` and `jitter` in nanoseconds.
    pub fn new(
        mean: u64,
        jitter: u64,
        correlation: Percentage,
        distribution: Distribution,
    ) -> Self {
        Self { mean, jitter, correlation: correlation.scaled().into(), distribution, last: 0 }
    }

    /// That of the next packet; a shape with a long tail cannot make it negative.
    pub fn draw(&mut self, dice: &mut Dice) -> u64 {
        if self.jitter == 0 {
            return self.mean;
        }
        let throw = self.throw(dice);
        around(self.mean, self.jitter, draw(&self.distribution, throw, dice))
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

/// What this throw stands for in the shape: in jitters from the mean. A throw that is higher stands for more.
pub fn draw(distribution: &Distribution, throw: u32, dice: &mut Dice) -> f64 {
    // In the middle of its step: neither zero nor one.
    let part = |throw: u32| (f64::from(throw) + 0.5) / 2f64.powi(32);
    match distribution {
        Distribution::Uniform | Distribution::SomeTable => 2.0 * part(throw) - 1.0,
        Distribution::Normal => normal(part(throw)),
        Distribution::Pareto => pareto(part(throw)),
        Distribution::Paretonormal => {
            0.25 * normal(part(dice.throw())) + 0.75 * pareto(part(throw))
        }
        Distribution::Table(table) => {
            let entries = table.entries();
            let index = (u64::from(throw) * entries.len() as u64) >> 32;
            let entry = entries[usize::try_from(index).unwrap_or(0)];
            f64::from(entry) / f64::from(pod_chaos_protocol::Table::SCALE)
        }
    }
}

/// The furthest that one of `tc`'s tables goes: 16 bits of 1/8192.
const FURTHEST: f64 = 32_767.0 / 8_192.0;

/// The quantile of the bell curve below which `part` of all lies, by Acklam's rational approximation; it is
/// off by less than 1.2e-9 of itself.
fn normal(part: f64) -> f64 {
    const A: [f64; 6] = [
        -39.696_830_286_653_76,
        220.946_098_424_520_5,
        -275.928_510_446_968_7,
        138.357_751_867_269,
        -30.664_798_066_147_16,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -54.476_098_798_224_06,
        161.585_836_858_040_9,
        -155.698_979_859_886_6,
        66.801_311_887_719_72,
        -13.280_681_552_885_72,
    ];
    const C: [f64; 6] = [
        -0.007_784_894_002_430_293,
        -0.322_396_458_041_136_5,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] = [
        0.007_784_695_709_041_462,
        0.322_467_129_070_039_8,
        2.445_134_137_142_996,
        3.754_408_661_907_416,
    ];
    const TAIL: f64 = 0.024_25;
    let polynomial = |factors: &[f64], x: f64| factors.iter().fold(0.0, |sum, f| sum * x + f);
    let tail = |part: f64| {
        let q = (-2.0 * part.ln()).sqrt();
        polynomial(&C, q) / (polynomial(&D, q) * q + 1.0)
    };
    let value = if part < TAIL {
        tail(part)
    } else if part > 1.0 - TAIL {
        -tail(1.0 - part)
    } else {
        let q = part - 0.5;
        q * polynomial(&A, q * q) / (polynomial(&B, q * q) * q * q + 1.0)
    };
    value.clamp(-FURTHEST, FURTHEST)
}

/// As `tc`'s table: the Pareto distribution with the exponent 3, moved and scaled to a mean of zero and a
/// standard deviation near one.
fn pareto(part: f64) -> f64 {
    let value = (1.0 / (1.0 - part).cbrt() - 1.5) * 4.0 / 3.0;
    value.min(FURTHEST)
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
            distribution.parse().unwrap(),
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
        assert!(deviation(&both) < deviation(&normal));
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
        let mut delay = Delay::new(1_000_000, 1_000_000, Percentage::ZERO, Distribution::Normal);
        let mut dice = Dice::new(5);
        let early = (0..10_000).filter(|_| delay.draw(&mut dice) == 0).count();
        // What lies more than one standard deviation below the mean.
        assert_near(early as f64 / 10_000.0, 0.1587, 0.02);
    }
}
