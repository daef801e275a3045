//! Packets that leave in slots, as on a medium that is shared.

use std::{fmt, num::NonZeroU32, str::FromStr};

use crate::{BadOption, Distribution, Latency, serde_as_text, words::Words};

const USAGE: &str = "MIN [MAX] [packets N] [bytes N] | \
                     distribution NAME DELAY JITTER [packets N] [bytes N]";

/// The kernel's arithmetic is signed 32 bits of nanoseconds here (`get_slot_next()` and `tabledist()`,
/// net/sched/sch_netem.c).
const SPREAD_MAX_NANOS: u64 = i32::MAX as u64;
/// `struct tc_netem_slot`: packets and bytes are signed, and the largest number is no limit.
const COUNT_MAX: i64 = i32::MAX as i64 - 1;

/// Packets are held until a slot comes, and leave together: `800us`, `800us 1ms packets 20`,
/// `distribution normal 1ms 100us bytes 6000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    distance: Distance,
    packets: Option<NonZeroU32>,
    bytes: Option<NonZeroU32>,
}

/// The time from a slot to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Evenly between two times.
    Between {
        /// The shortest.
        min: Latency,
        /// The longest.
        max: Latency,
    },
    /// Around a mean, in any shape but the even one.
    Around {
        /// The shape.
        distribution: Distribution,
        /// The mean.
        delay: Latency,
        /// What the shape is scaled by.
        jitter: Latency,
    },
}

impl Slot {
    /// Refuses slots that would not come one after the other.
    pub fn new(
        distance: Distance,
        packets: Option<NonZeroU32>,
        bytes: Option<NonZeroU32>,
    ) -> Result<Self, BadOption> {
        let distance = match distance {
            Distance::Around { delay, jitter, .. } if jitter > delay => {
                let (delay, jitter) = (delay.to_string(), jitter.to_string());
                return Err(BadOption::SlotJitter { delay, jitter });
            }
            // The same in the words that the kernel has for it.
            Distance::Around { distribution, delay, jitter }
                if distribution.is_uniform() || jitter == Latency::ZERO =>
            {
                let (delay, jitter) = (delay.as_nanos(), jitter.as_nanos());
                Distance::Between {
                    min: Latency::from_nanos(delay - jitter)?,
                    max: Latency::from_nanos(delay + jitter)?,
                }
            }
            other => other,
        };
        let spread = match &distance {
            Distance::Between { min, max } if min > max => {
                let (min, max) = (min.to_string(), max.to_string());
                return Err(BadOption::SlotOrder { min, max });
            }
            Distance::Between { max: Latency::ZERO, .. } => return Err(BadOption::NoSlots),
            Distance::Between { min, max } => max.as_nanos() - min.as_nanos(),
            Distance::Around { jitter, .. } => jitter.as_nanos(),
        };
        if spread > SPREAD_MAX_NANOS {
            let spread = Latency::from_nanos(spread)?.to_string();
            return Err(BadOption::SlotSpread(spread));
        }
        for count in [packets, bytes].into_iter().flatten() {
            if i64::from(count.get()) > COUNT_MAX {
                let word = count.to_string();
                return Err(BadOption::Number { word, least: 1, most: COUNT_MAX });
            }
        }
        Ok(Self { distance, packets, bytes })
    }

    /// From a slot to the next.
    pub const fn distance(&self) -> &Distance {
        &self.distance
    }

    /// Packets that fit into one; `None` is any number.
    pub const fn packets(&self) -> Option<NonZeroU32> {
        self.packets
    }

    /// Bytes that fit into one; `None` is any number.
    pub const fn bytes(&self) -> Option<NonZeroU32> {
        self.bytes
    }

    /// The longest that a packet waits for a slot, nearly: a shape may go further.
    pub fn longest(&self) -> Latency {
        match &self.distance {
            Distance::Between { max, .. } => *max,
            Distance::Around { delay, jitter, .. } => {
                Latency::from_nanos(delay.as_nanos() + jitter.as_nanos()).unwrap_or(Latency::MAX)
            }
        }
    }

    /// The same, with only the name of a table.
    #[must_use]
    pub fn without_numbers(&self) -> Self {
        let mut slot = self.clone();
        if let Distance::Around { distribution, .. } = &mut slot.distance {
            *distribution = std::mem::take(distribution).without_numbers();
        }
        slot
    }

    /// How many numbers it is made of that have to be sent with it.
    pub fn entries(&self) -> usize {
        match &self.distance {
            Distance::Around { distribution, .. } => distribution.entries(),
            Distance::Between { .. } => 0,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.distance {
            Distance::Between { min, max } if min == max => write!(out, "{min}")?,
            Distance::Between { min, max } => write!(out, "{min} {max}")?,
            Distance::Around { distribution, delay, jitter } => {
                write!(out, "distribution {distribution} {delay} {jitter}")?;
            }
        }
        for (name, count) in [("packets", self.packets), ("bytes", self.bytes)] {
            if let Some(count) = count {
                write!(out, " {name} {count}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Slot {
    type Err = BadOption;

    fn from_str(text: &str) -> Result<Self, BadOption> {
        let mut words = Words::new(text, USAGE);
        let distance = if words.skip("distribution") {
            let distribution = words.value()?;
            Distance::Around { distribution, delay: words.value()?, jitter: words.value()? }
        } else {
            let min: Latency = words.value()?;
            Distance::Between { min, max: words.number()?.unwrap_or(min) }
        };
        let (mut packets, mut bytes) = (None, None);
        while !words.is_empty() {
            let count = if words.skip("packets") {
                &mut packets
            } else if words.skip("bytes") {
                &mut bytes
            } else {
                break;
            };
            let number = words.whole(1, COUNT_MAX)?;
            *count = u32::try_from(number).ok().and_then(NonZeroU32::new);
        }
        words.end()?;
        Self::new(distance, packets, bytes)
    }
}

serde_as_text!(Slot);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_tcs_words() {
        for (text, printed) in [
            ("800us", "800us"),
            ("0.8 1", "800us 1ms"),
            ("800us 1ms bytes 6000 packets 20", "800us 1ms packets 20 bytes 6000"),
            ("distribution normal 1ms 100us packets 2", "distribution normal 1ms 100us packets 2"),
            ("distribution table:1,-1 1ms 100us", "distribution table:1,-1 1ms 100us"),
            ("distribution uniform 1ms 100us", "900us 1.1ms"),
            ("distribution pareto 1ms 0", "1ms"),
        ] {
            assert_eq!(text.parse::<Slot>().unwrap().to_string(), printed, "{text}");
        }
    }

    #[test]
    fn refuses_what_makes_no_sense_with_the_reason() {
        for (text, want) in [
            ("2ms 1ms", "the shortest time between slots (2ms) is above the longest (1ms)"),
            ("0 packets 5", "slots need a time between them above 0"),
            ("distribution uniform 0 0", "slots need a time between them above 0"),
            (
                "1ms 3s",
                "the time between slots varies by 2.999s, more than netem can do, 2.147483647s",
            ),
            (
                "distribution normal 1ms 2ms",
                "the jitter of slots (2ms) is larger than the delay between them (1ms)",
            ),
            ("1ms packets 0", "`0` is not a whole number from 1 to 2147483646"),
            (
                "1ms frames 5",
                "`frames` is not expected here (write it as `MIN [MAX] [packets N] [bytes N] | \
                 distribution NAME DELAY JITTER [packets N] [bytes N]`)",
            ),
        ] {
            assert_eq!(text.parse::<Slot>().unwrap_err().to_string(), want, "{text}");
        }
    }
}
