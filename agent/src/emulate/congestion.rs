//! Explicit congestion notification: a mark instead of a loss (RFC 3168).

use super::{checksum, frame::Ip};

/// The two bits of it in the type of service of IPv4; those of IPv6 lie across two bytes.
const BITS: u8 = 0b11;
const NOT_CAPABLE: u8 = 0b00;
const EXPERIENCED: u8 = 0b11;

/// Whether sender and receiver of a packet take part.
pub fn can_be_marked(frame: &[u8]) -> bool {
    bits(frame).is_some_and(|bits| bits != NOT_CAPABLE)
}

fn bits(frame: &[u8]) -> Option<u8> {
    Some(match Ip::find(frame)? {
        Ip::V4(header, _) => frame.get(header.start + 1)? & BITS,
        Ip::V6(header, _) => (frame.get(header.start + 1)? >> 4) & BITS,
    })
}

/// Marks it.
pub fn mark(frame: &mut [u8]) {
    match Ip::find(frame) {
        Some(Ip::V4(header, _)) => {
            let header = &mut frame[header];
            header[1] |= EXPERIENCED;
            header[10..12].fill(0);
            let checksum = checksum::finish(checksum::sum(0, header));
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        Some(Ip::V6(header, _)) => frame[header.start + 1] |= EXPERIENCED << 4,
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulate::frame::tests::{ipv4, ipv6};

    #[test]
    fn marks_who_takes_part() {
        for service in [0b01, 0b10, 0b11, 0b1011_1001] {
            let mut frame = ipv4(service, b"hello");
            assert!(can_be_marked(&frame));
            mark(&mut frame);
            assert_eq!(frame, ipv4(service | EXPERIENCED, b"hello"), "the checksum fits");
        }
        let mut frame = ipv6(17, &[], b"hello");
        frame[15] = 0x25;
        assert!(can_be_marked(&frame));
        mark(&mut frame);
        assert_eq!(frame[15], 0x35);
    }

    #[test]
    fn does_not_mark_who_does_not() {
        assert!(!can_be_marked(&ipv4(0b1011_1000, b"hello")));
        assert!(!can_be_marked(&ipv6(17, &[], b"hello")));
        assert!(!can_be_marked(&[0; 64]));
    }
}
