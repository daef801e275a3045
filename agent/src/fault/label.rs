//! What a fault's table says about itself, in its comment: `nft list ruleset` shows it, and the next
//! agent reads it. There is no other memory.

use std::{fmt, str::FromStr};

use pod_chaos_protocol::{Distance, Distribution, Interface, Netem, Slot};

/// Raised when an older agent would misread a newer label.
const VERSION: &str = "v1";

/// What the kernel's timer may be off by: two ticks of the slowest configuration, 100 per second.
const TICKS_MS: u64 = 20;

/// The label, as text: `v1 netem eth0 from 123456 to 153456`, in milliseconds of [`crate::clock`]; then
/// `normal/even` for what the kernel does not give back, the shapes of the delay and of the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The kind of fault.
    pub kind: Kind,
    /// The interfaces that are hit, at most [`pod_chaos_protocol::MAX_INTERFACES`].
    pub interfaces: Vec<Interface>,
    /// When it was put in force.
    pub from_ms: u64,
    /// When the kernel ends it.
    pub to_ms: u64,
    /// The shapes of its delays, as far as they are not the even one.
    pub shapes: Shapes,
}

impl Label {
    /// Corrects its times by the kernel's timer of `timeout_ms`, which ends the fault at `to_ms`. A label is
    /// written before large sets are loaded, and the timer starts when they are.
    pub fn set_right(&mut self, timeout_ms: u64, to_ms: u64) {
        if to_ms > self.to_ms.saturating_add(TICKS_MS) {
            self.to_ms = to_ms;
            self.from_ms = to_ms.saturating_sub(timeout_ms);
        }
    }
}

/// The shapes of delays: the kernel takes tables, and gives none back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shapes {
    /// Of the delay of packets.
    pub delay: Distribution,
    /// Of the time between slots.
    pub slot: Distribution,
}

impl Shapes {
    /// Words as short as a label needs them that names as many interfaces as there may be.
    const WORDS: [(&str, Distribution); 5] = [
        ("even", Distribution::Uniform),
        ("normal", Distribution::Normal),
        ("pareto", Distribution::Pareto),
        ("mixed", Distribution::Paretonormal),
        ("table", Distribution::SomeTable),
    ];

    /// Those of a fault, by name.
    pub fn of(netem: &Netem) -> Self {
        let slot = match netem.slot.as_ref().map(Slot::distance) {
            Some(Distance::Around { distribution, .. }) => distribution.clone(),
            _ => Distribution::Uniform,
        };
        Self { delay: netem.distribution.clone().without_numbers(), slot: slot.without_numbers() }
    }

    fn word(shape: &Distribution) -> &'static str {
        let mut words = Self::WORDS.into_iter();
        words.find(|(_, one)| one.name() == shape.name()).map_or(shape.name(), |(word, _)| word)
    }

    fn shape(word: &str) -> Option<Distribution> {
        Self::WORDS.into_iter().find(|(one, _)| *one == word).map(|(_, shape)| shape)
    }
}

impl fmt::Display for Shapes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", Self::word(&self.delay), Self::word(&self.slot))
    }
}

impl FromStr for Shapes {
    type Err = BadLabel;

    fn from_str(text: &str) -> Result<Self, BadLabel> {
        let (delay, slot) = text.split_once('/').ok_or(BadLabel)?;
        let [delay, slot] = [delay, slot].map(Self::shape);
        Ok(Self { delay: delay.ok_or(BadLabel)?, slot: slot.ok_or(BadLabel)? })
    }
}

/// Kinds of fault, as far as labels tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`super::netem`].
    Netem,
    /// See [`super::prio`].
    Prio,
    /// See [`super::emulator`].
    Emulated,
    /// See [`super::partition`].
    Partition,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Netem, Self::Prio, Self::Emulated, Self::Partition];

    const fn word(self) -> &'static str {
        match self {
            Self::Netem => "netem",
            Self::Prio => "prio",
            Self::Emulated => "emulated",
            Self::Partition => "partition",
        }
    }
}

/// Between the names of interfaces; in none of them (`dev_valid_name()` in net/core/dev.c).
const BETWEEN: char = ':';

