//! One bit of a packet is changed, so that who receives it can tell by a checksum.
//!
//! It is a bit of what IP carries. The kernel's netem takes any of the first part of the packet, headers of
//! Ethernet and IP among them, which no network would carry on.

use super::{checksum, dice::Dice, frame::Ip};
use crate::sys::packet::VNET_HEADER;

/// Changes a bit. A packet that carries nothing stays as it is.
pub fn corrupt(packet: &mut [u8], dice: &mut Dice) {
    // Before: else the kernel would make it fit what was changed.
    checksum::fill_in(packet);
    let Some(frame) = packet.get_mut(VNET_HEADER..) else { return };
    let Some(carried) = Ip::find(frame).and_then(|ip| frame.get_mut(ip.carried())) else { return };
    if carried.is_empty() {
        return;
    }
    let bit = dice.below(carried.len() as u64 * 8);
    carried[usize::try_from(bit / 8).unwrap_or(0)] ^= 1 << (bit % 8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulate::frame::tests::{ipv4, ipv6};

    #[test]
    fn one_bit_of_what_is_carried_changes() {
        let mut dice = Dice::new(1);
        for frame in [ipv4(0, &[7; 100]), ipv6(0, &[17, 0, 0, 0, 0, 0, 0, 0], &[7; 100])] {
            let carried = Ip::find(&frame).unwrap().carried();
            let before = [vec![0; VNET_HEADER], frame].concat();
            let mut hit = std::collections::BTreeSet::new();
            for _ in 0..10_000 {
                let mut after = before.clone();
                corrupt(&mut after, &mut dice);
                let changed = before.iter().zip(&after).enumerate();
                let changed: Vec<_> = changed
                    .filter(|(_, (one, other))| one != other)
                    .map(|(at, (one, other))| (at - VNET_HEADER, one ^ other))
                    .collect();
                let [(at, bits)] = changed[..] else { panic!("{changed:?}") };
                assert!(carried.contains(&at) && bits.is_power_of_two());
                hit.insert((at, bits));
            }
            assert_eq!(hit.len(), 800, "any of the bits");
        }
    }
}
