//! Tables, sets, chains and rules of nf_tables (linux/netfilter/nf_tables.h), of the family `netdev`.
//!
//! What is written is what `nft` writes for the same objects; the tests compare with its bytes.

mod expression;
mod monitor;

pub use expression::{Comparison, Expression, PacketHeader};
pub use monitor::{Monitor, News};

use netlink_packet_core::NLM_F_APPEND;

use super::{
    Message, Netlink, Refusal,
    attribute::{self, Attributes},
};

/// `NFNL_SUBSYS_NFTABLES` (linux/netfilter/nfnetlink.h).
const SUBSYSTEM: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
/// `NFPROTO_NETDEV` (linux/netfilter.h).
const NETDEV: u8 = 5;

/// The type of a message of nf_tables (`enum nf_tables_msg_types`).
const fn kind(number: u16) -> u16 {
    SUBSYSTEM << 8 | number
}

const NFT_MSG_NEWTABLE: u16 = kind(0);
const NFT_MSG_GETTABLE: u16 = kind(1);
const NFT_MSG_DELTABLE: u16 = kind(2);
const NFT_MSG_NEWCHAIN: u16 = kind(3);
const NFT_MSG_GETCHAIN: u16 = kind(4);
const NFT_MSG_NEWRULE: u16 = kind(6);
const NFT_MSG_GETRULE: u16 = kind(7);
const NFT_MSG_NEWSET: u16 = kind(9);
const NFT_MSG_NEWSETELEM: u16 = kind(12);
const NFT_MSG_GETSETELEM: u16 = kind(13);
const NFT_MSG_DELSETELEM: u16 = kind(14);

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_USERDATA: u16 = 6;

const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;

const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;

const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_NAME: u16 = 2;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_TYPE: u16 = 4;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_ID: u16 = 10;
const NFTA_SET_USERDATA: u16 = 13;
/// `NFT_SET_TIMEOUT`: elements may expire.
const SET_TIMEOUT: u32 = 0x10;
/// `TYPE_ETHERTYPE` of libnftables' include/datatype.h. The kernel only keeps it for `nft list`.
const KEY_ETHERTYPE: u32 = 10;
/// `NFTNL_UDATA_SET_KEYBYTEORDER` of libnftnl's udata.h, with `BYTEORDER_BIG_ENDIAN`.
const KEY_IS_BIG_ENDIAN: [u8; 6] = [0, 4, 2, 0, 0, 0];

const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_LIST_SET_ID: u16 = 4;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_TIMEOUT: u16 = 4;
const NFTA_SET_ELEM_EXPIRATION: u16 = 5;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

/// `NF_ACCEPT` (linux/netfilter.h): also the policy of a chain.
const NF_ACCEPT: u32 = 1;
/// `NF_DROP`.
const NF_DROP: u32 = 0;

/// `NFT_TABLE_F_OWNER`: only the socket that makes it may change it, and it goes with that socket.
const OWNED: u32 = 2;

/// Names a set within the transaction that makes it. There is never more than one.
const SET_ID: u32 = 1;

/// `NFTNL_UDATA_TABLE_COMMENT` and `NFTNL_UDATA_RULE_COMMENT` of libnftnl's udata.h: text with its NUL, which `nft list` shows.
const UDATA_COMMENT: u8 = 0;
/// `NFTNL_UDATA_COMMENT_MAXLEN`, with the NUL.
pub const COMMENT_MAX: usize = 128;

/// Where a chain sees packets of the family `netdev` (linux/netfilter.h, `enum nf_dev_hooks`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Hook {
    /// As they come in, before any protocol sees them.
    Ingress = 0,
    /// As they leave, before the interface's root qdisc. Kernels from 5.16 on.
    Egress = 1,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its comment, when it has one.
    pub comment: Option<String>,
}

/// A base chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// [`Hook`], or another one of `enum nf_dev_hooks`.
    pub hook: u32,
    /// The interface; a chain may have several, then this is `None`.
    pub device: Option<String>,
}

/// An element of a set of EtherTypes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// The EtherType.
    pub protocol: u16,
    /// For how long it was added, in milliseconds; `None` is for ever.
    pub timeout_ms: Option<u64>,
    /// For how much longer it is there, in milliseconds; `None` is for ever.
    pub remaining_ms: Option<u64>,
}

