//! Sets of nf_tables: EtherTypes, addresses, protocols, ports, and what is made up of them.

use super::{
    IN_TABLE, NFT_MSG_DELSETELEM, NFT_MSG_GETSETELEM, NFT_MSG_NEWSET, NFT_MSG_NEWSETELEM,
    NFTA_DATA_VALUE, NFTA_LIST_ELEM, TableId, attributes_of,
};
use crate::netlink::{
    Message, Netlink, Refusal,
    attribute::{self, Attributes},
};

const NFTA_SET_TABLE: u16 = IN_TABLE;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
const NFTA_SET_DESC_CONCAT: u16 = 2;
const NFTA_SET_FIELD_LEN: u16 = 1;

/// `NFT_SET_INTERVAL`: elements are ranges.
const SET_INTERVAL: u32 = 0x4;
/// `NFT_SET_TIMEOUT`: elements may expire.
const SET_TIMEOUT: u32 = 0x10;
/// `NFT_SET_CONCAT`: keys have several fields, each a range of its own.
const SET_CONCAT: u32 = 0x80;

/// `NFTNL_UDATA_SET_KEYBYTEORDER` of libnftnl's udata.h, four bytes, with `BYTEORDER_BIG_ENDIAN` or, where
/// `nft` leaves it open, zero. The kernel only keeps it for `nft list`.
const BIG_ENDIAN: [u8; 6] = [0, 4, 2, 0, 0, 0];
const ANY_ENDIAN: [u8; 6] = [0, 4, 0, 0, 0, 0];
/// What `nft` adds for keys of several fields: `NFTNL_UDATA_SET_KEY_TYPEOF`, with an expression of the kind
/// `EXPR_CONCAT` and no description of it.
const CONCATENATION: [u8; 10] = [3, 8, 0, 4, 13, 0, 0, 0, 1, 0];

const NFTA_SET_ELEM_LIST_TABLE: u16 = IN_TABLE;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_LIST_SET_ID: u16 = 4;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
/// `NFT_SET_ELEM_INTERVAL_END`: a range ended before this key.
const INTERVAL_END: u32 = 1;

/// How many ranges go into one message: what is nested in an attribute must stay below 64 KiB, and a range
/// of the longest key takes 72 bytes.
const RANGES_PER_MESSAGE: usize = 800;

/// What a key is made of, numbered as in libnftables' include/datatype.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Field {
    /// An IPv4 address.
    Ipv4 = 7,
    /// An IPv6 address.
    Ipv6 = 8,
    /// An EtherType.
    EtherType = 10,
    /// The protocol number of an IP packet.
    Protocol = 12,
    /// A port.
    Port = 13,
}

impl Field {
    /// Its length in bytes.
    pub const fn length(self) -> usize {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
            Self::EtherType | Self::Port => 2,
            Self::Protocol => 1,
        }
    }

    /// The same within a key of several, where each begins at a register.
    const fn padded(self) -> usize {
        self.length().next_multiple_of(4)
    }
}

/// What a set holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Single keys.
    Keys,
    /// Single keys that expire.
    TimedKeys,
    /// Ranges of keys.
    Ranges,
}

/// A set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Its number within the transaction that makes it, not zero.
    pub id: u32,
    /// What its keys are made of.
    pub fields: &'static [Field],
    /// What is made of them.
    pub holds: Holds,
}

impl Set {
    /// As expressions name it.
    pub fn named(&self) -> super::SetName {
        super::SetName { name: self.name.clone(), id: self.id }
    }
}

/// All keys between two, those included. Of keys with several fields, each field is between its two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyRange {
    /// The lowest.
    pub first: Vec<u8>,
    /// The highest.
    pub last: Vec<u8>,
}

/// A key of several fields, in network byte order, each padded as the registers are.
pub fn key(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend_from_slice(field);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// An element that expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// The EtherType.
    pub protocol: u16,
    /// For how long it was added, in milliseconds; `None` is for ever.
    pub timeout_ms: Option<u64>,
    /// For how much longer it is there, in milliseconds; `None` is for ever.
    pub remaining_ms: Option<u64>,
}

