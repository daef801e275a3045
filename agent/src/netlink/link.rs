//! Network interfaces (linux/rtnetlink.h, linux/if_link.h).

use super::{
    Message, Netlink, Refusal,
    attribute::{self, Attributes},
};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
/// linux/veth.h.
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;

/// `RTEXT_FILTER_SKIP_STATS`: no one here reads them.
const SKIP_STATS: u32 = 1 << 3;
const AF_INET6: u16 = 10;
/// `IN6_ADDR_GEN_MODE_NONE`.
const NO_ADDRESSES: u8 = 1;
const IFF_UP: u32 = 1;
const IFF_NOARP: u32 = 0x80;
const IFF_MULTICAST: u32 = 0x1000;
/// `IF_OPER_UP` (linux/if.h).
const OPERATIONAL: u8 = 6;
/// linux/if_arp.h.
const ARPHRD_ETHER: u16 = 1;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it.
    pub index: i32,
    /// Its name.
    pub name: String,
    /// Whether it was set up.
    pub up: bool,
    /// Whether its packets are Ethernet frames, and not bare IP as those of most tunnels are.
    pub ethernet: bool,
    /// Largest packet, in bytes, without the Ethernet header.
    pub mtu: u32,
    /// `veth`, `macvlan`, …; `None` for hardware.
    pub kind: Option<String>,
    /// Its alias.
    pub alias: Option<String>,
}

/// `struct ifinfomsg`.
fn header(index: i32, flags: u32, change: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..].copy_from_slice(&change.to_ne_bytes());
    bytes
}

/// Makes a pair of links of the kind `veth`, down: what one sends, the other receives. They have no
/// neighbours to ask for and no groups to join. The address is the first one's. Fails when one of the names
/// is taken.
pub fn create_pair(names: [&str; 2], address: [u8; 6], mtu: u32) -> Message {
    let header = header(0, IFF_NOARP, IFF_NOARP | IFF_MULTICAST);
    let common = |one: Attributes, name: &str| one.native32(IFLA_MTU, mtu).text(IFLA_IFNAME, name);
    let first = common(Attributes::new().bytes(IFLA_ADDRESS, &address), names[0]);
    let second = common(Attributes::new(), names[1]);
    // The other one's attributes have a header of their own in front.
    let peer = [&header[..], second.as_bytes()].concat();
    let info = Attributes::new()
        .bytes(IFLA_INFO_KIND, b"veth")
        .nest_unmarked(IFLA_INFO_DATA, &Attributes::new().bytes(VETH_INFO_PEER, &peer));
    let attributes = first.nest_unmarked(IFLA_LINKINFO, &info);
    Message::new(RTM_NEWLINK, &header, &attributes).create()
}

/// Makes a link of the kind `ifb`, down: what it sends is received by the interface from which it came. Fails
/// when the name is taken.
pub fn create_ifb(name: &str, mtu: u32) -> Message {
    let header = header(0, IFF_NOARP, IFF_NOARP | IFF_MULTICAST);
    let info = Attributes::new().bytes(IFLA_INFO_KIND, b"ifb");
    let attributes = Attributes::new()
        .native32(IFLA_MTU, mtu)
        .text(IFLA_IFNAME, name)
        .nest_unmarked(IFLA_LINKINFO, &info);
    Message::new(RTM_NEWLINK, &header, &attributes).create()
}

/// Gives it an alias.
pub fn set_alias(index: i32, alias: &str) -> Message {
    let attributes = Attributes::new().bytes(IFLA_IFALIAS, alias.as_bytes());
    Message::new(RTM_NEWLINK, &header(index, 0, 0), &attributes)
}

/// Keeps the kernel from giving it a link-local IPv6 address.
pub fn set_no_addresses(index: i32) -> Message {
    let inet6 = Attributes::new().bytes(IFLA_INET6_ADDR_GEN_MODE, &[NO_ADDRESSES]);
    let families = Attributes::new().nest_unmarked(AF_INET6, &inet6);
    let attributes = Attributes::new().nest_unmarked(IFLA_AF_SPEC, &families);
    Message::new(RTM_NEWLINK, &header(index, 0, 0), &attributes)
}

/// Sets it up.
pub fn set_up(index: i32) -> Message {
    Message::new(RTM_NEWLINK, &header(index, IFF_UP, IFF_UP), &Attributes::new())
}

/// Deletes it, its qdiscs, and the other one of its pair.
pub fn delete(index: i32) -> Message {
    Message::new(RTM_DELLINK, &header(index, 0, 0), &Attributes::new())
}

/// All links.
pub fn list(route: &mut Netlink) -> Result<Vec<Link>, Refusal> {
    let attributes = Attributes::new().native32(IFLA_EXT_MASK, SKIP_STATS);
    route.dump(Message::new(RTM_GETLINK, &header(0, 0, 0), &attributes), read)
}

/// Whether it sends: it is up, and the kernel has noticed its carrier. Since Linux 6.8 to ask has it noticed.
pub fn is_operational(route: &mut Netlink, index: i32) -> Result<bool, Refusal> {
    let attributes = Attributes::new().native32(IFLA_EXT_MASK, SKIP_STATS);
    let body = route.get(&Message::new(RTM_GETLINK, &header(index, 0, 0), &attributes))?;
    let state = body.get(16..).and_then(|body| attribute::find(body, IFLA_OPERSTATE));
    Ok(state == Some(&[OPERATIONAL]))
}

pub(crate) fn read(body: &[u8]) -> Option<Link> {
    let (header, attributes) = body.split_at_checked(16)?;
    let find = |kind| attribute::find(attributes, kind);
    Some(Link {
        index: attribute::native32(&header[4..8])?.cast_signed(),
        name: attribute::text(find(IFLA_IFNAME)?),
        up: attribute::native32(&header[8..12])? & IFF_UP != 0,
        ethernet: header[2..4] == ARPHRD_ETHER.to_ne_bytes(),
        mtu: find(IFLA_MTU).and_then(attribute::native32).unwrap_or(0),
        kind: find(IFLA_LINKINFO)
            .and_then(|info| attribute::find(info, IFLA_INFO_KIND))
            .map(attribute::text),
        alias: find(IFLA_IFALIAS).map(attribute::text),
    })
}
