//! Routes: which interface carries the default route (linux/rtnetlink.h, `struct rtmsg`).

use super::{
    Message, Netlink, Refusal,
    attribute::{self, Attributes},
};

const RTM_GETROUTE: u16 = 26;
const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
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
    let mut header = [0; 12];
    header[0] = family as u8;
    let message = Message::new(RTM_GETROUTE, &header, &Attributes::new());
    let routes = route.dump(message, |body| read_default(body, family))?;
    Ok(routes.into_iter().min().map(|(_, index)| index))
}

/// Reads a route of either family.
pub(crate) fn read_any(body: &[u8]) -> [Option<(u32, i32)>; 2] {
    [Family::V4, Family::V6].map(|family| read_default(body, family))
}

/// Metric and interface of a default route.
fn read_default(body: &[u8], family: Family) -> Option<(u32, i32)> {
    let (header, attributes) = body.split_at_checked(12)?;
    let wanted = header[0] == family as u8
        && header[1] == 0
        && header[4] == RT_TABLE_MAIN
        && header[7] == RTN_UNICAST;
    let number = |kind| attribute::find(attributes, kind).and_then(attribute::native32);
    // `struct rtnexthop`: length, flags, hops, interface.
    let first_path =
        || attribute::find(attributes, RTA_MULTIPATH)?.get(4..).and_then(attribute::native32);
    let index = number(RTA_OIF).or_else(first_path)?;
    wanted.then(|| (number(RTA_PRIORITY).unwrap_or(0), index.cast_signed()))
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn the_first_path_of_several_is_taken() {
        let mut paths = vec![8, 0, 0, 0];
        paths.extend_from_slice(&7u32.to_ne_bytes());
        let attributes = Attributes::new().bytes(RTA_MULTIPATH, &paths);
        assert_eq!(read_default(&route(0, RT_TABLE_MAIN, &attributes), Family::V4), Some((0, 7)));
    }
}