/// Makes a set.
pub fn new_set(table: TableId<'_>, set: &Set) -> Message {
    let several = set.fields.len() > 1;
    // The type of the last field is in the lowest six bits.
    let kind = set.fields.iter().fold(0, |all, field| all << 6 | *field as u32);
    let length: usize = match set.fields {
        [field] => field.length(),
        fields => fields.iter().map(|field| field.padded()).sum(),
    };
    let flags = match set.holds {
        Holds::Keys => 0,
        Holds::TimedKeys => SET_TIMEOUT,
        Holds::Ranges if several => SET_INTERVAL | SET_CONCAT,
        Holds::Ranges => SET_INTERVAL,
    };
    let mut attributes = Attributes::new()
        .text(NFTA_SET_TABLE, table.name)
        .text(NFTA_SET_NAME, &set.name)
        .big32(NFTA_SET_FLAGS, flags)
        .big32(NFTA_SET_KEY_TYPE, kind)
        .big32(NFTA_SET_KEY_LEN, u32::try_from(length).unwrap_or(u32::MAX))
        .big32(NFTA_SET_ID, set.id);
    if several {
        let fields = set.fields.iter().fold(Attributes::new(), |all, field| {
            let length = u32::try_from(field.length()).unwrap_or(u32::MAX);
            all.nest(NFTA_LIST_ELEM, &Attributes::new().big32(NFTA_SET_FIELD_LEN, length))
        });
        let description = Attributes::new().nest(NFTA_SET_DESC_CONCAT, &fields);
        attributes = attributes.nest(NFTA_SET_DESC, &description);
    }
    let note = match set.fields {
        [Field::Protocol] => ANY_ENDIAN.to_vec(),
        [_] => BIG_ENDIAN.to_vec(),
        _ => [&ANY_ENDIAN[..], &CONCATENATION].concat(),
    };
    table.message(NFT_MSG_NEWSET, &attributes.bytes(NFTA_SET_USERDATA, &note)).create()
}

/// Adds these ranges to a new set, in as many messages as they need. They must be in ascending order and must
/// not overlap; of keys with one field, they must not touch either.
pub fn new_ranges(table: TableId<'_>, set: &Set, ranges: &[KeyRange]) -> Vec<Message> {
    // As nft does: what is below the first range is marked as outside.
    let below = match (set.holds, set.fields, ranges.first()) {
        (Holds::Ranges, [_], Some(KeyRange { first, .. }))
            if first.iter().any(|byte| *byte != 0) =>
        {
            Some(range_end(&vec![0; first.len()]))
        }
        _ => None,
    };
    add_elements(table, set, below, ranges)
}

/// Adds these ranges to those that the set has, which they must not overlap or touch.
pub fn more_ranges(table: TableId<'_>, set: &Set, ranges: &[KeyRange]) -> Vec<Message> {
    add_elements(table, set, None, ranges)
}

fn add_elements(
    table: TableId<'_>,
    set: &Set,
    mut first: Option<Attributes>,
    ranges: &[KeyRange],
) -> Vec<Message> {
    let mut message = |chunk: &[KeyRange]| {
        let elements = chunk.iter().flat_map(|range| range_elements(set, range));
        let elements: Vec<_> = first.take().into_iter().chain(elements).collect();
        table.message(NFT_MSG_NEWSETELEM, &element_list(table, set, &elements)).create()
    };
    ranges.chunks(RANGES_PER_MESSAGE).map(&mut message).collect()
}

/// Takes these ranges out again, each as it was added.
pub fn delete_ranges(table: TableId<'_>, set: &Set, ranges: &[KeyRange]) -> Vec<Message> {
    let message = |chunk: &[KeyRange]| {
        let elements: Vec<_> = chunk.iter().flat_map(|range| range_elements(set, range)).collect();
        table.message(NFT_MSG_DELSETELEM, &element_list(table, set, &elements))
    };
    ranges.chunks(RANGES_PER_MESSAGE).map(message).collect()
}

/// The elements that a range is made of: of keys with one field, one at its start and one behind its end.
fn range_elements(set: &Set, range: &KeyRange) -> Vec<Attributes> {
    let first = nest_key(&range.first);
    match (set.holds, set.fields.len()) {
        (Holds::Ranges, 1) => {
            std::iter::once(first).chain(after(&range.last).map(|next| range_end(&next))).collect()
        }
        (Holds::Ranges, _) => {
            let last = Attributes::new().bytes(NFTA_DATA_VALUE, &range.last);
            vec![first.nest(NFTA_SET_ELEM_KEY_END, &last)]
        }
        _ => vec![first],
    }
}

