//! Addresses of interfaces (linux/if_addr.h).

use std::net::IpAddr;

use super::{
    Message, Netlink, Refusal,
    attribute::{self, Attributes},
};

const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;

/// An address of the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnAddress {
    /// The interface that has it.
    pub link: i32,
    /// The address.
    pub address: IpAddr,
}

/// All addresses of all interfaces.
pub fn list(route: &mut Netlink) -> Result<Vec<OwnAddress>, Refusal> {
    // `struct ifaddrmsg`, of any family.
    route.dump(Message::new(RTM_GETADDR, &[0; 8], &Attributes::new()), read)
}

pub(crate) fn read(body: &[u8]) -> Option<OwnAddress> {
    let (header, attributes) = body.split_at_checked(8)?;
    let find = |kind| attribute::find(attributes, kind);
    // On a link from point to point, IFA_ADDRESS is the other end's.
    let bytes = find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?;
    let address = match bytes.len() {
        4 => IpAddr::from(*bytes.first_chunk::<4>()?),
        _ => IpAddr::from(*bytes.first_chunk::<16>()?),
    };
    Some(OwnAddress { link: attribute::native32(&header[4..])?.cast_signed(), address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_end_of_a_link_counts() {
        let attributes =
            Attributes::new().bytes(IFA_ADDRESS, &[10, 0, 0, 2]).bytes(IFA_LOCAL, &[10, 0, 0, 1]);
        let body = [&[2, 32, 0, 0, 7, 0, 0, 0][..], attributes.as_bytes()].concat();
        assert_eq!(read(&body), Some(OwnAddress { link: 7, address: [10, 0, 0, 1].into() }));
        assert_eq!(read(&[0; 5]), None);
    }
}
