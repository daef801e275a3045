//! Lengths of time as people write them: a decimal number and a unit, or a bare number.

use std::{fmt, str::FromStr, time::Duration};

use crate::serde_as_text;

/// Why a length of time was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadTime {
    /// Not a number, or a unit that does not exist.
    #[error("`{0}` is not a length of time (write it as 1.5s, 200ms, 50us, 5m or 1h)")]
    Syntax(String),
    /// Below zero.
    #[error("`{0}` is negative")]
    Negative(String),
    /// Finer than the kernel's clock.
    #[error("`{0}` is finer than a nanosecond")]
    TooFine(String),
    /// Below the limit of its type.
    #[error("`{0}` is shorter than {1}, the least that is allowed")]
    TooShort(String, String),
    /// Above the limit of its type.
    #[error("`{0}` is longer than {1}, the most that is allowed")]
    TooLong(String, String),
}

/// Units in the order they are tried when printing; the first that gives a number of at least one.
const UNITS: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads `text` as nanoseconds; a bare number counts `bare` nanoseconds each.
fn parse_nanos(text: &str, bare: u64) -> Result<u64, BadTime> {
    let syntax = || BadTime::Syntax(text.to_owned());
    let trimmed = text.trim();
    if let Some(rest) = trimmed.strip_prefix('-') {
        return Err(if rest.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            BadTime::Negative(text.to_owned())
        } else {
            syntax()
        });
    }
    let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let scale = match unit.trim_start() {
        "" => bare,
        "µs" | "μs" => 1_000,
        unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(syntax)?.1,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(syntax());
    }
    let too_long = || BadTime::TooLong(text.to_owned(), "500 years".to_owned());
    let whole = if whole.is_empty() { 0 } else { whole.parse::<u64>().map_err(|_| too_long())? };
    let mut nanos = whole.checked_mul(scale).ok_or_else(too_long)?;
    // Exact decimal arithmetic: 0.3ms is 300000 ns, which no binary fraction says.
    let mut place = scale;
    for digit in fraction.bytes().map(|b| u64::from(b - b'0')) {
        if digit != 0 && place % 10 != 0 {
            return Err(BadTime::TooFine(text.to_owned()));
        }
        place /= 10;
        nanos = nanos.checked_add(digit * place).ok_or_else(too_long)?;
    }
    Ok(nanos)
}

/// Prints so that [`parse_nanos`] reads the same value back.
fn print_nanos(nanos: u64, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    // Hours and minutes are only used where they come out whole: 90s, not 1.5m.
    let (unit, scale) = UNITS
        .into_iter()
        .find(|&(_, scale)| {
            nanos >= scale && (scale <= 1_000_000_000 || nanos.is_multiple_of(scale))
        })
        .unwrap_or(("s", 1_000_000_000));
    let (whole, mut rest) = (nanos / scale, nanos % scale);
    write!(out, "{whole}")?;
    if rest != 0 {
        out.write_str(".")?;
        let mut place = scale / 10;
        while rest != 0 {
            write!(out, "{}", rest / place)?;
            rest %= place;
            place /= 10;
        }
    }
    out.write_str(unit)
}