fn nest_key(bytes: &[u8]) -> Attributes {
    Attributes::new().nest(NFTA_SET_ELEM_KEY, &Attributes::new().bytes(NFTA_DATA_VALUE, bytes))
}

/// A range ended before this key.
fn range_end(bytes: &[u8]) -> Attributes {
    Attributes::new()
        .big32(NFTA_SET_ELEM_FLAGS, INTERVAL_END)
        .nest(NFTA_SET_ELEM_KEY, &Attributes::new().bytes(NFTA_DATA_VALUE, bytes))
}

/// The key behind this one; `None` behind the last.
fn after(key: &[u8]) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    for byte in next.iter_mut().rev() {
        let (value, carry) = byte.overflowing_add(1);
        *byte = value;
        if !carry {
            return Some(next);
        }
    }
    None
}

/// The key in front of this one; of zero, the last.
fn before(key: &[u8]) -> Vec<u8> {
    let mut previous = key.to_vec();
    for byte in previous.iter_mut().rev() {
        let (value, borrow) = byte.overflowing_sub(1);
        *byte = value;
        if !borrow {
            break;
        }
    }
    previous
}

/// Adds EtherTypes that the kernel takes out again after so many milliseconds.
pub fn new_protocols(table: TableId<'_>, set: &Set, protocols: &[u16], timeout_ms: u64) -> Message {
    let elements: Vec<_> = protocols
        .iter()
        .map(|protocol| {
            let key = Attributes::new().bytes(NFTA_DATA_VALUE, &protocol.to_be_bytes());
            Attributes::new().big64(NFTA_SET_ELEM_TIMEOUT, timeout_ms).nest(NFTA_SET_ELEM_KEY, &key)
        })
        .collect();
    table.message(NFT_MSG_NEWSETELEM, &element_list(table, set, &elements)).create()
}

fn element_list(table: TableId<'_>, set: &Set, elements: &[Attributes]) -> Attributes {
    // As libnftnl does, the elements are numbered; the kernel takes any number.
    let list = (1u16..)
        .zip(elements)
        .fold(Attributes::new(), |all, (number, element)| all.nest(number, element));
    Attributes::new()
        .text(NFTA_SET_ELEM_LIST_TABLE, table.name)
        .text(NFTA_SET_ELEM_LIST_SET, &set.name)
        .big32(NFTA_SET_ELEM_LIST_SET_ID, set.id)
        .nest(NFTA_SET_ELEM_LIST_ELEMENTS, &list)
}

/// Takes all elements out of a set.
pub fn flush_set(table: TableId<'_>, set: &str) -> Message {
    let which = Attributes::new()
        .text(NFTA_SET_ELEM_LIST_SET, set)
        .text(NFTA_SET_ELEM_LIST_TABLE, table.name);
    table.message(NFT_MSG_DELSETELEM, &which)
}

/// The EtherTypes that a set holds now; the kernel no longer shows those that expired. No set and no
/// table are refused with `ENOENT`.
pub fn protocols(
    netfilter: &mut Netlink,
    table: TableId<'_>,
    set: &str,
) -> Result<Vec<Element>, Refusal> {
    elements(netfilter, table, set, read_element)
}

/// The ranges that a set holds now, in ascending order. Which it is to be told: the kernel shows the ends of
/// ranges in one way or another.
pub fn ranges(
    netfilter: &mut Netlink,
    table: TableId<'_>,
    set: &str,
    fields: &[Field],
    holds: Holds,
) -> Result<Vec<KeyRange>, Refusal> {
    let mut found = elements(netfilter, table, set, read_key)?;
    if holds == Holds::Ranges && fields.len() == 1 {
        return Ok(join(found));
    }
    found.sort_unstable();
    let range = |key: Key| KeyRange {
        last: key.end.unwrap_or_else(|| key.first.clone()),
        first: key.first,
    };
    Ok(found.into_iter().map(range).collect())
}

/// A key as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    first: Vec<u8>,
    /// Where a range begins at a key at which another ended, the end comes first.
    begins: bool,
    end: Option<Vec<u8>>,
}

