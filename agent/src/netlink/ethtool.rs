//! What a link's driver does by itself, and what the kernel is to do before it (linux/ethtool_netlink.h,
//! linux/genetlink.h).

use netlink_sys::protocols::NETLINK_GENERIC;

use super::{
    Message, Netlink, Refusal,
    attribute::{self, Attributes},
};

/// `GENL_ID_CTRL`: the family that knows the others.
const CONTROL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

const FAMILY: &str = "ethtool";
const ETHTOOL_MSG_FEATURES_SET: u8 = 12;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_WANTED: u16 = 3;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_HEADER_FLAGS: u16 = 3;
/// `ETHTOOL_FLAG_OMIT_REPLY`: an acknowledgement is enough.
const OMIT_REPLY: u32 = 1 << 1;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

/// `struct genlmsghdr`.
fn header(command: u8) -> [u8; 4] {
    [command, 1, 0, 0]
}

/// Switches off these features of a link, by the names that `ethtool -k` and the kernel use
/// (net/ethtool/common.c, `netdev_features_strings`). The kernel refuses a name that it does not know.
pub fn switch_off(link: i32, features: &[&str]) -> Result<(), Refusal> {
    let mut ethtool = Netlink::open(NETLINK_GENERIC)?;
    let family = find_family(&mut ethtool)?;
    ethtool.request(&without(family, link, features))
}

/// The message that does it. A bit that is named without a value is to be off.
fn without(family: u16, link: i32, features: &[&str]) -> Message {
    let device = Attributes::new()
        .native32(ETHTOOL_A_HEADER_DEV_INDEX, link.cast_unsigned())
        .native32(ETHTOOL_A_HEADER_FLAGS, OMIT_REPLY);
    let bits = features.iter().fold(Attributes::new(), |bits, feature| {
        let bit = Attributes::new().text(ETHTOOL_A_BITSET_BIT_NAME, feature);
        bits.nest(ETHTOOL_A_BITSET_BITS_BIT, &bit)
    });
    let attributes = Attributes::new()
        .nest(ETHTOOL_A_FEATURES_HEADER, &device)
        .nest(ETHTOOL_A_FEATURES_WANTED, &Attributes::new().nest(ETHTOOL_A_BITSET_BITS, &bits));
    Message::new(family, &header(ETHTOOL_MSG_FEATURES_SET), &attributes)
}

/// The number that the kernel has given to the family.
fn find_family(generic: &mut Netlink) -> Result<u16, Refusal> {
    let name = Attributes::new().text(CTRL_ATTR_FAMILY_NAME, FAMILY);
    let answer = generic.get(&Message::new(CONTROL, &header(CTRL_CMD_GETFAMILY), &name))?;
    let found = answer
        .get(4..)
        .and_then(|attributes| attribute::find(attributes, CTRL_ATTR_FAMILY_ID))
        .and_then(|id| id.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes)));
    found.ok_or_else(|| nix::errno::Errno::ENOENT.into())
}