/// `struct nfgenmsg`; the resource only matters to batches.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

fn message(kind: u16, attributes: &Attributes) -> Message {
    Message::new(kind, &header(NETDEV, 0), attributes)
}

/// Carries out all of `messages` or none; a refusal says, where known, which of them it was about.
pub fn transact(
    netfilter: &mut Netlink,
    messages: &[Message],
) -> Result<(), (Option<usize>, Refusal)> {
    let frame = |kind| Message::new(kind, &header(0, SUBSYSTEM), &Attributes::new());
    netfilter.transact(&frame(NFNL_MSG_BATCH_BEGIN), messages, &frame(NFNL_MSG_BATCH_END))
}

/// Makes a table. Fails when the name is taken.
///
/// # Panics
///
/// When the comment has more than 127 bytes.
pub fn new_table(name: &str, comment: &str) -> Message {
    new_table_with(name, comment, 0)
}

/// As [`new_table`], and the kernel deletes it when the socket is closed through which it was made: with
/// the process, however that ends. Nobody else may change it. Kernels from 5.12 on.
///
/// # Panics
///
/// As [`new_table`].
pub fn new_owned_table(name: &str, comment: &str) -> Message {
    new_table_with(name, comment, OWNED)
}

fn new_table_with(name: &str, comment: &str, flags: u32) -> Message {
    let attributes = Attributes::new()
        .text(NFTA_TABLE_NAME, name)
        .big32(NFTA_TABLE_FLAGS, flags)
        .bytes(NFTA_TABLE_USERDATA, &user_data(comment));
    message(NFT_MSG_NEWTABLE, &attributes).create()
}

/// The user data with this comment.
fn user_data(comment: &str) -> Vec<u8> {
    let length = comment.len() + 1;
    assert!(length <= COMMENT_MAX, "a comment has {length} bytes");
    let mut data = vec![UDATA_COMMENT, u8::try_from(length).unwrap_or(u8::MAX)];
    data.extend_from_slice(comment.as_bytes());
    data.push(0);
    data
}

/// Deletes a table and all that is in it.
pub fn delete_table(name: &str) -> Message {
    message(NFT_MSG_DELTABLE, &Attributes::new().text(NFTA_TABLE_NAME, name))
}

/// Makes a chain that accepts what no rule decides about.
pub fn new_chain(table: &str, chain: &Chain) -> Message {
    new_chain_with(table, chain, 0, NF_ACCEPT)
}

/// As [`new_chain`]; it sees packets after the chains of other tables on the same hook.
pub fn new_later_chain(table: &str, chain: &Chain) -> Message {
    new_chain_with(table, chain, 1, NF_ACCEPT)
}

/// As [`new_chain`], but what no rule decides about is dropped.
pub fn new_dropping_chain(table: &str, chain: &Chain) -> Message {
    new_chain_with(table, chain, 0, NF_DROP)
}

fn new_chain_with(table: &str, chain: &Chain, priority: i32, policy: u32) -> Message {
    let hook = Attributes::new()
        .big32(NFTA_HOOK_HOOKNUM, chain.hook)
        .big32(NFTA_HOOK_PRIORITY, priority.cast_unsigned());
    let hook = match &chain.device {
        Some(device) => hook.text(NFTA_HOOK_DEV, device),
        None => hook,
    };
    let attributes = Attributes::new()
        .text(NFTA_CHAIN_TABLE, table)
        .text(NFTA_CHAIN_NAME, &chain.name)
        .text(NFTA_CHAIN_TYPE, "filter")
        .big32(NFTA_CHAIN_POLICY, policy)
        .nest(NFTA_CHAIN_HOOK, &hook);
    message(NFT_MSG_NEWCHAIN, &attributes).create()
}

/// Makes a chain that no packet ever comes to: for notes.
pub fn new_notes_chain(table: &str, name: &str) -> Message {
    let attributes = Attributes::new().text(NFTA_CHAIN_TABLE, table).text(NFTA_CHAIN_NAME, name);
    message(NFT_MSG_NEWCHAIN, &attributes).create()
}

