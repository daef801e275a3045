//! A worse network: all that the kernel's netem can do, in `tc`'s words.

use std::{fmt, num::NonZeroU32};

use serde::{Deserialize, Serialize};

use crate::{Chance, Distribution, Latency, Link, Loss, Percentage, Reorder, Slot, Table};

/// Parameters of the netem qdisc (tc-netem(8)), each of them alone or with others. What is not given
/// changes nothing. Each is right by itself; [`Netem::check`] says whether they are together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Netem {
    /// Each packet is held for this long.
    #[serde(default, skip_serializing_if = "is_default")]
    pub delay: Latency,
    /// By how much the delay varies.
    #[serde(default, skip_serializing_if = "is_default")]
    pub jitter: Latency,
    /// How much of a packet's jitter is in the next one's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub correlation: Percentage,
    /// How the delay varies by the jitter.
    #[serde(default, skip_serializing_if = "is_default")]
    pub distribution: Distribution,
    /// Packets that are lost.
    #[serde(default, skip_serializing_if = "is_default")]
    pub loss: Loss,
    /// Packets that take part in congestion notification (RFC 3168) are marked instead of lost.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ecn: bool,
    /// Packets that arrive twice.
    #[serde(default, skip_serializing_if = "is_default")]
    pub duplicate: Chance,
    /// Packets that arrive with one bit changed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub corrupt: Chance,
    /// Packets that are not delayed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub reorder: Reorder,
    /// The link that packets go over, one after the other.
    #[serde(default, skip_serializing_if = "is_default")]
    pub rate: Option<Link>,
    /// When packets may leave.
    #[serde(default, skip_serializing_if = "is_default")]
    pub slot: Option<Slot>,
    /// Packets that are held at most; later ones are lost. When it is not given, the agent takes what the
    /// other parameters need.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limit: Option<NonZeroU32>,
    /// Where the dice start, for a fault that can be repeated.
    #[serde(default, skip_serializing_if = "is_default")]
    pub seed: Option<u64>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Why parameters make no sense together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadNetem {
    /// None that changes anything.
    #[error("nothing would change")]
    Nothing,
    /// Some packets would have to leave before they came.
    #[error("the jitter ({jitter}) is larger than the delay ({delay})")]
    TooMuchJitter {
        /// As given.
        delay: Latency,
        /// As given.
        jitter: Latency,
    },
    /// More than the kernel's arithmetic takes.
    #[error("a jitter of {0} is more than netem can do, 2.147483647s")]
    JitterTooLong(Latency),
    /// A correlation of delays that do not vary.
    #[error("a correlation of {0} needs a jitter")]
    CorrelationWithoutJitter(Percentage),
    /// A distribution of delays that do not vary.
    #[error("a {0} distribution needs a jitter")]
    DistributionWithoutJitter(&'static str),
    /// Packets cannot overtake others that nothing holds up.
    #[error("reordering needs a delay, which the reordered packets do not get")]
    ReorderWithoutDelay,
    /// There is nothing to mark.
    #[error("congestion marks need a loss, which they replace")]
    EcnWithoutLoss,
    /// Too many numbers for one message to the kernel.
    #[error("the tables of delay and slots have {0} numbers, more than fit: {max}", max = Netem::ENTRIES_MAX)]
    TablesTooLong(usize),
    /// Only its name is known.
    #[error("a table without its numbers cannot be put in force")]
    TableWithoutNumbers,
}

impl BadNetem {
    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Nothing => {
                "give a delay, loss, duplicate, corrupt, rate or slot, or a profile of them"
            }
            Self::TooMuchJitter { .. } => "give a longer delay, or less jitter",
            Self::JitterTooLong(_) => "give less jitter",
            Self::CorrelationWithoutJitter(_) | Self::DistributionWithoutJitter(_) => {
                "give a delay and a jitter with it"
            }
            Self::ReorderWithoutDelay => "give a delay with it, as 10ms",
            Self::EcnWithoutLoss => "give a loss with it, as 1%",
            Self::TablesTooLong(_) => "tables of 4096 numbers are as good",
            Self::TableWithoutNumbers => "give a file of numbers",
        }
    }
}

