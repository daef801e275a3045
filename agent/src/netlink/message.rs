//! One netlink message: what is asked, how, of what.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST};

use super::attribute::Attributes;

/// Length of `struct nlmsghdr` (linux/netlink.h).
pub const HEADER: usize = 16;

/// A request, complete but for its length and sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// The family's header (`struct ifinfomsg`, `struct tcmsg`, …) and the attributes.
    pub body: Vec<u8>,
}

impl Message {
    /// A request with the family's own header and these attributes.
    pub fn new(kind: u16, header: &[u8], attributes: &Attributes) -> Self {
        let mut body = header.to_vec();
        body.extend_from_slice(attributes.as_bytes());
        Self { kind, flags: NLM_F_REQUEST, body }
    }

    /// The object must not exist yet.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.flags |= NLM_F_CREATE | NLM_F_EXCL;
        self
    }

    /// All objects are wanted.
    #[must_use]
    pub fn dump(mut self) -> Self {
        self.flags |= NLM_F_DUMP;
        self
    }

    /// Writes the message behind what `out` already holds.
    ///
    /// # Panics
    ///
    /// Above 4 GiB.
    pub fn write(&self, sequence: u32, extra_flags: u16, out: &mut Vec<u8>) {
        let length = u32::try_from(HEADER + self.body.len()).expect("message below 4 GiB");
        out.extend_from_slice(&length.to_ne_bytes());
        out.extend_from_slice(&self.kind.to_ne_bytes());
        out.extend_from_slice(&(self.flags | extra_flags).to_ne_bytes());
        out.extend_from_slice(&sequence.to_ne_bytes());
        // Port 0: the kernel knows which socket it came from.
        out.extend_from_slice(&0u32.to_ne_bytes());
        out.extend_from_slice(&self.body);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}
