//! The kernel's own news about nf_tables: a process that waits for it sleeps until something changes.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use netlink_packet_core::{NLMSG_OVERRUN, NetlinkBuffer};
use netlink_sys::{Socket, protocols::NETLINK_NETFILTER};

use super::{NFT_MSG_DELSETELEM, NFT_MSG_DELTABLE, NFT_MSG_NEWTABLE};
use crate::netlink::{Refusal, attribute};

/// `NFNLGRP_NFTABLES` (linux/netfilter/nfnetlink.h).
const GROUP: u32 = 7;

/// `NFTA_TABLE_NAME` and `NFTA_SET_ELEM_LIST_TABLE` are both the first attribute.
const TABLE: u16 = 1;

/// Listens to changes of nf_tables in this network namespace.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    buffer: Vec<u8>,
}

/// What has changed since the last time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// These tables were made or deleted, or elements were deleted from their sets.
    Tables(Vec<String>),
    /// More than the kernel could keep: anything may have changed.
    Lost,
}

impl Monitor {
    /// Starts to listen.
    pub fn open() -> Result<Self, Refusal> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.add_membership(GROUP)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket, buffer: Vec::new() })
    }

    /// What has come since the last call; never waits.
    pub fn news(&mut self) -> News {
        self.buffer.resize(32 * 1024, 0);
        let mut tables = Vec::new();
        loop {
            match self.socket.recv(&mut self.buffer.as_mut_slice(), nix::libc::MSG_TRUNC) {
                Ok(length) => match self.buffer.get(..length) {
                    Some(bytes) if read(bytes, &mut tables) => {}
                    _ => return News::Lost,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tables.dedup();
                    return News::Tables(tables);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // ENOBUFS: the kernel had to drop some. The rest is still to be read, and is covered by
                // the same answer.
                Err(_) => return News::Lost,
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Collects the names of the tables that changed; `false` when something was lost.
pub(super) fn read(mut bytes: &[u8], tables: &mut Vec<String>) -> bool {
    while !bytes.is_empty() {
        let Ok(message) = NetlinkBuffer::new_checked(bytes) else { return false };
        match message.message_type() {
            NFT_MSG_NEWTABLE | NFT_MSG_DELTABLE | NFT_MSG_DELSETELEM => {
                let attributes = message.payload().get(4..).unwrap_or_default();
                tables.extend(attribute::find(attributes, TABLE).map(attribute::text));
            }
            NLMSG_OVERRUN => return false,
            _ => {}
        }
        let length = (message.length() as usize).next_multiple_of(4);
        bytes = bytes.get(length..).unwrap_or_default();
    }
    true
}
