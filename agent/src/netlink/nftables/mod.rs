//! Tables, sets, chains and rules of nf_tables (linux/netfilter/nf_tables.h).
//!
//! What is written is what `nft` writes for the same objects; the tests compare with its bytes.

mod expression;
mod monitor;
mod set;

pub use expression::{Comparison, Expression, PacketHeader, Refuse, Register, SetName};
pub use monitor::{Monitor, News};
pub use set::{
    Element, Field, Holds, KeyRange, Set, delete_ranges, flush_set, key, more_ranges,
    new_protocols, new_ranges, new_set, protocols, ranges,
};

use std::fmt;

use netlink_packet_core::NLM_F_APPEND;

use super::{
    Message, Netlink, Refusal,
    attribute::{self, Attributes},
};

/// `NFNL_SUBSYS_NFTABLES` (linux/netfilter/nfnetlink.h).
const SUBSYSTEM: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
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

/// The first attribute of everything that is in a table is the table's name.
const IN_TABLE: u16 = 1;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

/// `NF_ACCEPT` (linux/netfilter.h): also the policy of a chain.
const NF_ACCEPT: u32 = 1;
/// `NF_DROP` of the same.
const NF_DROP: u32 = 0;

/// `NFT_TABLE_F_OWNER`: only the socket that makes it may change it, and it goes with that socket.
const OWNED: u32 = 2;

/// `NFTNL_UDATA_TABLE_COMMENT` and `NFTNL_UDATA_RULE_COMMENT` of libnftnl's udata.h: text with its NUL,
/// which `nft list` shows.
const UDATA_COMMENT: u8 = 0;
/// `NFTNL_UDATA_COMMENT_MAXLEN`, with the NUL.
pub const COMMENT_MAX: usize = 128;

/// What a table's chains can hook into (linux/netfilter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// `NFPROTO_INET`: IPv4 and IPv6.
    Inet = 1,
    /// `NFPROTO_NETDEV`: an interface.
    Netdev = 5,
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Inet => "inet",
            Self::Netdev => "netdev",
        })
    }
}

/// Which table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableId<'a> {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: &'a str,
}

impl TableId<'_> {
    fn message(self, kind: u16, attributes: &Attributes) -> Message {
        Message::new(kind, &header(self.family as u8, 0), attributes)
    }
}

impl fmt::Display for TableId<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "table {} {}", self.family, self.name)
    }
}

/// Where a chain sees packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Of the family `netdev`: as they come in, before any protocol sees them.
    Ingress,
    /// Of the family `netdev`: as they leave, before the interface's root qdisc. Kernels from 5.16 on.
    Egress,
    /// Of the family `inet`: those that are for this pod.
    Input,
    /// Of the family `inet`: those that this pod has made.
    Output,
    /// Of the family `inet`: those that leave.
    Postrouting,
}

