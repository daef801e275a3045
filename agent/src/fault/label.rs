//! What a fault's table says about itself, in its comment: `nft list ruleset` shows it, and the next
//! agent reads it. There is no other memory.

use std::{fmt, str::FromStr};

use pod_chaos_protocol::{Distance, Distribution, Interface, Netem, Slot};

/// Raised when an older agent would misread a newer label.
const VERSION: &str = "v1";

/// The label, as text: `v1 netem eth0 from 123456 to 153456`, in milliseconds of [`crate::clock`]; then
/// `delay normal`, `slot pareto` for what the kernel does not give back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The kind of fault.
    pub kind: Kind,
    /// The interface that is hit.
    pub interface: Interface,
    /// When it was put in force.
    pub from_ms: u64,
    /// When the kernel ends it.
    pub to_ms: u64,
    /// The shapes of its delays, as far as they are not the even one.
    pub shapes: Shapes,
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
    const DELAY: &str = "delay";
    const SLOT: &str = "slot";

    /// Those of a fault, by name.
    pub fn of(netem: &Netem) -> Self {
        let slot = match netem.slot.as_ref().map(Slot::distance) {
            Some(Distance::Around { distribution, .. }) => distribution.clone(),
            _ => Distribution::Uniform,
        };
        Self { delay: netem.distribution.clone().without_numbers(), slot: slot.without_numbers() }
    }
}

/// Kinds of fault, as far as labels tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`super::netem`].
    Netem,
    /// See [`super::emulator`].
    Emulated,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Netem, Self::Emulated];

    const fn word(self) -> &'static str {
        match self {
            Self::Netem => "netem",
            Self::Emulated => "emulated",
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, interface, from_ms, to_ms, shapes } = self;
        let kind = kind.word();
        write!(out, "{VERSION} {kind} {interface} from {from_ms} to {to_ms}")?;
        for (name, shape) in [(Shapes::DELAY, &shapes.delay), (Shapes::SLOT, &shapes.slot)] {
            if !shape.is_uniform() {
                write!(out, " {name} {}", shape.name())?;
            }
        }
        Ok(())
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
        let [VERSION, kind, interface, "from", from, "to", to, ref rest @ ..] = words[..] else {
            return Err(BadLabel);
        };
        let mut shapes = Shapes::default();
        for pair in rest.chunks(2) {
            let [name, shape] = pair else { return Err(BadLabel) };
            let place = match *name {
                Shapes::DELAY => &mut shapes.delay,
                Shapes::SLOT => &mut shapes.slot,
                _ => return Err(BadLabel),
            };
            *place = shape.parse().map_err(|_| BadLabel)?;
        }
        let number = |text: &str| text.parse().map_err(|_| BadLabel);
        Ok(Self {
            kind: Kind::ALL.into_iter().find(|one| one.word() == kind).ok_or(BadLabel)?,
            interface: interface.parse().map_err(|_| BadLabel)?,
            from_ms: number(from)?,
            to_ms: number(to)?,
            shapes,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_printed_is_read_back_and_fits(
            interface in "[a-z][!-.0-9;-~]{0,13}", from_ms: u64, to_ms: u64, shapes: [u8; 2]
        ) {
            let shape = |number| match number % 4 {
                0 => Distribution::Uniform,
                1 => Distribution::Normal,
                2 => Distribution::Paretonormal,
                _ => Distribution::SomeTable,
            };
            let [delay, slot] = shapes.map(shape);
            let shapes = Shapes { delay, slot };
            let interface = interface.parse::<Interface>();
            prop_assume!(interface.is_ok());
            let interface = interface.unwrap();
            for kind in Kind::ALL {
                let label = Label { kind, interface: interface.clone(), from_ms, to_ms, shapes: shapes.clone() };
                prop_assert_eq!(label.to_string().parse(), Ok(label.clone()));
                // NFTNL_UDATA_COMMENT_MAXLEN, less the NUL.
                prop_assert!(label.to_string().len() <= 127);
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = text.parse::<Label>();
        }
    }

    #[test]
    fn other_versions_are_not_read() {
        assert_eq!("v2 netem eth0 from 1 to 2".parse::<Label>(), Err(BadLabel));
        assert_eq!("v1 netem eth0 from 1 to 2 more".parse::<Label>(), Err(BadLabel));
        assert_eq!("v1 netem eth0 from 1 to 2 delay odd".parse::<Label>(), Err(BadLabel));
    }
}
