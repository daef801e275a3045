//! The Internet's checksum (RFC 1071), and those that the kernel has left to be filled in.

use crate::sys::packet::VNET_HEADER;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM` (linux/virtio_net.h).
const NEEDS_CHECKSUM: u8 = 1;

/// Adds bytes to a sum. All but the last part of what is summed up must be even in number.
pub fn sum(start: u32, bytes: &[u8]) -> u32 {
    let mut sum = u64::from(start);
    let mut pairs = bytes.chunks_exact(2);
    for pair in pairs.by_ref() {
        sum += u64::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        sum += u64::from(*last) << 8;
    }
    while sum >> 32 != 0 {
        sum = (sum & 0xffff_ffff) + (sum >> 32);
    }
    u32::try_from(sum).unwrap_or(u32::MAX)
}

/// The checksum of a sum.
pub fn finish(sum: u32) -> u16 {
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).unwrap_or(u16::MAX)
}

/// Fills in the checksum of a packet that the kernel has left to the hardware, and which covers what is to
/// be changed. A packet without one is left as it is.
pub fn fill_in(packet: &mut [u8]) {
    let [flags, _, _, _, _, _, start, start_high, offset, offset_high, ..] = *packet else {
        return;
    };
    if flags & NEEDS_CHECKSUM == 0 {
        return;
    }
    // struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset; in the byte order
    // of the machine, as sockets have it.
    let start = usize::from(u16::from_ne_bytes([start, start_high]));
    let offset = usize::from(u16::from_ne_bytes([offset, offset_high]));
    let Some(covered) = packet.get_mut(VNET_HEADER + start..) else { return };
    if offset + 2 > covered.len() {
        return;
    }
    // What is in its place is the sum of the pseudo-header.
    let checksum = finish(sum(0, covered));
    // Of UDP, zero would mean none (RFC 768); for others this is the same number.
    let checksum = if checksum == 0 { 0xffff } else { checksum };
    covered[offset..offset + 2].copy_from_slice(&checksum.to_be_bytes());
    // All others are only of use with this flag, or with a super-packet.
    packet[0] &= !NEEDS_CHECKSUM;
    packet[6..VNET_HEADER].fill(0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sums_as_the_rfc_does() {
        // RFC 1071, section 3.
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(finish(sum(0, &bytes)), !0xddf2);
        assert_eq!(sum(0, &[0xab]), 0xab00);
    }

    proptest! {
        #[test]
        fn what_is_filled_in_is_right(
            bytes in proptest::collection::vec(any::<u8>(), 20..60), pseudo: u16
        ) {
            let (start, offset) = (4usize, 6usize);
            let header = [&[1, 0, 0, 0, 0, 0][..], &4u16.to_ne_bytes(), &6u16.to_ne_bytes()].concat();
            let mut packet = [header, bytes].concat();
            let at = VNET_HEADER + start + offset;
            packet[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
            fill_in(&mut packet);
            prop_assert_eq!(packet[0], 0);
            let covered = sum(u32::from(pseudo), &packet[VNET_HEADER + start..]);
            prop_assert_eq!(finish(covered), 0);
        }

        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            fill_in(&mut bytes);
        }
    }
}
