//! The faults, one file each: apply → verify → revert.
//!
//! Everything that is made in the kernel carries the fault's id in its name, and nothing else is ever
//! deleted.

pub mod burn_cpu;
pub mod burn_io;
pub mod burn_memory;
pub mod clear;
pub mod connections;
pub mod counts;
pub mod distribution;
pub mod emulation;
pub mod emulator;
pub mod fill_disk;
pub mod gate;
pub mod label;
pub mod links;
pub mod netem;
pub mod partition;
pub mod pause;
pub mod prio;
pub mod selection;
pub mod signal;
pub mod syscall;

use pod_chaos_protocol::{Direction, FaultId, OWNER};

use crate::netlink::link::Link;

/// Links of faults start with this. The name must fit into 15 characters.
const LINK_PREFIX: &str = "pc-";
/// The second link of a fault's pair ends with this.
const EXIT_SUFFIX: char = 'x';
/// The link for packets that reach the pod ends with this.
const INGRESS_SUFFIX: char = 'i';
/// The name of the emulator's table ends with this.
const EMULATOR_SUFFIX: &str = "-emulator";
/// The kind of links for packets that leave: pairs, where the second receives what the first has sent.
const PAIR_KIND: &str = "veth";
/// The kind of links for packets that reach the pod: what they are given to send, the interface receives
/// from which it came.
const INGRESS_KIND: &str = "ifb";

/// A name for the first of several things, and with a digit for the others.
pub fn numbered(name: &str, number: usize) -> String {
    if number == 0 { name.to_owned() } else { format!("{name}{number}") }
}

/// The name of the fault's link into which packets go that leave this one of its interfaces.
pub fn entry_name(id: FaultId, number: usize) -> String {
    numbered(&format!("{LINK_PREFIX}{id}"), number)
}

/// The name of the fault's link from which they come out.
pub fn exit_name(id: FaultId, number: usize) -> String {
    way_out(id, number, Direction::Egress)
}

/// The name of the fault's link into which packets go that this one of its interfaces receives.
pub fn ingress_name(id: FaultId, number: usize) -> String {
    format!("{}{INGRESS_SUFFIX}", entry_name(id, number))
}

/// The name of the fault's link into which packets go, in that direction.
pub fn way_in(id: FaultId, number: usize, direction: Direction) -> String {
    match direction {
        Direction::Egress => entry_name(id, number),
        Direction::Ingress => ingress_name(id, number),
    }
}

/// The name of the fault's link from which they come out, where they come out of one.
pub fn way_out(id: FaultId, number: usize, direction: Direction) -> String {
    format!("{}{EXIT_SUFFIX}", way_in(id, number, direction))
}

/// The address of the fault's link into which packets go: a local one, by which what the kernel itself
/// sends from there is told from what it was given to send.
pub fn entry_address(id: FaultId) -> [u8; 6] {
    let [a, b, c, d] = id.number().to_be_bytes();
    [0x72, 0x63, a, b, c, d]
}

/// The name of the fault's table.
pub fn table_name(id: FaultId) -> String {
    format!("{OWNER}-{id}")
}

/// The name of the table through which the agent gets packets that it is to treat itself.
pub fn emulator_table_name(id: FaultId) -> String {
    format!("{}{EMULATOR_SUFFIX}", table_name(id))
}

/// The alias of the fault's links.
pub fn link_alias(id: FaultId) -> String {
    format!("{OWNER} {id}")
}

/// The fault that a link of this name would belong to, and the kinds that it could have.
fn read_link_name(name: &str) -> Option<(FaultId, &'static [&'static str])> {
    let (id, rest) = name.strip_prefix(LINK_PREFIX)?.split_at_checked(8)?;
    let rest = rest.strip_prefix(|c: char| c.is_ascii_digit() && c != '0').unwrap_or(rest);
    let kinds: &[_] = match rest.chars().collect::<Vec<_>>()[..] {
        [] | [EXIT_SUFFIX] | [INGRESS_SUFFIX, EXIT_SUFFIX] => &[PAIR_KIND],
        [INGRESS_SUFFIX] => &[INGRESS_KIND, PAIR_KIND],
        _ => return None,
    };
    Some((id.parse().ok()?, kinds))
}