impl Netem {
    /// `get_jitter` of net/sched/sch_netem.c: above this a kernel caps it, or worse.
    pub const JITTER_MAX_NANOS: u64 = i32::MAX as u64;
    /// Numbers in tables of the user's own that fit into one netlink attribute of 64 KiB with the rest.
    pub const ENTRIES_MAX: usize = 2 * Table::ENTRIES_MAX - 512;

    /// Whether no packet would notice.
    pub fn is_nothing(&self) -> bool {
        self.delay == Latency::ZERO
            && self.loss.is_none()
            && self.duplicate.is_none()
            && self.corrupt.is_none()
            && self.rate.is_none()
            && self.slot.is_none()
    }

    /// Refuses parameters that make no sense together.
    pub fn check(&self) -> Result<(), BadNetem> {
        let Self { delay, jitter, correlation, .. } = *self;
        let entries = self.distribution.entries() + self.slot.as_ref().map_or(0, Slot::entries);
        let refusals = [
            (jitter > delay, BadNetem::TooMuchJitter { delay, jitter }),
            (jitter.as_nanos() > Self::JITTER_MAX_NANOS, BadNetem::JitterTooLong(jitter)),
            (
                jitter == Latency::ZERO && !correlation.is_zero(),
                BadNetem::CorrelationWithoutJitter(correlation),
            ),
            (
                jitter == Latency::ZERO && !self.distribution.is_uniform(),
                BadNetem::DistributionWithoutJitter(self.distribution.name()),
            ),
            (delay == Latency::ZERO && !self.reorder.is_none(), BadNetem::ReorderWithoutDelay),
            (self.ecn && self.loss.is_none(), BadNetem::EcnWithoutLoss),
            (self.is_nothing(), BadNetem::Nothing),
            (entries > Self::ENTRIES_MAX, BadNetem::TablesTooLong(entries)),
            (self.has_unknown_table(), BadNetem::TableWithoutNumbers),
        ];
        let refusal =
            refusals.into_iter().find_map(|(applies, refusal)| applies.then_some(refusal));
        refusal.map_or(Ok(()), Err)
    }

    fn has_unknown_table(&self) -> bool {
        let unknown = |distribution: &Distribution| *distribution == Distribution::SomeTable;
        let of_slots = self.slot.as_ref().map(Slot::distance).is_some_and(|distance| {
            matches!(distance, crate::Distance::Around { distribution, .. } if unknown(distribution))
        });
        unknown(&self.distribution) || of_slots
    }
}

