//! How fast a link is, and what it adds to each packet.

use std::{fmt, num::NonZeroU16, str::FromStr};

use crate::{
    BadOption, serde_as_text,
    words::{Words, write_spaced},
};

/// Why a rate was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadRate {
    /// Not a number, or a unit that does not exist.
    #[error("`{0}` is not a rate (write it as 64kbit, 1.5mbit, 1gbit or, in bytes, 100kbps)")]
    Syntax(String),
    /// Less than a byte per second.
    #[error("`{0}` is slower than 8bit, the least that is allowed")]
    TooSlow(String),
    /// Above the limit.
    #[error("`{0}` is faster than 1tbit, the most that is allowed")]
    TooFast(String),
}

/// A rate in whole bytes per second, as the kernel has it, from one to 125,000,000,000 (1 Tbit/s).
///
/// As text with `tc`'s units: `bit`, `kbit`, `mbit`, `gbit`, `tbit` count bits per second in steps of 1000,
/// `kibit` … in steps of 1024; `bps`, `kbps`, … count bytes. A bare number counts bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// The slowest that is allowed.
    pub const MIN: Self = Self(1);
    /// The fastest that is allowed.
    pub const MAX: Self = Self(125_000_000_000);

    /// Bytes per second.
    pub const fn bytes_per_second(self) -> u64 {
        self.0
    }

    /// From bytes per second, within the same limits as from text.
    pub fn from_bytes_per_second(bytes: u64) -> Result<Self, BadRate> {
        let rate = Self(bytes);
        match bytes {
            0 => Err(BadRate::TooSlow("0bit".to_owned())),
            _ if rate > Self::MAX => Err(BadRate::TooFast(rate.to_string())),
            _ => Ok(rate),
        }
    }
}

/// Multiples of the units, and how large they are.
const MULTIPLES: [(&str, u64); 9] = [
    ("", 1),
    ("k", 1_000),
    ("m", 1_000_000),
    ("g", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("ki", 1 << 10),
    ("mi", 1 << 20),
    ("gi", 1 << 30),
    ("ti", 1 << 40),
];

impl fmt::Display for Rate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u128::from(self.0) * 8;
        let fits = |(_, scale): &&(&str, u64)| {
            // With one digit after the point: 1.6mbit, not 1600kbit.
            bits >= u128::from(*scale) && (bits * 10).is_multiple_of(u128::from(*scale))
        };
        let (name, scale) = MULTIPLES[..5].iter().rev().find(fits).unwrap_or(&MULTIPLES[0]);
        let tenths = bits * 10 / u128::from(*scale);
        write!(out, "{}", tenths / 10)?;
        if !tenths.is_multiple_of(10) {
            write!(out, ".{}", tenths % 10)?;
        }
        write!(out, "{name}bit")
    }
}

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Self, BadRate> {
        let syntax = || BadRate::Syntax(text.to_owned());
        let lower = text.trim().to_ascii_lowercase();
        let split = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
        let (number, unit) = lower.split_at(split);
        // In bits.
        let (multiple, bits) = match unit {
            "" => ("", 1),
            _ if unit.ends_with("bit") => (&unit[..unit.len() - 3], 1),
            _ if unit.ends_with("bps") => (&unit[..unit.len() - 3], 8),
            _ => return Err(syntax()),
        };
        let (_, scale) = MULTIPLES.iter().find(|(name, _)| *name == multiple).ok_or_else(syntax)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(syntax());
        }
        // What is finer than this is less than a byte per second.
        let fraction = &fraction[..fraction.len().min(15)];
        let too_fast = || BadRate::TooFast(text.to_owned());
        let digits = format!("0{whole}{fraction}").parse::<u64>().map_err(|_| too_fast())?;
        let place = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
        let bytes = u128::from(digits) * u128::from(*scale) * bits / place / 8;
        match u64::try_from(bytes).map(Self) {
            Ok(Self(0)) => Err(BadRate::TooSlow(text.to_owned())),
            Ok(rate) if rate <= Self::MAX => Ok(rate),
            _ => Err(too_fast()),
        }
    }
}

serde_as_text!(Rate);

const USAGE: &str = "RATE [PACKETOVERHEAD [CELLSIZE [CELLOVERHEAD]]]";

/// The smallest packet of IPv4 in an Ethernet frame, in bytes: what an overhead must not make negative.
const PACKET_MIN: i64 = 34;
/// Above any packet that there is.
const BYTES_MAX: i64 = u16::MAX as i64;

/// A link of this rate: `1mbit`, or with what it adds to packets, as `tc` takes it: `1mbit 20 48 5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    rate: Rate,
    packet_overhead: i32,
    cell: Option<Cell>,
}

/// What a packet is cut into on the link; the last one is filled up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Bytes of the packet in each.
    pub size: NonZeroU16,
    /// Bytes on top of it; negative when less is sent than `size`.
    pub overhead: i32,
}

impl From<Rate> for Link {
    fn from(rate: Rate) -> Self {
        Self { rate, packet_overhead: 0, cell: None }
    }
}