impl fmt::Display for Label {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, interfaces, from_ms, to_ms, shapes } = self;
        write!(out, "{VERSION} {} ", kind.word())?;
        for (number, interface) in interfaces.iter().enumerate() {
            if number > 0 {
                write!(out, "{BETWEEN}")?;
            }
            write!(out, "{interface}")?;
        }
        write!(out, " from {from_ms} to {to_ms}")?;
        if *shapes == Shapes::default() { Ok(()) } else { write!(out, " {shapes}") }
    }
}

/// Not a label that this agent can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a label of version {VERSION}")]
pub struct BadLabel;

impl FromStr for Label {
    type Err = BadLabel;

    fn from_str(text: &str) -> Result<Self, BadLabel> {
        // An interface's name has no white space in it.
        let words: Vec<_> = text.split(' ').collect();
        let [VERSION, kind, interfaces, "from", from, "to", to, ref rest @ ..] = words[..] else {
            return Err(BadLabel);
        };
        let shapes = match rest {
            [] => Shapes::default(),
            [shapes] => shapes.parse()?,
            _ => return Err(BadLabel),
        };
        let number = |text: &str| text.parse().map_err(|_| BadLabel);
        Ok(Self {
            kind: Kind::ALL.into_iter().find(|one| one.word() == kind).ok_or(BadLabel)?,
            interfaces: interfaces
                .split(BETWEEN)
                .map(|interface| interface.parse().map_err(|_| BadLabel))
                .collect::<Result<_, _>>()?,
            from_ms: number(from)?,
            to_ms: number(to)?,
            shapes,
        })
    }
}

#[cfg(test)]
mod tests {
    use pod_chaos_protocol::MAX_INTERFACES;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_printed_is_read_back_and_fits(
            names in proptest::collection::vec("[a-z][!-.0-9;-~]{0,14}", 1..=MAX_INTERFACES),
            // Up to 30,000 years.
            times in proptest::array::uniform2(0..1_000_000_000_000_000u64),
            shapes in proptest::array::uniform2(proptest::sample::select(Shapes::WORDS.to_vec())),
        ) {
            let interfaces: Result<Vec<Interface>, _> =
                names.iter().map(|name| name.parse()).collect();
            prop_assume!(interfaces.is_ok());
            let interfaces = interfaces.unwrap();
            let [delay, slot] = shapes.map(|(_, shape)| shape);
            let [from_ms, to_ms] = times;
            // Only netem has shapes of delays.
            for kind in Kind::ALL {
                let shapes = match kind {
                    Kind::Netem | Kind::Prio => Shapes { delay: delay.clone(), slot: slot.clone() },
                    _ => Shapes::default(),
                };
                let label = Label { kind, interfaces: interfaces.clone(), from_ms, to_ms, shapes };
                prop_assert_eq!(label.to_string().parse(), Ok(label.clone()));
                // NFTNL_UDATA_COMMENT_MAXLEN, less the NUL.
                prop_assert!(label.to_string().len() <= 127, "{}", label);
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = text.parse::<Label>();
        }
    }

    #[test]
    fn the_timer_is_believed_when_it_started_later() {
        let at = |from_ms, to_ms| {
            let text = format!("v1 partition eth0 from {from_ms} to {to_ms}");
            text.parse::<Label>().unwrap()
        };
        let mut label = at(1_000, 6_000);
        label.set_right(5_000, 6_490);
        assert_eq!(label, at(1_490, 6_490));
        // A tick is no difference, and no timer starts before its label is written.
        for to_ms in [6_010, 5_500] {
            let mut label = at(1_000, 6_000);
            label.set_right(5_000, to_ms);
            assert_eq!(label, at(1_000, 6_000));
        }
    }

    #[test]
    fn other_versions_are_not_read() {
        assert_eq!("v1 quake eth0 from 1 to 2".parse::<Label>(), Err(BadLabel));
        assert_eq!("v2 netem eth0 from 1 to 2".parse::<Label>(), Err(BadLabel));
        assert_eq!("v1 netem eth0 from 1 to 2 more".parse::<Label>(), Err(BadLabel));
        assert_eq!("v1 netem eth0 from 1 to 2 odd/even".parse::<Label>(), Err(BadLabel));
    }
}