/// Adds a note to a chain: a rule that does nothing, with a comment.
///
/// # Panics
///
/// When the comment has more than 127 bytes.
pub fn new_note(table: &str, chain: &str, comment: &str) -> Message {
    let attributes = Attributes::new()
        .text(NFTA_RULE_TABLE, table)
        .text(NFTA_RULE_CHAIN, chain)
        .bytes(NFTA_RULE_USERDATA, &user_data(comment));
    appended(message(NFT_MSG_NEWRULE, &attributes))
}

/// The notes in a chain, in order.
pub fn notes(netfilter: &mut Netlink, table: &str, chain: &str) -> Result<Vec<String>, Refusal> {
    let filter = Attributes::new().text(NFTA_RULE_TABLE, table).text(NFTA_RULE_CHAIN, chain);
    netfilter.dump(message(NFT_MSG_GETRULE, &filter), |body| {
        let attributes = attributes_in(body, NFTA_RULE_TABLE, table)?;
        let found = attribute::find(attributes, NFTA_RULE_CHAIN).map(attribute::text)?;
        let data = attribute::find(attributes, NFTA_RULE_USERDATA).filter(|_| found == chain)?;
        read_comment(data)
    })
}

/// Makes a set of EtherTypes that can expire.
pub fn new_protocol_set(table: &str, name: &str) -> Message {
    let attributes = Attributes::new()
        .text(NFTA_SET_TABLE, table)
        .text(NFTA_SET_NAME, name)
        .big32(NFTA_SET_FLAGS, SET_TIMEOUT)
        .big32(NFTA_SET_KEY_TYPE, KEY_ETHERTYPE)
        .big32(NFTA_SET_KEY_LEN, 2)
        .big32(NFTA_SET_ID, SET_ID)
        .bytes(NFTA_SET_USERDATA, &KEY_IS_BIG_ENDIAN);
    message(NFT_MSG_NEWSET, &attributes).create()
}

/// Adds EtherTypes that the kernel takes out again after so many milliseconds.
pub fn new_protocols(table: &str, set: &str, protocols: &[u16], timeout_ms: u64) -> Message {
    let elements = (1u16..).zip(protocols).fold(Attributes::new(), |all, (number, protocol)| {
        let key = Attributes::new().bytes(NFTA_DATA_VALUE, &protocol.to_be_bytes());
        let element = Attributes::new()
            .big64(NFTA_SET_ELEM_TIMEOUT, timeout_ms)
            .nest(NFTA_SET_ELEM_KEY, &key);
        // As libnftnl does, the elements are numbered; the kernel takes any number.
        all.nest(number, &element)
    });
    let attributes = Attributes::new()
        .text(NFTA_SET_ELEM_LIST_TABLE, table)
        .text(NFTA_SET_ELEM_LIST_SET, set)
        .big32(NFTA_SET_ELEM_LIST_SET_ID, SET_ID)
        .nest(NFTA_SET_ELEM_LIST_ELEMENTS, &elements);
    message(NFT_MSG_NEWSETELEM, &attributes).create()
}

/// Takes all elements out of a set.
pub fn flush_set(table: &str, set: &str) -> Message {
    let which =
        Attributes::new().text(NFTA_SET_ELEM_LIST_SET, set).text(NFTA_SET_ELEM_LIST_TABLE, table);
    message(NFT_MSG_DELSETELEM, &which)
}

/// Adds a rule at the end of a chain.
pub fn new_rule(table: &str, chain: &str, expressions: &[Expression]) -> Message {
    let list = expressions
        .iter()
        .fold(Attributes::new(), |all, expression| all.nest(NFTA_LIST_ELEM, &expression.write()));
    let attributes = Attributes::new()
        .text(NFTA_RULE_TABLE, table)
        .text(NFTA_RULE_CHAIN, chain)
        .nest(NFTA_RULE_EXPRESSIONS, &list);
    appended(message(NFT_MSG_NEWRULE, &attributes))
}

/// At the end of what is there.
fn appended(message: Message) -> Message {
    let mut message = message.create();
    message.flags = (message.flags & !netlink_packet_core::NLM_F_EXCL) | NLM_F_APPEND;
    message
}