/// Joins keys at which ranges begin with those before which they ended.
fn join(mut keys: Vec<Key>) -> Vec<KeyRange> {
    keys.sort_unstable();
    let mut ranges = Vec::new();
    let mut open: Option<Vec<u8>> = None;
    for key in keys {
        if key.begins {
            open.get_or_insert(key.first);
        } else if let Some(first) = open.take() {
            ranges.push(KeyRange { first, last: before(&key.first) });
        }
    }
    ranges.extend(open.map(|first| KeyRange { last: vec![u8::MAX; first.len()], first }));
    ranges
}

fn elements<T>(
    netfilter: &mut Netlink,
    table: TableId<'_>,
    set: &str,
    read: impl Fn(&[u8]) -> Option<T>,
) -> Result<Vec<T>, Refusal> {
    let which = Attributes::new()
        .text(NFTA_SET_ELEM_LIST_TABLE, table.name)
        .text(NFTA_SET_ELEM_LIST_SET, set);
    let parts = netfilter.dump(table.message(NFT_MSG_GETSETELEM, &which), |body| {
        let list = attribute::find(attributes_of(body)?.1, NFTA_SET_ELEM_LIST_ELEMENTS)?;
        Some(attribute::read(list).filter_map(|(_, value)| read(value)).collect::<Vec<_>>())
    })?;
    Ok(parts.into_iter().flatten().collect())
}

/// Reads bytes as elements of sets of each kind.
pub(super) fn read_any(bytes: &[u8]) {
    let _ = read_element(bytes);
    // As they may be, one after the other.
    let keys = attribute::read(bytes).filter_map(|(_, value)| read_key(value));
    let _ = join(keys.chain(read_key(bytes)).collect());
}

fn read_element(attributes: &[u8]) -> Option<Element> {
    let key = attribute::find(attribute::find(attributes, NFTA_SET_ELEM_KEY)?, NFTA_DATA_VALUE)?;
    let number = |kind| attribute::find(attributes, kind).and_then(attribute::big64);
    Some(Element {
        protocol: u16::from_be_bytes(*key.first_chunk()?),
        timeout_ms: number(NFTA_SET_ELEM_TIMEOUT),
        remaining_ms: number(NFTA_SET_ELEM_EXPIRATION),
    })
}

fn read_key(attributes: &[u8]) -> Option<Key> {
    let key = |kind| attribute::find(attribute::find(attributes, kind)?, NFTA_DATA_VALUE);
    let flags = attribute::find(attributes, NFTA_SET_ELEM_FLAGS).and_then(attribute::big32);
    Some(Key {
        first: key(NFTA_SET_ELEM_KEY)?.to_vec(),
        begins: flags.unwrap_or(0) & INTERVAL_END == 0,
        end: key(NFTA_SET_ELEM_KEY_END).map(<[u8]>::to_vec),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn begin(byte: u8) -> Key {
        Key { first: vec![10, byte], begins: true, end: None }
    }

    fn end(byte: u8) -> Key {
        Key { begins: false, ..begin(byte) }
    }

    fn range(first: u8, last: u8) -> KeyRange {
        KeyRange { first: vec![10, first], last: vec![10, last] }
    }

    #[test]
    fn ends_and_beginnings_are_joined_in_whatever_order_they_come() {
        let zero = Key { first: vec![0, 0], begins: false, end: None };
        assert_eq!(
            join(vec![end(8), begin(8), zero, end(20), begin(1)]),
            [range(1, 7), range(8, 19)]
        );
        let open = KeyRange { first: vec![10, 1], last: vec![255, 255] };
        assert_eq!(join(vec![begin(1)]), [open]);
        assert_eq!(join(vec![]), []);
    }

    #[test]
    fn counts_over_bytes() {
        assert_eq!(after(&[10, 255]), Some(vec![11, 0]));
        assert_eq!(after(&[255, 255]), None);
        assert_eq!(before(&[11, 0]), [10, 255]);
    }

    #[test]
    fn fields_begin_at_registers() {
        assert_eq!(key(&[&[10, 0, 0, 1], &[6], &[0, 80]]), [10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (read_element(&bytes), read_key(&bytes));
        }
    }
}