impl Hook {
    /// Its number (`enum nf_dev_hooks` or `enum nf_inet_hooks` of linux/netfilter.h).
    pub const fn number(self) -> u32 {
        match self {
            Self::Ingress => 0,
            Self::Egress | Self::Input => 1,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: String,
    /// Its comment, when it has one.
    pub comment: Option<String>,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// The number of its [`Hook`]; `None` is one that only rules lead to.
    pub hook: Option<u32>,
    /// The interface; a chain may have several, then this is `None`.
    pub device: Option<String>,
}

/// `struct nfgenmsg`; the resource only matters to batches.
fn header(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
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
pub fn new_table(table: TableId<'_>, comment: &str) -> Message {
    new_table_with(table, comment, 0)
}

/// As [`new_table`], and the kernel deletes it when the socket is closed through which it was made: with
/// the process, however that ends. Nobody else may change it. Kernels from 5.12 on.
///
/// # Panics
///
/// As [`new_table`].
pub fn new_owned_table(table: TableId<'_>, comment: &str) -> Message {
    new_table_with(table, comment, OWNED)
}

fn new_table_with(table: TableId<'_>, comment: &str, flags: u32) -> Message {
    let attributes = Attributes::new()
        .text(NFTA_TABLE_NAME, table.name)
        .big32(NFTA_TABLE_FLAGS, flags)
        .bytes(NFTA_TABLE_USERDATA, &user_data(comment));
    table.message(NFT_MSG_NEWTABLE, &attributes).create()
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
pub fn delete_table(table: TableId<'_>) -> Message {
    table.message(NFT_MSG_DELTABLE, &Attributes::new().text(NFTA_TABLE_NAME, table.name))
}

/// Makes a chain; one with a hook accepts what no rule decides about.
pub fn new_chain(table: TableId<'_>, chain: &Chain) -> Message {
    new_chain_with(table, chain, 0, NF_ACCEPT)
}

/// As [`new_chain`]; it sees packets after the chains of other tables on the same hook.
pub fn new_later_chain(table: TableId<'_>, chain: &Chain) -> Message {
    new_chain_with(table, chain, 1, NF_ACCEPT)
}

/// As [`new_chain`], but what no rule decides about is dropped.
pub fn new_dropping_chain(table: TableId<'_>, chain: &Chain) -> Message {
    new_chain_with(table, chain, 0, NF_DROP)
}

fn new_chain_with(table: TableId<'_>, chain: &Chain, priority: i32, policy: u32) -> Message {
    let named =
        Attributes::new().text(NFTA_CHAIN_TABLE, table.name).text(NFTA_CHAIN_NAME, &chain.name);
    let attributes = match chain.hook {
        None => named,
        Some(number) => {
            let hook = Attributes::new()
                .big32(NFTA_HOOK_HOOKNUM, number)
                .big32(NFTA_HOOK_PRIORITY, priority.cast_unsigned());
            let hook = match &chain.device {
                Some(device) => hook.text(NFTA_HOOK_DEV, device),
                None => hook,
            };
            named
                .text(NFTA_CHAIN_TYPE, "filter")
                .big32(NFTA_CHAIN_POLICY, policy)
                .nest(NFTA_CHAIN_HOOK, &hook)
        }
    };
    table.message(NFT_MSG_NEWCHAIN, &attributes).create()
}

/// Adds a note to a chain: a rule that does nothing, with a comment.
///
/// # Panics
///
/// When the comment has more than 127 bytes.
pub fn new_note(table: TableId<'_>, chain: &str, comment: &str) -> Message {
    let attributes = Attributes::new()
        .text(NFTA_RULE_TABLE, table.name)
        .text(NFTA_RULE_CHAIN, chain)
        .bytes(NFTA_RULE_USERDATA, &user_data(comment));
    appended(table.message(NFT_MSG_NEWRULE, &attributes))
}

/// The notes in a chain, in order.
pub fn notes(
    netfilter: &mut Netlink,
    table: TableId<'_>,
    chain: &str,
) -> Result<Vec<String>, Refusal> {
    let filter = Attributes::new().text(NFTA_RULE_TABLE, table.name).text(NFTA_RULE_CHAIN, chain);
    netfilter.dump(table.message(NFT_MSG_GETRULE, &filter), |body| {
        let attributes = attributes_in(body, table)?;
        let found = attribute::find(attributes, NFTA_RULE_CHAIN).map(attribute::text)?;
        let data = attribute::find(attributes, NFTA_RULE_USERDATA).filter(|_| found == chain)?;
        read_comment(data)
    })
}

/// Adds a rule at the end of a chain.
pub fn new_rule(table: TableId<'_>, chain: &str, expressions: &[Expression]) -> Message {
    let list = expressions
        .iter()
        .fold(Attributes::new(), |all, expression| all.nest(NFTA_LIST_ELEM, &expression.write()));
    let attributes = Attributes::new()
        .text(NFTA_RULE_TABLE, table.name)
        .text(NFTA_RULE_CHAIN, chain)
        .nest(NFTA_RULE_EXPRESSIONS, &list);
    appended(table.message(NFT_MSG_NEWRULE, &attributes))
}

/// At the end of what is there.
fn appended(message: Message) -> Message {
    let mut message = message.create();
    message.flags = (message.flags & !netlink_packet_core::NLM_F_EXCL) | NLM_F_APPEND;
    message
}

/// The family in `struct nfgenmsg`, when it is one of ours, and the attributes behind it.
fn attributes_of(body: &[u8]) -> Option<(Family, &[u8])> {
    let (header, attributes) = body.split_at_checked(4)?;
    let mut families = [Family::Inet, Family::Netdev].into_iter();
    Some((families.find(|family| *family as u8 == header[0])?, attributes))
}

/// The attributes of an object in this table.
fn attributes_in<'a>(body: &'a [u8], table: TableId<'_>) -> Option<&'a [u8]> {
    let (family, attributes) = attributes_of(body)?;
    let name = attribute::find(attributes, IN_TABLE).map(attribute::text);
    (family == table.family && name.as_deref() == Some(table.name)).then_some(attributes)
}

/// All tables of the families `netdev` and `inet`.
pub fn tables(netfilter: &mut Netlink) -> Result<Vec<Table>, Refusal> {
    let all = Message::new(NFT_MSG_GETTABLE, &header(0, 0), &Attributes::new());
    netfilter.dump(all, read_table)
}

/// Reads bytes as each of the things that the kernel may answer or announce.
pub(crate) fn read_any(bytes: &[u8]) {
    let _ = (read_table(bytes), read_comment(bytes));
    set::read_any(bytes);
    monitor::read(bytes, &mut Vec::new());
}

fn read_table(body: &[u8]) -> Option<Table> {
    let (family, attributes) = attributes_of(body)?;
    Some(Table {
        family,
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

/// The chains of a table.
pub fn chains(netfilter: &mut Netlink, table: TableId<'_>) -> Result<Vec<Chain>, Refusal> {
    netfilter.dump(table.message(NFT_MSG_GETCHAIN, &Attributes::new()), |body| {
        let attributes = attributes_in(body, table)?;
        let hook = attribute::find(attributes, NFTA_CHAIN_HOOK);
        let in_hook = |kind| attribute::find(hook?, kind);
        Some(Chain {
            name: attribute::text(attribute::find(attributes, NFTA_CHAIN_NAME)?),
            hook: in_hook(NFTA_HOOK_HOOKNUM).and_then(attribute::big32),
            device: in_hook(NFTA_HOOK_DEV).map(attribute::text),
        })
    })
}

/// The rules of a table, in order, each with its chain's name.
pub fn rules(
    netfilter: &mut Netlink,
    table: TableId<'_>,
) -> Result<Vec<(String, Vec<Expression>)>, Refusal> {
    let filter = Attributes::new().text(NFTA_RULE_TABLE, table.name);
    netfilter.dump(table.message(NFT_MSG_GETRULE, &filter), |body| {
        let attributes = attributes_in(body, table)?;
        let chain = attribute::text(attribute::find(attributes, NFTA_RULE_CHAIN)?);
        let list = attribute::find(attributes, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
        Some((chain, attribute::read(list).map(|(_, value)| Expression::read(value)).collect()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tables_comment_is_read_back(comment in "[ -~]{0,127}") {
            let id = TableId { family: Family::Netdev, name: "pod-chaos-0badcafe" };
            let written = new_table(id, &comment);
            let table =
                Table { family: id.family, name: id.name.to_owned(), comment: Some(comment) };
            prop_assert_eq!(read_table(&written.body), Some(table));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (read_table(&bytes), read_comment(&bytes));
        }
    }

    #[test]
    fn a_comment_is_found_behind_other_user_data() {
        assert_eq!(read_comment(&[9, 2, 1, 1, 0, 3, b'h', b'i', 0]), Some("hi".to_owned()));
        assert_eq!(read_comment(&[0, 9, b'h']), None);
    }
}
