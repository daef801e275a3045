//! Links by name.

use clap::ValueEnum;
use pod_chaos_protocol::{Latency, Loss, Netem, Rate};

/// A link that people know, as they see it who use it: the round trip is put on the way out of the pod, and
/// so is the rate at which they would receive. docs/network.md has the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Mobile, GPRS
    #[value(name = "2g")]
    Mobile2g,
    /// Mobile, EDGE
    Edge,
    /// Mobile, 3G where it is bad
    #[value(name = "3g-slow")]
    Mobile3gSlow,
    /// Mobile, 3G
    #[value(name = "3g")]
    Mobile3g,
    /// Mobile, 3G where it is good
    #[value(name = "3g-fast")]
    Mobile3gFast,
    /// Mobile, 4G
    #[value(name = "4g")]
    Mobile4g,
    /// Mobile, LTE
    Lte,
    /// A telephone line with a modem
    DialUp,
    /// A telephone line with DSL
    Dsl,
    /// A television cable
    Cable,
    /// A glass fiber
    Fiber,
    /// A wireless network at home
    Wifi,
    /// A geostationary satellite
    Satellite,
}

impl Profile {
    /// Round trip, rate towards the user, loss.
    ///
    /// From WebPageTest's connectivity.ini.sample; 4g and lte from sitespeed.io's throttle, wifi from
    /// Firefox' network monitor. For the satellite RFC 2488, section 2: 279 ms each way, and one wrong bit
    /// in ten million, which is one frame of 1500 bytes in 833.
    const fn figures(self) -> (&'static str, Option<&'static str>, Option<&'static str>) {
        match self {
            Self::Mobile2g => ("1.3s", Some("35kbit"), None),
            Self::Edge => ("840ms", Some("240kbit"), None),
            Self::Mobile3gSlow => ("200ms", Some("780kbit"), None),
            Self::Mobile3g => ("300ms", Some("1.6mbit"), None),
            Self::Mobile3gFast => ("150ms", Some("1.6mbit"), None),
            Self::Mobile4g => ("170ms", Some("9mbit"), None),
            Self::Lte => ("70ms", Some("12mbit"), None),
            Self::DialUp => ("120ms", Some("49kbit"), None),
            Self::Dsl => ("50ms", Some("1.5mbit"), None),
            Self::Cable => ("28ms", Some("5mbit"), None),
            Self::Fiber => ("4ms", Some("20mbit"), None),
            Self::Wifi => ("2ms", Some("30mbit"), None),
            Self::Satellite => ("558ms", None, Some("0.12%")),
        }
    }

    /// What it does to packets.
    pub fn netem(self) -> Netem {
        let (delay, rate, loss) = self.figures();
        // The tests parse them all.
        Netem {
            delay: delay.parse().unwrap_or(Latency::ZERO),
            rate: rate.and_then(|rate| Some(rate.parse::<Rate>().ok()?.into())),
            loss: loss.and_then(|loss| loss.parse().ok()).unwrap_or(Loss::NONE),
            ..Netem::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_figures_are_read() {
        for profile in Profile::value_variants() {
            let (delay, rate, loss) = profile.figures();
            let words = [
                Some(format!("delay {delay}")),
                loss.map(|l| format!("loss {l}")),
                rate.map(|r| format!("rate {r}")),
            ];
            let words: Vec<_> = words.into_iter().flatten().collect();
            assert_eq!(profile.netem().to_string(), words.join(" "));
            assert_eq!(profile.netem().check(), Ok(()));
        }
    }

    #[test]
    fn the_page_about_them_has_the_same_figures() {
        let page = include_str!("../../docs/network.md");
        for profile in Profile::value_variants() {
            let name = profile.to_possible_value().unwrap();
            let row = format!("| `{}` | `{}` |", name.get_name(), profile.netem());
            assert!(page.contains(&row), "no {row}");
        }
    }
}
