//! Netlink attributes: type, length, value, padded to four bytes (linux/netlink.h, `struct nlattr`).

use netlink_packet_core::{NLA_ALIGNTO, NLA_F_NESTED, NLA_HEADER_SIZE, NlasIterator};

/// Attributes being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one with these bytes.
    ///
    /// # Panics
    ///
    /// Above 65531 bytes, which no attribute can hold.
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(NLA_HEADER_SIZE + value.len()).expect("attribute below 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(self.0.len().next_multiple_of(NLA_ALIGNTO), 0);
        self
    }

    /// Adds text with the final NUL.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Adds a number in the machine's byte order, as rtnetlink wants it.
    #[must_use]
    pub fn native32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Adds a number in network byte order, as `nf_tables` wants it.
    #[must_use]
    pub fn big32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a number in network byte order, as `nf_tables` wants it.
    #[must_use]
    pub fn big64(self, kind: u16, value: u64) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds attributes within one attribute, marked as nested.
    #[must_use]
    pub fn nest(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NLA_F_NESTED, &inner.0)
    }

    /// As [`Attributes::nest`], without the mark, which parts of rtnetlink predate.
    #[must_use]
    pub fn nest_unmarked(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind, &inner.0)
    }

    /// What was written.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The attributes in `bytes`, as type (without flags) and value. Ends at the first that is cut off.
pub fn read(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).map(|attribute| {
        let value_length = attribute.value_length();
        let kind = attribute.kind();
        (kind, &attribute.into_inner()[NLA_HEADER_SIZE..NLA_HEADER_SIZE + value_length])
    })
}

/// The value of the first attribute of this type.
pub fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    read(bytes).find_map(|(found, value)| (found == kind).then_some(value))
}

/// Text up to its NUL or its end; what is not UTF-8 shows as U+FFFD.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// A number in the machine's byte order.
pub fn native32(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// A number in the machine's byte order.
pub fn native64(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes))
}

/// A signed number in the machine's byte order.
pub fn native_i64(value: &[u8]) -> Option<i64> {
    value.first_chunk().map(|bytes| i64::from_ne_bytes(*bytes))
}

/// A number in network byte order.
pub fn big32(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// A number in network byte order.
pub fn big64(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            values in proptest::collection::vec((0u16..0x3fff, proptest::collection::vec(any::<u8>(), 0..40)), 0..8)
        ) {
            let written = values
                .iter()
                .fold(Attributes::new(), |all, (kind, value)| all.bytes(*kind, value));
            prop_assert_eq!(written.as_bytes().len() % NLA_ALIGNTO, 0);
            let found: Vec<_> = read(written.as_bytes()).map(|(k, v)| (k, v.to_vec())).collect();
            prop_assert_eq!(found, values);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for (_, value) in read(&bytes) {
                let _ = (text(value), native32(value), native64(value), native_i64(value));
                let _ = (big32(value), big64(value));
            }
        }
    }
}
