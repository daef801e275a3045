//! Having one link receive what another one sends: a filter of traffic control with an action
//! (linux/pkt_cls.h, linux/tc_act/tc_mirred.h).

use super::{
    Message, Netlink, Refusal,
    attribute::{self, Attributes},
};

const RTM_NEWQDISC: u16 = 36;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;

/// `TC_H_CLSACT`, and where its filters see what a link sends (`TC_H_MIN_EGRESS`).
const CLSACT: u32 = 0xffff_fff1;
const EGRESS: u32 = 0xffff_fff3;
/// The first filter, of all protocols (`ETH_P_ALL`, linux/if_ether.h).
const FIRST_OF_ALL: u32 = 1 << 16 | 0x0003_u16.to_be() as u32;

/// `TC_U32_TERMINAL`.
const TERMINAL: u8 = 1;
/// `TC_ACT_STOLEN`: the packet goes nowhere else.
const STOLEN: u32 = 4;
/// `TCA_INGRESS_REDIR`.
const TO_INGRESS: u32 = 3;
/// Offset of the interface in `struct tc_mirred`, behind `tc_gen` and `eaction`.
const TO: usize = 24;

/// `struct tcmsg`.
fn header(link: i32, handle: u32, parent: u32, info: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[8..12].copy_from_slice(&handle.to_ne_bytes());
    bytes[12..16].copy_from_slice(&parent.to_ne_bytes());
    bytes[16..].copy_from_slice(&info.to_ne_bytes());
    bytes
}

/// Makes filters of a link possible (the qdisc `clsact`).
pub fn prepare(link: i32) -> Message {
    let attributes = Attributes::new().text(TCA_KIND, "clsact");
    Message::new(RTM_NEWQDISC, &header(link, 0xffff_0000, CLSACT, 0), &attributes).create()
}

/// Has the link with the index `to` receive all that the link with the index `from` is given to send.
pub fn receive(from: i32, to: i32) -> Message {
    // struct tc_u32_sel with one struct tc_u32_key, of zeros: no bit has to be set.
    let mut selector = [0; 32];
    selector[0] = TERMINAL;
    selector[2] = 1;
    // struct tc_mirred: index, capab, action, refcnt, bindcnt, eaction, ifindex.
    let mirred: Vec<u8> = [0, 0, STOLEN, 0, 0, TO_INGRESS, to.cast_unsigned()]
        .iter()
        .flat_map(|number| number.to_ne_bytes())
        .collect();
    let action = Attributes::new()
        .text(TCA_ACT_KIND, "mirred")
        .nest(TCA_ACT_OPTIONS, &Attributes::new().bytes(TCA_MIRRED_PARMS, &mirred));
    let options = Attributes::new()
        .bytes(TCA_U32_SEL, &selector)
        .nest(TCA_U32_ACT, &Attributes::new().nest(1, &action));
    let attributes = Attributes::new().text(TCA_KIND, "u32").nest(TCA_OPTIONS, &options);
    Message::new(RTM_NEWTFILTER, &header(from, 0, EGRESS, FIRST_OF_ALL), &attributes).create()
}

/// The indices of the links that receive what this one is given to send.
pub fn receivers(route: &mut Netlink, from: i32) -> Result<Vec<i32>, Refusal> {
    let message = Message::new(RTM_GETTFILTER, &header(from, 0, EGRESS, 0), &Attributes::new());
    route.dump(message, read)
}

/// Where a filter redirects to.
pub(crate) fn read(body: &[u8]) -> Option<i32> {
    let (_, attributes) = body.split_at_checked(20)?;
    let actions = attribute::find(attribute::find(attributes, TCA_OPTIONS)?, TCA_U32_ACT)?;
    let (_, first) = attribute::read(actions).next()?;
    let mirred = attribute::find(attribute::find(first, TCA_ACT_OPTIONS)?, TCA_MIRRED_PARMS)?;
    let to = mirred.get(TO..)?;
    attribute::native32(to).map(u32::cast_signed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(to in 1..i32::MAX) {
            prop_assert_eq!(read(&receive(7, to).body), Some(to));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = read(&bytes);
        }
    }
}
