//! How many of the pods that were found, and which.

use std::{fmt, num::NonZeroU32, str::FromStr};

use pod_chaos_protocol::Percentage;
use sha2::{Digest as _, Sha256};

/// Why a mode was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMode {
    /// No such mode.
    #[error("`{0}` is not a mode (one, all, fixed=N, percent=N or random-max-percent=N)")]
    Syntax(String),
    /// Not a number of pods.
    #[error("`{0}` is not a number of pods from 1 on")]
    Count(String),
    /// Not a percentage above zero.
    #[error("`{0}` is not a percentage above 0% and up to 100%")]
    Percent(String),
}

/// How many of the pods that were found. The words are those of Chaos Mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Any one.
    One,
    /// All of them.
    #[default]
    All,
    /// So many, or all if there are no more.
    Fixed(NonZeroU32),
    /// This part of them, rounded down, but one at least.
    Percent(Percentage),
    /// Any number from one to this part of them.
    RandomMaxPercent(Percentage),
}

impl Mode {
    /// Whether dice are thrown.
    pub const fn draws(self) -> bool {
        !matches!(self, Self::All)
    }

    /// Those that are chosen, in their order. The same seed chooses the same, in whatever order they come, on
    /// every machine and with every version: each has a rank, the SHA-256 of the seed (8 bytes, the largest
    /// first) and its key, and the first ranks win. One more pod or one less changes no more than it must.
    pub fn choose<T>(self, seed: u64, all: Vec<T>, key: impl Fn(&T) -> String) -> Vec<T> {
        let count = self.count(seed, all.len());
        if count >= all.len() {
            return all;
        }
        let mut ranks: Vec<_> =
            all.iter().enumerate().map(|(at, one)| (rank(seed, &key(one)), at)).collect();
        ranks.sort_unstable();
        let mut chosen = vec![false; all.len()];
        for (_, at) in &ranks[..count] {
            chosen[*at] = true;
        }
        all.into_iter().zip(chosen).filter_map(|(one, chosen)| chosen.then_some(one)).collect()
    }

    /// How many of so many.
    fn count(self, seed: u64, of: usize) -> usize {
        match self {
            Self::All => of,
            Self::One => of.min(1),
            Self::Fixed(count) => of.min(usize::try_from(count.get()).unwrap_or(usize::MAX)),
            Self::Percent(percent) => part(percent, of),
            Self::RandomMaxPercent(percent) => match part(percent, of) {
                0 => 0,
                most => {
                    let mut dice = [0; 8];
                    dice.copy_from_slice(&rank(seed, "")[..8]);
                    let most = u64::try_from(most).unwrap_or(u64::MAX);
                    usize::try_from(u64::from_be_bytes(dice) % most + 1).unwrap_or(of)
                }
            },
        }
    }
}

/// A part of so many, rounded down, but one at least.
pub fn part(percent: Percentage, of: usize) -> usize {
    // A percentage is the nearest step: half a step more never makes it less than was written.
    let steps = 2 * u128::from(percent.scaled()) + 1;
    let part = steps * of as u128 / (2 * u128::from(u32::MAX));
    usize::try_from(part).unwrap_or(of).clamp(of.min(1), of)
}

fn rank(seed: u64, key: &str) -> [u8; 32] {
    Sha256::new().chain_update(seed.to_be_bytes()).chain_update(key).finalize().into()
}

impl fmt::Display for Mode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One => out.write_str("one"),
            Self::All => out.write_str("all"),
            Self::Fixed(count) => write!(out, "fixed={count}"),
            Self::Percent(percent) => write!(out, "percent={percent}"),
            Self::RandomMaxPercent(percent) => write!(out, "random-max-percent={percent}"),
        }
    }
}

impl FromStr for Mode {
    type Err = BadMode;

