//! Where things are in an Ethernet frame.

use std::ops::Range;

/// Offset of the EtherType (linux/if_ether.h), and how much a VLAN's tag has.
const ETHER_TYPE: usize = 12;
const TAG: usize = 4;
/// EtherTypes.
const TAGGED: [u16; 2] = [0x8100, 0x88a8];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// Lengths of headers: that of IPv6, and the smallest of IPv4.
const IPV6_HEADER: usize = 40;
const IPV4_HEADER: usize = 20;

/// Next headers that are followed by another one (RFC 8200, section 4; RFC 4302).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;

/// The packet in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ip {
    /// Its header, and what it carries.
    V4(Range<usize>, Range<usize>),
    /// Its header without its extensions, and what it carries behind those.
    V6(Range<usize>, Range<usize>),
}

impl Ip {
    /// Finds it. `None` for anything else, and for one that is cut off.
    pub fn find(frame: &[u8]) -> Option<Self> {
        let mut at = ETHER_TYPE;
        let mut kind = number(frame, at)?;
        while TAGGED.contains(&kind) {
            at += TAG;
            kind = number(frame, at)?;
        }
        let start = at + 2;
        match kind {
            IPV4 => {
                let header = usize::from(frame.get(start)? & 0x0f) * 4;
                let end = start + usize::from(number(frame, start + 2)?);
                let carried = start + header..end.min(frame.len());
                (header >= IPV4_HEADER && carried.start <= carried.end)
                    .then_some(Self::V4(start..carried.start, carried))
            }
            IPV6 => {
                let header = start..start + IPV6_HEADER;
                let end = header.end + usize::from(number(frame, start + 4)?);
                let end = end.min(frame.len());
                let carried = skip_extensions(frame, *frame.get(start + 6)?, header.end)?;
                (carried <= end).then_some(Self::V6(header, carried..end))
            }
            _ => None,
        }
    }

    /// What it carries.
    pub fn carried(&self) -> Range<usize> {
        match self {
            Self::V4(_, carried) | Self::V6(_, carried) => carried.clone(),
        }
    }
}

/// Where what IPv6 carries begins.
fn skip_extensions(frame: &[u8], mut kind: u8, mut at: usize) -> Option<usize> {
    loop {
        let length = |at: usize| frame.get(at + 1).copied().map(usize::from);
        let size = match kind {
            HOP_BY_HOP | ROUTING | DESTINATION => (length(at)? + 1) * 8,
            AUTHENTICATION => (length(at)? + 2) * 4,
            FRAGMENT => 8,
            _ => return Some(at),
        };
        // What a fragment carries that is not the first is none of these.
        let later_fragment = kind == FRAGMENT && number(frame, at + 2)? & 0xfff8 != 0;
        kind = if later_fragment { u8::MAX } else { *frame.get(at)? };
        at += size;
    }
}

/// A number of two bytes.
fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).and_then(<[u8]>::first_chunk).map(|pair| u16::from_be_bytes(*pair))
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame around a packet.
    pub fn ethernet(kind: u16, packet: &[u8]) -> Vec<u8> {
        [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2][..], &kind.to_be_bytes(), packet].concat()
    }

    /// A packet of IPv4 with this type of service around a datagram of UDP, and some bytes that fill up the
    /// frame.
    pub fn ipv4(service: u8, carried: &[u8]) -> Vec<u8> {
        let length = u16::try_from(20 + carried.len()).unwrap().to_be_bytes();
        let header = [0x45, service, length[0], length[1], 0, 1, 0x40, 0, 64, 17];
        let mut header = [&header[..], &[0, 0, 10, 9, 0, 1, 10, 9, 0, 2]].concat();
        let sum = crate::emulate::checksum::sum(0, &header);
        header[10..12].copy_from_slice(&crate::emulate::checksum::finish(sum).to_be_bytes());
        ethernet(IPV4, &[&header, carried, &[0; 3]].concat())
    }

    /// A packet of IPv6 with these headers in front of what it carries.
    pub fn ipv6(next: u8, extensions: &[u8], carried: &[u8]) -> Vec<u8> {
        let length = u16::try_from(extensions.len() + carried.len()).unwrap().to_be_bytes();
        let header = [&[0x60, 0, 0, 0, length[0], length[1], next, 64][..], &[1; 32]].concat();
        ethernet(IPV6, &[&header, extensions, carried].concat())
    }

    #[test]
    fn finds_what_is_carried() {
        let frame = ipv4(0, b"hello");
        assert_eq!(Ip::find(&frame), Some(Ip::V4(14..34, 34..39)));
        let frame = ipv6(17, &[], b"hello");
        assert_eq!(Ip::find(&frame), Some(Ip::V6(14..54, 54..59)));
    }

    #[test]
    fn skips_tags_of_vlans() {
        let inner = ipv4(0, b"hello");
        let frame = ethernet(0x8100, &[&[0, 7][..], &inner[12..]].concat());
        assert_eq!(&frame[Ip::find(&frame).unwrap().carried()], b"hello");
    }

    #[test]
    fn skips_extension_headers() {
        let hop_by_hop = [DESTINATION, 0, 1, 4, 0, 0, 0, 0];
        let options = [FRAGMENT, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let first = [17, 0, 0, 1, 0, 0, 0, 9];
        let extensions = [&hop_by_hop[..], &options, &first].concat();
        let frame = ipv6(HOP_BY_HOP, &extensions, b"hello");
        assert_eq!(&frame[Ip::find(&frame).unwrap().carried()], b"hello");
        // The next header of a later fragment says what the first one carries.
        let later = [DESTINATION, 0, 0, 9, 0, 0, 0, 9];
        let frame = ipv6(FRAGMENT, &later, b"hello");
        assert_eq!(&frame[Ip::find(&frame).unwrap().carried()], b"hello");
    }

    #[test]
    fn what_is_no_packet_is_none() {
        assert_eq!(Ip::find(&ethernet(0x0806, &[0; 28])), None);
        assert_eq!(Ip::find(&ipv4(0, b"")[..30]), None);
        assert_eq!(Ip::find(&ipv6(HOP_BY_HOP, &[17, 9, 0, 0, 0, 0, 0, 0], b"")), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            kind in prop_oneof![Just(IPV4), Just(IPV6), Just(TAGGED[0])],
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let frame = ethernet(kind, &bytes);
            if let Some(ip) = Ip::find(&frame) {
                prop_assert!(frame.get(ip.carried()).is_some());
            }
        }
    }
}
