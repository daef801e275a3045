//! Routes: which interface carries the default route, and where it leads (linux/rtnetlink.h, `struct rtmsg`).

use std::net::IpAddr;

use super::{
    Message, Netlink, Refusal,
    attribute::{self, Attributes},
};

const RTM_GETROUTE: u16 = 26;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
/// Length of `struct rtnexthop`: length, flags, hops, interface.
const NEXT_HOP: usize = 8;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;

/// The IP version of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// `AF_INET`.
    V4 = 2,
    /// `AF_INET6`.
    V6 = 10,
}

/// The index of the interface that the default route of the main table leaves by: the one with the
/// lowest metric, and the first path of a route with several.
pub fn default_interface(route: &mut Netlink, family: Family) -> Result<Option<i32>, Refusal> {
    let routes = route.dump(question(family), |body| read_default(body, family))?;
    Ok(routes.into_iter().min().map(|(_, index)| index))
}

/// The routers that default routes of the main table lead to.
pub fn default_gateways(route: &mut Netlink, family: Family) -> Result<Vec<IpAddr>, Refusal> {
    let routes = route.dump(question(family), |body| read_gateways(body, family))?;
    Ok(routes.concat())
}

fn question(family: Family) -> Message {
    let mut header = [0; 12];
    header[0] = family as u8;
    Message::new(RTM_GETROUTE, &header, &Attributes::new())
}

/// Where a route of either family leads, if it is a default one over an interface.
pub(crate) fn read_any(body: &[u8]) -> [Option<Vec<IpAddr>>; 2] {
    [Family::V4, Family::V6].map(|family| {
        read_default(body, family)?;
        read_gateways(body, family)
    })
}

/// The attributes of a default route.
fn default_route(body: &[u8], family: Family) -> Option<&[u8]> {
    let (header, attributes) = body.split_at_checked(12)?;
    let wanted = header[0] == family as u8
        && header[1] == 0
        && header[4] == RT_TABLE_MAIN
        && header[7] == RTN_UNICAST;
    wanted.then_some(attributes)
}

/// Metric and interface of a default route.
fn read_default(body: &[u8], family: Family) -> Option<(u32, i32)> {
    let attributes = default_route(body, family)?;
    let number = |kind| attribute::find(attributes, kind).and_then(attribute::native32);
    let first_path =
        || attribute::find(attributes, RTA_MULTIPATH)?.get(4..).and_then(attribute::native32);
    let index = number(RTA_OIF).or_else(first_path)?;
    Some((number(RTA_PRIORITY).unwrap_or(0), index.cast_signed()))
}

/// Where a default route leads, over each of its paths.
fn read_gateways(body: &[u8], family: Family) -> Option<Vec<IpAddr>> {
    let attributes = default_route(body, family)?;
    let mut found: Vec<_> = gateway(attributes).into_iter().collect();
    let mut paths = attribute::find(attributes, RTA_MULTIPATH).unwrap_or_default();
    while let Some(length) = paths.first_chunk().map(|length| u16::from_ne_bytes(*length)) {
        let Some((path, rest)) = paths.split_at_checked(usize::from(length).next_multiple_of(4))
        else {
            break;
        };
        let Some(attributes) = path.get(NEXT_HOP..) else { break };
        found.extend(gateway(attributes));
        paths = rest;
    }
    Some(found)
}

/// `RTA_VIA` is for a router of the other version: `struct rtvia` has the family in front.
fn gateway(attributes: &[u8]) -> Option<IpAddr> {
    let other = || attribute::find(attributes, RTA_VIA)?.get(2..);
    let bytes = attribute::find(attributes, RTA_GATEWAY).or_else(other)?;
    match bytes.len() {
        4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn route(prefix: u8, table: u8, attributes: &Attributes) -> Vec<u8> {
        let mut body = vec![Family::V4 as u8, prefix, 0, 0, table, 0, 0, RTN_UNICAST, 0, 0, 0, 0];
        body.extend_from_slice(attributes.as_bytes());
        body
    }

    #[test]
    fn only_a_default_route_of_the_main_table_counts() {
        let eth0 = Attributes::new().native32(RTA_OIF, 2).native32(RTA_PRIORITY, 100);
        let read = |body: &[u8]| read_default(body, Family::V4);
        assert_eq!(read(&route(0, RT_TABLE_MAIN, &eth0)), Some((100, 2)));
        assert_eq!(read(&route(24, RT_TABLE_MAIN, &eth0)), None);
        assert_eq!(read(&route(0, 255, &eth0)), None);
        assert_eq!(read_default(&route(0, RT_TABLE_MAIN, &eth0), Family::V6), None);
        assert_eq!(read(&[0; 3]), None);
    }

    /// A path over the interface 7, to this router.
    fn path(kind: u16, gateway: &[u8]) -> Vec<u8> {
        let attributes = Attributes::new().bytes(kind, gateway);
        let length = u16::try_from(NEXT_HOP + attributes.as_bytes().len()).unwrap();
        let head = [&length.to_ne_bytes()[..], &[0, 0], &7u32.to_ne_bytes()].concat();
        [&head, attributes.as_bytes()].concat()
    }

    #[test]
    fn a_route_may_have_several_paths() {
        let six = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let via = [&[10, 0][..], &six].concat();
        let paths = [path(RTA_GATEWAY, &[10, 0, 0, 1]), path(RTA_VIA, &via)].concat();
        let body = route(0, RT_TABLE_MAIN, &Attributes::new().bytes(RTA_MULTIPATH, &paths));
        assert_eq!(read_default(&body, Family::V4), Some((0, 7)));
        let found = read_gateways(&body, Family::V4);
        assert_eq!(found, Some(vec![[10, 0, 0, 1].into(), six.into()]));
        let one = Attributes::new().native32(RTA_OIF, 2).bytes(RTA_GATEWAY, &[10, 0, 0, 2]);
        let found = read_gateways(&route(0, RT_TABLE_MAIN, &one), Family::V4);
        assert_eq!(found, Some(vec![[10, 0, 0, 2].into()]));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let paths = Attributes::new().bytes(RTA_MULTIPATH, &bytes);
            let _ = (read_any(&bytes), read_any(&route(0, RT_TABLE_MAIN, &paths)));
        }
    }
}