/// The attributes behind `struct nfgenmsg`, when the message is of our family.
fn attributes(body: &[u8]) -> Option<&[u8]> {
    let (header, attributes) = body.split_at_checked(4)?;
    (header[0] == NETDEV).then_some(attributes)
}

/// As [`attributes`], of an object in this table.
fn attributes_in<'a>(body: &'a [u8], kind: u16, table: &str) -> Option<&'a [u8]> {
    let attributes = attributes(body)?;
    let found = attribute::find(attributes, kind).map(attribute::text);
    (found.as_deref() == Some(table)).then_some(attributes)
}

/// All tables.
pub fn tables(netfilter: &mut Netlink) -> Result<Vec<Table>, Refusal> {
    netfilter.dump(message(NFT_MSG_GETTABLE, &Attributes::new()), read_table)
}

fn read_table(body: &[u8]) -> Option<Table> {
    let attributes = attributes(body)?;
    Some(Table {
        name: attribute::text(attribute::find(attributes, NFTA_TABLE_NAME)?),
        comment: attribute::find(attributes, NFTA_TABLE_USERDATA).and_then(read_comment),
    })
}

/// Finds the comment among type-length-value triples of one byte, one byte, bytes.
fn read_comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        if *kind == UDATA_COMMENT {
            return Some(attribute::text(value));
        }
        data = rest;
    }
    None
}

/// The base chains of a table.
pub fn chains(netfilter: &mut Netlink, table: &str) -> Result<Vec<Chain>, Refusal> {
    netfilter.dump(message(NFT_MSG_GETCHAIN, &Attributes::new()), |body| {
        let attributes = attributes_in(body, NFTA_CHAIN_TABLE, table)?;
        let hook = attribute::find(attributes, NFTA_CHAIN_HOOK)?;
        Some(Chain {
            name: attribute::text(attribute::find(attributes, NFTA_CHAIN_NAME)?),
            hook: attribute::find(hook, NFTA_HOOK_HOOKNUM).and_then(attribute::big32)?,
            device: attribute::find(hook, NFTA_HOOK_DEV).map(attribute::text),
        })
    })
}

/// The rules of a table, in order, each with its chain's name.
pub fn rules(
    netfilter: &mut Netlink,
    table: &str,
) -> Result<Vec<(String, Vec<Expression>)>, Refusal> {
    let filter = Attributes::new().text(NFTA_RULE_TABLE, table);
    netfilter.dump(message(NFT_MSG_GETRULE, &filter), |body| {
        let attributes = attributes_in(body, NFTA_RULE_TABLE, table)?;
        let chain = attribute::text(attribute::find(attributes, NFTA_RULE_CHAIN)?);
        let list = attribute::find(attributes, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
        Some((chain, attribute::read(list).map(|(_, value)| Expression::read(value)).collect()))
    })
}

/// The EtherTypes that a set holds now; the kernel no longer shows those that expired. No set and no
/// table are refused with `ENOENT`.
pub fn protocols(netfilter: &mut Netlink, table: &str, set: &str) -> Result<Vec<Element>, Refusal> {
    let which =
        Attributes::new().text(NFTA_SET_ELEM_LIST_TABLE, table).text(NFTA_SET_ELEM_LIST_SET, set);
    let parts = netfilter.dump(message(NFT_MSG_GETSETELEM, &which), |body| {
        let list = attribute::find(attributes(body)?, NFTA_SET_ELEM_LIST_ELEMENTS)?;
        Some(attribute::read(list).filter_map(|(_, value)| read_element(value)).collect::<Vec<_>>())
    })?;
    Ok(parts.into_iter().flatten().collect())
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tables_comment_is_read_back(comment in "[ -~]{0,127}") {
            let written = new_table("pod-chaos-0badcafe", &comment);
            let table = Table { name: "pod-chaos-0badcafe".to_owned(), comment: Some(comment) };
            prop_assert_eq!(read_table(&written.body), Some(table));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (read_table(&bytes), read_comment(&bytes), read_element(&bytes));
        }
    }

    #[test]
    fn a_comment_is_found_behind_other_user_data() {
        assert_eq!(read_comment(&[9, 2, 1, 1, 0, 3, b'h', b'i', 0]), Some("hi".to_owned()));
        assert_eq!(read_comment(&[0, 9, b'h']), None);
    }
}