macro_rules! time_type {
    ($(#[$doc:meta])* $name:ident, bare $bare:expr, from $min:expr, to $max:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            /// The shortest that is allowed.
            pub const MIN: Self = Self($min);
            /// The longest that is allowed.
            pub const MAX: Self = Self($max);

            /// The length in nanoseconds.
            pub const fn as_nanos(self) -> u64 {
                self.0
            }

            /// From nanoseconds, within the same limits as from text.
            pub fn from_nanos(nanos: u64) -> Result<Self, BadTime> {
                let value = Self(nanos);
                if (Self::MIN..=Self::MAX).contains(&value) {
                    Ok(value)
                } else if nanos < Self::MIN.0 {
                    Err(BadTime::TooShort(value.to_string(), Self::MIN.to_string()))
                } else {
                    Err(BadTime::TooLong(value.to_string(), Self::MAX.to_string()))
                }
            }
        }

        impl From<$name> for Duration {
            fn from(time: $name) -> Self {
                Duration::from_nanos(time.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                print_nanos(self.0, out)
            }
        }

        impl FromStr for $name {
            type Err = BadTime;

            fn from_str(text: &str) -> Result<Self, BadTime> {
                Self::from_nanos(parse_nanos(text, $bare)?)
            }
        }

        serde_as_text!($name);
    };
}

time_type! {
    /// How long a packet is held: nanosecond resolution, a bare number is milliseconds, zero to
    /// 240 s.
    ///
    /// The limit: `struct tc_netem_qopt` (linux/pkt_sched.h) counts 64 ns ticks in 32 bits, 274 s;
    /// a packet later than minutes is a lost one.
    Latency, bare 1_000_000, from 0, to 240_000_000_000
}

time_type! {
    /// How long a fault runs: a bare number is seconds, 20 ms to 24 hours.
    ///
    /// The kernel's timer counts ticks of up to 10 ms (CONFIG_HZ=100); below two of them it says little.
    RunTime, bare 1_000_000_000, from 20_000_000, to 86_400_000_000_000
}

impl Latency {
    /// No delay at all.
    pub const ZERO: Self = Self(0);
}

impl Default for Latency {
    fn default() -> Self {
        Self::ZERO
    }
}

impl RunTime {
    /// How long a fault runs when nobody said: 30 s.
    pub const DEFAULT: Self = Self(30_000_000_000);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn latency(text: &str) -> Result<u64, BadTime> {
        text.parse::<Latency>().map(Latency::as_nanos)
    }

    #[test]
    fn bare_numbers_are_milliseconds_for_a_latency_and_seconds_for_a_run_time() {
        assert_eq!(latency("100"), Ok(100_000_000));
        assert_eq!("30".parse::<RunTime>().unwrap().as_nanos(), 30_000_000_000);
    }

    #[test]
    fn reads_every_unit_exactly() {
        for (text, nanos) in [
            ("1.5s", 1_500_000_000),
            ("200ms", 200_000_000),
            ("0.3", 300_000),
            ("0.5ms", 500_000),
            (".5ms", 500_000),
            ("50us", 50_000),
            ("50µs", 50_000),
            ("7ns", 7),
            ("2m", 120_000_000_000),
            ("0", 0),
        ] {
            assert_eq!(latency(text), Ok(nanos), "{text}");
        }
        assert_eq!("1h".parse::<RunTime>().unwrap().as_nanos(), 3_600_000_000_000);
    }

    #[test]
    fn refuses_what_is_not_a_time_with_the_reason() {
        for (text, want) in [
            ("", "`` is not a length of time (write it as 1.5s, 200ms, 50us, 5m or 1h)"),
            ("ms", "`ms` is not a length of time (write it as 1.5s, 200ms, 50us, 5m or 1h)"),
            ("1.2.3", "`1.2.3` is not a length of time (write it as 1.5s, 200ms, 50us, 5m or 1h)"),
            (
                "5parsec",
                "`5parsec` is not a length of time (write it as 1.5s, 200ms, 50us, 5m or 1h)",
            ),
            ("-5", "`-5` is negative"),
            ("0.5ns", "`0.5ns` is finer than a nanosecond"),
            ("10m", "`10m` is longer than 4m, the most that is allowed"),
            (
                "99999999999999999999",
                "`99999999999999999999` is longer than 500 years, the most that is allowed",
            ),
        ] {
            assert_eq!(latency(text).unwrap_err().to_string(), want, "{text}");
        }
        let error = "0".parse::<RunTime>().unwrap_err().to_string();
        assert_eq!(error, "`0s` is shorter than 20ms, the least that is allowed");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(nanos in 0..=Latency::MAX.as_nanos()) {
            let value = Latency(nanos);
            prop_assert_eq!(value.to_string().parse::<Latency>(), Ok(value));
            let json = serde_json::to_string(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<Latency>(&json).unwrap(), value);
        }

        #[test]
        fn run_times_are_read_back(nanos in RunTime::MIN.as_nanos()..=RunTime::MAX.as_nanos()) {
            let value = RunTime(nanos);
            prop_assert_eq!(value.to_string().parse::<RunTime>(), Ok(value));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = text.parse::<Latency>();
            let _ = text.parse::<RunTime>();
        }
    }
}