/// The fault that a link of this name would belong to.
pub fn id_of_link(name: &str) -> Option<FaultId> {
    read_link_name(name).map(|(id, _)| id)
}

/// The fault that a table of this name belongs to.
pub fn id_of_table(name: &str) -> Option<FaultId> {
    name.strip_prefix(OWNER)?.strip_prefix('-')?.parse().ok()
}

/// The fault that an emulator's table of this name belongs to.
pub fn id_of_emulator_table(name: &str) -> Option<FaultId> {
    id_of_table(name.strip_suffix(EMULATOR_SUFFIX)?)
}

/// The fault that a table of this name belongs to, its gate or its emulator's.
pub fn id_of_any_table(name: &str) -> Option<FaultId> {
    id_of_table(name).or_else(|| id_of_emulator_table(name))
}

/// The fault that this very link belongs to. A name alone is not enough: someone else's link may look
/// alike. A link that was made but not yet marked, because its agent was killed in between, is down.
pub fn owner_of(link: &Link) -> Option<FaultId> {
    let (id, kinds) = read_link_name(&link.name)?;
    let marked = link.alias.as_deref() == Some(&link_alias(id));
    let unfinished = link.alias.is_none() && !link.up;
    let of_ours = link.kind.as_deref().is_some_and(|kind| kinds.contains(&kind));
    (of_ours && (marked || unfinished)).then_some(id)
}

/// A part of some bytes of memory or disk, in whole bytes.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a fraction of one, of less than 2^53 bytes"
)]
fn part(whole: u64, fraction: f64) -> u64 {
    (whole as f64 * fraction) as u64
}

/// What a clean-up came to. It never stops at the first error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// What is still there afterwards, read back from the kernel.
    pub left: Vec<String>,
    /// What went wrong.
    pub errors: Vec<String>,
}

impl Cleared {
    /// Whether nothing is left and nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.left.is_empty() && self.errors.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, kind: &str, alias: Option<&str>, up: bool) -> Link {
        Link {
            index: 2,
            name: name.to_owned(),
            up,
            ethernet: true,
            mtu: 1500,
            kind: Some(kind.to_owned()),
            alias: alias.map(str::to_owned),
        }
    }

    #[test]
    fn names_are_read_back() {
        let id = FaultId::new(0x0bad_cafe);
        for number in 0..4 {
            let names = Direction::BOTH
                .map(|direction| [way_in(id, number, direction), way_out(id, number, direction)]);
            for name in names.concat() {
                assert_eq!(id_of_link(&name), Some(id), "{name}");
                assert!(name.len() <= 15, "{name}");
            }
        }
        assert_eq!(id_of_table(&table_name(id)), Some(id));
        assert_eq!(id_of_emulator_table(&emulator_table_name(id)), Some(id));
        assert_eq!(id_of_table(&emulator_table_name(id)), None);
    }

    #[test]
    fn only_our_own_links_are_ours() {
        let id = Some(FaultId::new(0x0bad_cafe));
        let alias = Some("pod-chaos 0badcafe");
        for name in ["pc-0badcafe", "pc-0badcafex", "pc-0badcafeix"] {
            assert_eq!(owner_of(&link(name, "veth", alias, true)), id);
            assert_eq!(owner_of(&link(name, "veth", alias, false)), id);
            assert_eq!(owner_of(&link(name, "veth", None, false)), id);
            assert_eq!(owner_of(&link(name, "veth", None, true)), None);
            assert_eq!(owner_of(&link(name, "veth", Some("mine"), false)), None);
            assert_eq!(owner_of(&link(name, "ifb", alias, true)), None);
        }
        assert_eq!(owner_of(&link("pc-0badcafei", "ifb", alias, true)), id);
        assert_eq!(owner_of(&link("pc-0badcafei", "veth", alias, true)), id);
        assert_eq!(owner_of(&link("pc-0badcafei", "dummy", alias, true)), None);
        for name in
            ["pc-printer", "pc-0badcafey", "pc-0badcafexi", "pc-0badcafexx", "pc-0badcafe0", "eth0"]
        {
            assert_eq!(owner_of(&link(name, "veth", alias, true)), None);
        }
    }
}
