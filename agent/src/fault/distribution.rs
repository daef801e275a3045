//! The shapes of delays as tables for the kernel: quantiles at even distances, in parts of 8192 of the
//! jitter (`NETEM_DIST_SCALE`, linux/pkt_sched.h).
//!
//! They are worked out here and not shipped. The shapes are those that tc-netem(8) names, which come from
//! NISTnet (in the public domain; README.distribution of iproute2 tells how):
//!
//! - normal: mean 0, standard deviation 1;
//! - pareto: of shape 3, u^(-1/3) for an even u in 0..1, less its mean 3/2, divided by its variance 3/4;
//! - paretonormal: a quarter of the quantile of the first and three quarters of the second's.
//!
//! What is beyond 16 bits, four jitters, is cut off. The middles of 4096 even parts are taken: with the
//! normal shape, as many and as large jitters are above the mean as below.

use std::f64::consts::PI;

use pod_chaos_protocol::{Distribution, Table};

/// As many as `tc`'s own tables have.
const ENTRIES: u32 = 4096;

/// The numbers for the kernel. None for the even shape, which it has itself, and for a table that is
/// only known by name.
pub fn table(distribution: &Distribution) -> Vec<i16> {
    match distribution {
        Distribution::Normal => quantiles(normal),
        Distribution::Pareto => quantiles(pareto),
        Distribution::Paretonormal => quantiles(|part| 0.25 * normal(part) + 0.75 * pareto(part)),
        Distribution::Table(table) => table.entries().to_vec(),
        Distribution::Uniform | Distribution::SomeTable => Vec::new(),
    }
}

fn quantiles(quantile: impl Fn(f64) -> f64) -> Vec<i16> {
    let entry = |index: u32| {
        let part = (f64::from(index) + 0.5) / f64::from(ENTRIES);
        let scaled = (quantile(part) * f64::from(Table::SCALE)).round();
        #[expect(clippy::cast_possible_truncation, reason = "clamped")]
        let entry = scaled.clamp(f64::from(i16::MIN), f64::from(i16::MAX)) as i16;
        entry
    };
    (0..ENTRIES).map(entry).collect()
}

fn pareto(part: f64) -> f64 {
    ((1.0 - part).cbrt().recip() - 1.5) / 0.75
}

/// By bisection of [`normal_part`]: 30 halves of 10 are less than the step of the table by far.
fn normal(part: f64) -> f64 {
    let (mut low, mut high) = (-5.0, 5.0);
    for _ in 0..30 {
        let middle = f64::midpoint(low, high);
        if normal_part(middle) < part { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// The part of the normal distribution that is below x: 1/2 + φ(x)·(x + x³/3 + x⁵/(3·5) + …), from
/// integrating the density by parts (Marsaglia, Evaluating the Normal Distribution, 2004).
fn normal_part(x: f64) -> f64 {
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-12 {
        odd += 2.0;
        term *= x * x / odd;
        sum += term;
    }
    0.5 + sum * (-x * x / 2.0).exp() / (2.0 * PI).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and standard deviation, in jitters.
    #[expect(clippy::cast_precision_loss)]
    fn statistics(table: &[i16]) -> (f64, f64) {
        let scale = |entry: &i16| f64::from(*entry) / f64::from(Table::SCALE);
        let count = table.len() as f64;
        let mean = table.iter().map(scale).sum::<f64>() / count;
        let square = |entry: &i16| (scale(entry) - mean).powi(2);
        (mean, (table.iter().map(square).sum::<f64>() / count).sqrt())
    }

    fn assert_near(found: f64, want: f64, by: f64) {
        assert!((found - want).abs() <= by, "{found} instead of {want}");
    }

    #[test]
    fn the_normal_shape_is_a_bell() {
        let table = table(&Distribution::Normal);
        assert_eq!(table.len(), 4096);
        let (mean, deviation) = statistics(&table);
        assert_near(mean, 0.0, 1e-6);
        assert_near(deviation, 1.0, 2e-3);
        // Percentiles of the standard normal distribution, from any table of it.
        for (percent, want) in [(2.5, -1.959_964), (15.866, -1.0), (84.134, 1.0), (99.5, 2.575_829)]
        {
            assert_near(at(&table, percent), want, 5e-3);
        }
    }

    /// The entry at this percentile, in jitters.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn at(table: &[i16], percent: f64) -> f64 {
        f64::from(table[(percent / 100.0 * 4096.0) as usize]) / f64::from(Table::SCALE)
    }

    #[test]
    fn the_pareto_shape_has_a_long_tail() {
        let table = table(&Distribution::Pareto);
        // (u^(-1/3) - 3/2) / (3/4) by hand.
        for (percent, want) in
            [(0.0, -0.666_667), (50.0, -0.320_105), (87.5, 0.666_667), (98.4, 3.29)]
        {
            assert_near(at(&table, percent), want, 0.02);
        }
        assert_eq!(table.last(), Some(&i16::MAX));
        // Without the part that does not fit into 16 bits, of which the mean lacks
        // ∫ (u^(-1/3) - 9/2) du / (3/4) from 0 to (2/9)³.
        let cut = (2.0f64 / 9.0).powi(3);
        let (mean, _) = statistics(&table);
        assert_near(mean, -(1.5 * cut.cbrt().powi(2) - 4.5 * cut) / 0.75, 1e-3);
    }

    #[test]
    fn the_third_is_made_of_the_two() {
        let [normal, pareto, both] =
            [Distribution::Normal, Distribution::Pareto, Distribution::Paretonormal]
                .map(|shape| table(&shape));
        for ((normal, pareto), both) in normal.iter().zip(&pareto).zip(&both).take(4000) {
            assert_near(
                f64::from(*both),
                f64::from(*normal) / 4.0 + f64::from(*pareto) * 0.75,
                2.0,
            );
        }
        assert!(both.is_sorted() && normal.is_sorted() && pareto.is_sorted());
    }

    #[test]
    fn the_rest_is_as_given() {
        assert!(table(&Distribution::Uniform).is_empty());
        let own = Table::new(vec![3, -1, 2]).unwrap();
        assert_eq!(table(&Distribution::Table(own)), [3, -1, 2]);
    }
}