    fn from_str(text: &str) -> Result<Self, BadMode> {
        let percent = |text: &str| match text.parse::<Percentage>() {
            Ok(percent) if !percent.is_zero() => Ok(percent),
            _ => Err(BadMode::Percent(text.to_owned())),
        };
        match text.split_once('=').unwrap_or((text, "")) {
            ("one", "") => Ok(Self::One),
            ("all", "") => Ok(Self::All),
            ("fixed", count) => {
                count.parse().map(Self::Fixed).map_err(|_| BadMode::Count(count.to_owned()))
            }
            ("percent", part) => percent(part).map(Self::Percent),
            ("random-max-percent", part) => percent(part).map(Self::RandomMaxPercent),
            _ => Err(BadMode::Syntax(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mode(text: &str) -> Mode {
        text.parse().unwrap()
    }

    fn pods(count: usize) -> Vec<String> {
        (0..count).map(|at| format!("demo/web-{at}")).collect()
    }

    #[test]
    fn reads_what_it_prints() {
        for text in ["one", "all", "fixed=3", "percent=30%", "random-max-percent=12.5%"] {
            assert_eq!(mode(text).to_string(), text);
        }
        assert_eq!(mode("percent=30"), mode("percent=30%"));
        for text in [
            "",
            "two",
            "one=1",
            "fixed",
            "fixed=0",
            "fixed=-1",
            "percent",
            "percent=0",
            "percent=101",
        ] {
            assert!(text.parse::<Mode>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_are_rounded_down_to_one_at_least() {
        for (percent, of, count) in [
            ("33", 100, 33),
            ("30", 10, 3),
            ("30", 3, 1),
            ("1", 10, 1),
            ("50", 5, 2),
            ("66.7", 3, 2),
            ("99.9", 1000, 999),
            ("100", 7, 7),
            ("50", 0, 0),
        ] {
            let part = part(percent.parse().unwrap(), of);
            assert_eq!(part, count, "{percent}% of {of}");
        }
    }

    /// A choice that was printed once has to be the same for good: these are not to change.
    #[test]
    fn a_seed_means_the_same_pods_for_ever() {
        for (text, seed, chosen) in [
            ("one", 1, "1"),
            ("one", 2, "2"),
            ("fixed=3", 1, "0 1 2"),
            ("fixed=3", 2, "0 2 5"),
            ("random-max-percent=100", 3, "1 2 4 5 7"),
        ] {
            let pods = mode(text).choose(seed, pods(8), String::clone).join(" ");
            assert_eq!(pods.replace("demo/web-", ""), chosen, "{text} {seed}");
        }
    }

    #[test]
    fn every_number_up_to_the_part_comes_about_and_every_pod() {
        let counts: std::collections::BTreeSet<_> = (0..200)
            .map(|seed| mode("random-max-percent=50").choose(seed, pods(10), String::clone).len())
            .collect();
        assert_eq!(counts.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        let ones: std::collections::BTreeSet<_> =
            (0..200).flat_map(|seed| mode("one").choose(seed, pods(10), String::clone)).collect();
        assert_eq!(ones.len(), 10);
    }

    proptest! {
        #[test]
        fn the_order_does_not_matter_and_others_change_little(
            seed: u64, of in 1..60usize, count in 1..60u32, at in 0..60usize,
        ) {
            let mode = Mode::Fixed(NonZeroU32::new(count).unwrap());
            let mut all = pods(of);
            let chosen = mode.choose(seed, all.clone(), String::clone);
            prop_assert_eq!(chosen.len(), of.min(count as usize));
            all.reverse();
            let mut again = mode.choose(seed, all.clone(), String::clone);
            again.reverse();
            prop_assert_eq!(&again, &chosen);
            // Without one of the others, the choice is what it was.
            all.retain(|one| chosen.contains(one) || *one != format!("demo/web-{at}"));
            let mut fewer = mode.choose(seed, all, String::clone);
            fewer.reverse();
            prop_assert_eq!(fewer, chosen);
        }

        #[test]
        fn a_part_is_within_one_of_what_was_asked(hundredths in 1..=10_000u32, of in 1..5000usize) {
            let percent: Percentage = format!("{}.{:02}", hundredths / 100, hundredths % 100).parse().unwrap();
            let exact = (u64::from(hundredths) * of as u64 / 10_000) as usize;
            prop_assert_eq!(part(percent, of), exact.max(1));
        }
    }
}