/// As `tc` is told it: `delay 100ms 10ms 25% distribution normal loss 1%`.
impl fmt::Display for Netem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut write = |text: fmt::Arguments<'_>| {
            let written = write!(out, "{separator}{text}");
            separator = " ";
            written
        };
        if self.delay != Latency::ZERO {
            write(format_args!("delay {}", self.delay))?;
        }
        if self.jitter != Latency::ZERO {
            write(format_args!("{}", self.jitter))?;
        }
        if !self.correlation.is_zero() {
            write(format_args!("{}", self.correlation))?;
        }
        if !self.distribution.is_uniform() {
            write(format_args!("distribution {}", self.distribution.name()))?;
        }
        if !self.loss.is_none() {
            write(format_args!("loss {}", self.loss))?;
        }
        if self.ecn {
            write(format_args!("ecn"))?;
        }
        for (name, chance) in [("duplicate", self.duplicate), ("corrupt", self.corrupt)] {
            if !chance.is_none() {
                write(format_args!("{name} {chance}"))?;
            }
        }
        if !self.reorder.is_none() {
            write(format_args!("reorder {}", self.reorder))?;
        }
        if let Some(link) = &self.rate {
            write(format_args!("rate {link}"))?;
        }
        if let Some(slot) = &self.slot {
            write(format_args!("slot {}", slot.without_numbers()))?;
        }
        if let Some(limit) = self.limit {
            write(format_args!("limit {limit}"))?;
        }
        if let Some(seed) = self.seed {
            write(format_args!("seed {seed}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn netem(json: &str) -> Netem {
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
    }

    #[test]
    fn prints_as_tc_is_told() {
        let all = netem(
            r#"{"delay":"100ms","jitter":"10ms","correlation":"25%","distribution":"normal",
                "loss":"gemodel 1% 10%","ecn":true,"duplicate":"1%","corrupt":"0.1% 5%",
                "reorder":"25% gap 5","rate":"1mbit 20","slot":"800us 1ms","limit":1000,"seed":7}"#,
        );
        assert_eq!(
            all.to_string(),
            "delay 100ms 10ms 25% distribution normal loss gemodel 1% 10% 100% 0% ecn \
             duplicate 1% corrupt 0.1% 5% reorder 25% gap 5 rate 1mbit 20 slot 800us 1ms \
             limit 1000 seed 7"
        );
        assert_eq!(all.check(), Ok(()));
        let json = serde_json::to_string(&all).unwrap();
        assert_eq!(netem(&json), all);
        assert_eq!(netem(r#"{"loss":"1%"}"#).to_string(), "loss 1%");
        let table = netem(r#"{"delay":"1ms","jitter":"1ms","distribution":"table:1,2,3"}"#);
        assert_eq!(table.to_string(), "delay 1ms 1ms distribution table");
        assert_eq!(serde_json::to_string(&netem("{}")).unwrap(), "{}");
    }

    #[test]
    fn refuses_what_makes_no_sense_together() {
        for (json, want) in [
            ("{}", "nothing would change"),
            (r#"{"limit":5,"seed":1}"#, "nothing would change"),
            (r#"{"loss":"0%"}"#, "nothing would change"),
            (r#"{"jitter":"1ms"}"#, "the jitter (1ms) is larger than the delay (0s)"),
            (
                r#"{"delay":"3s","jitter":"2200ms"}"#,
                "a jitter of 2.2s is more than netem can do, 2.147483647s",
            ),
            (r#"{"delay":"3s","correlation":"1%"}"#, "a correlation of 1% needs a jitter"),
            (r#"{"delay":"3s","distribution":"pareto"}"#, "a pareto distribution needs a jitter"),
            (
                r#"{"reorder":"1%","loss":"1%"}"#,
                "reordering needs a delay, which the reordered packets do not get",
            ),
            (r#"{"delay":"1ms","ecn":true}"#, "congestion marks need a loss, which they replace"),
            (
                r#"{"delay":"1ms","jitter":"1ms","distribution":"table"}"#,
                "a table without its numbers cannot be put in force",
            ),
        ] {
            assert_eq!(netem(json).check().unwrap_err().to_string(), want, "{json}");
        }
        let table = |length| Distribution::Table(Table::new(vec![0; length]).unwrap());
        let (delay, jitter) = ("1ms".parse().unwrap(), "1ms".parse().unwrap());
        let slot = crate::Distance::Around { distribution: table(16384), delay, jitter };
        let slot = Slot::new(slot, None, None).ok();
        let full = Netem { delay, jitter, distribution: table(16384), slot, ..Netem::default() };
        assert_eq!(full.check(), Err(BadNetem::TablesTooLong(32768)));
    }

    #[test]
    fn any_parameter_makes_a_fault() {
        for json in [
            r#"{"delay":"1us"}"#,
            r#"{"loss":"state 1%"}"#,
            r#"{"duplicate":"1%"}"#,
            r#"{"corrupt":"1%"}"#,
            r#"{"rate":"1mbit"}"#,
            r#"{"slot":"1ms"}"#,
        ] {
            assert_eq!(netem(json).check(), Ok(()), "{json}");
        }
    }

    #[test]
    fn a_parameter_that_is_not_known_is_refused() {
        assert!(serde_json::from_str::<Netem>(r#"{"delay":"1ms","jiter":"1ms"}"#).is_err());
    }
}
