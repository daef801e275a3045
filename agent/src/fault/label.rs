//! What a fault's table says about itself, in its comment: `nft list ruleset` shows it, and the next
//! agent reads it. There is no other memory.

use std::{fmt, str::FromStr};

use pod_chaos_protocol::Interface;

/// Raised when an older agent would misread a newer label.
const VERSION: &str = "v1";

/// The label, as text: `v1 netem eth0 from 123456 to 153456`, in milliseconds of [`crate::clock`].
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
}

/// Kinds of fault, as far as labels tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`super::netem`].
    Netem,
    /// See [`super::partition`].
    Partition,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Netem, Self::Partition];

    const fn word(self) -> &'static str {
        match self {
            Self::Netem => "netem",
            Self::Partition => "partition",
        }
    }
}

/// Between the names of interfaces; in none of them (`dev_valid_name()` in net/core/dev.c).
const BETWEEN: char = ':';

impl fmt::Display for Label {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, interfaces, from_ms, to_ms } = self;
        write!(out, "{VERSION} {} ", kind.word())?;
        for (number, interface) in interfaces.iter().enumerate() {
            if number > 0 {
                write!(out, "{BETWEEN}")?;
            }
            write!(out, "{interface}")?;
        }
        write!(out, " from {from_ms} to {to_ms}")
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
        let [VERSION, kind, interfaces, "from", from, "to", to] = words[..] else {
            return Err(BadLabel);
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
            partition: bool, from_ms: u64, to_ms: u64
        ) {
            let interfaces: Result<Vec<Interface>, _> =
                names.iter().map(|name| name.parse()).collect();
            prop_assume!(interfaces.is_ok());
            let interfaces = interfaces.unwrap();
            let kind = if partition { Kind::Partition } else { Kind::Netem };
            let label = Label { kind, interfaces, from_ms, to_ms };
            prop_assert_eq!(label.to_string().parse(), Ok(label.clone()));
            // NFTNL_UDATA_COMMENT_MAXLEN, less the NUL.
            prop_assert!(label.to_string().len() <= 127);
        }

        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = text.parse::<Label>();
        }
    }

    #[test]
    fn other_versions_are_not_read() {
        assert_eq!("v1 quake eth0 from 1 to 2".parse::<Label>(), Err(BadLabel));
        assert_eq!("v2 netem eth0 from 1 to 2".parse::<Label>(), Err(BadLabel));
        assert_eq!("v1 netem eth0 from 1 to 2 more".parse::<Label>(), Err(BadLabel));
    }
}