impl Link {
    /// Refuses overheads with which a packet would take no time, or less.
    pub fn new(rate: Rate, packet_overhead: i32, cell: Option<Cell>) -> Result<Self, BadOption> {
        let within = |bytes: i32, least: i64| {
            let fits = (least..=BYTES_MAX).contains(&i64::from(bytes));
            let number = || BadOption::Number { word: bytes.to_string(), least, most: BYTES_MAX };
            fits.then_some(()).ok_or_else(number)
        };
        within(packet_overhead, -PACKET_MIN)?;
        if let Some(Cell { size, overhead }) = cell {
            within(overhead, -BYTES_MAX)?;
            if overhead <= -i32::from(size.get()) {
                let (overhead, size) = (overhead.into(), size.get().into());
                return Err(BadOption::CellOverhead { overhead, size });
            }
        }
        Ok(Self { rate, packet_overhead, cell })
    }

    /// How fast it is.
    pub const fn rate(self) -> Rate {
        self.rate
    }

    /// Bytes that each packet takes more than it has; negative when it takes less.
    pub const fn packet_overhead(self) -> i32 {
        self.packet_overhead
    }

    /// What packets are cut into, when they are.
    pub const fn cell(self) -> Option<Cell> {
        self.cell
    }
}

impl fmt::Display for Link {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, packet_overhead, cell } = self;
        match cell {
            Some(Cell { size, overhead: 0 }) => write_spaced(out, &[rate, packet_overhead, size]),
            Some(Cell { size, overhead }) => {
                write_spaced(out, &[rate, packet_overhead, size, overhead])
            }
            None if *packet_overhead != 0 => write_spaced(out, &[rate, packet_overhead]),
            None => rate.fmt(out),
        }
    }
}

impl FromStr for Link {
    type Err = BadOption;

    fn from_str(text: &str) -> Result<Self, BadOption> {
        let mut words = Words::new(text, USAGE);
        let rate = words.value()?;
        let packet_overhead = words.optional_whole(-PACKET_MIN, BYTES_MAX)?.unwrap_or(0);
        let size = words.optional_whole(0, BYTES_MAX)?.unwrap_or(0);
        let overhead = words.optional_whole(-BYTES_MAX, BYTES_MAX)?.unwrap_or(0);
        words.end()?;
        let small = |number: i64| i32::try_from(number).unwrap_or(0);
        // To tc a cell of no size is no cell.
        let cell = u16::try_from(size).ok().and_then(NonZeroU16::new);
        let cell = cell.map(|size| Cell { size, overhead: small(overhead) });
        if cell.is_none() && overhead != 0 {
            return Err(BadOption::OverheadWithoutCell);
        }
        Self::new(rate, small(packet_overhead), cell)
    }
}

serde_as_text!(Link);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_tcs_units() {
        for (text, bytes, printed) in [
            ("1mbit", 125_000, "1mbit"),
            ("1.5Mbit", 187_500, "1.5mbit"),
            ("1600kbit", 200_000, "1.6mbit"),
            ("768kbit", 96_000, "768kbit"),
            ("100kbps", 100_000, "800kbit"),
            ("1gbit", 125_000_000, "1gbit"),
            ("1tbit", 125_000_000_000, "1tbit"),
            ("1mibit", 131_072, "1048576bit"),
            ("1gibps", 1 << 30, "8589934592bit"),
            ("64000", 8_000, "64kbit"),
            ("8bit", 1, "8bit"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.0, rate.to_string().as_str()), (bytes, printed), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_rate_with_the_reason() {
        for text in ["", "mbit", "1.2.3mbit", "1mb", "-1mbit", "1 parsec", "fast"] {
            assert_eq!(text.parse::<Rate>(), Err(BadRate::Syntax(text.to_owned())));
        }
        assert_eq!("7bit".parse::<Rate>(), Err(BadRate::TooSlow("7bit".to_owned())));
        for text in ["1.1tbit", "99999999999999999999999tbit"] {
            assert_eq!(text.parse::<Rate>(), Err(BadRate::TooFast(text.to_owned())));
        }
    }

    #[test]
    fn a_link_takes_overheads_as_tc_does() {
        for text in
            ["1mbit", "1mbit 20", "1mbit -14", "1mbit 0 48 5", "1mbit 20 53 -5", "1mbit 0 48"]
        {
            assert_eq!(text.parse::<Link>().unwrap().to_string(), text);
        }
        for (text, want) in [
            ("1mbit 0 48 -48", "a cell overhead of -48 takes away all of a cell of 48 bytes"),
            ("1mbit 0 0 5", "a cell overhead needs a cell size"),
            ("1mbit -35", "`-35` is not a whole number from -34 to 65535"),
            ("1mbit fast", "`fast` is not a whole number from -34 to 65535"),
        ] {
            assert_eq!(text.parse::<Link>().unwrap_err().to_string(), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bytes in 1..=Rate::MAX.0) {
            let rate = Rate(bytes);
            prop_assert_eq!(rate.to_string().parse(), Ok(rate));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = text.parse::<Rate>();
            let _ = text.parse::<Link>();
        }
    }
}
