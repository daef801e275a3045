//! Packet sockets (packet(7), linux/if_packet.h): frames as a link receives and sends them, many at a time.
//!
//! Each frame has a `struct virtio_net_hdr` in front (linux/virtio_net.h), both ways: what the kernel left to
//! be done for it, a checksum to be filled in or a super-packet to be cut. Given back as it came, the kernel
//! or the hardware still does it.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        AddressFamily, SockFlag, SockType, setsockopt, socket,
        sockopt::{RcvBuf, RcvBufForce, SndBuf, SndBufForce},
    },
};

/// Length of `struct virtio_net_hdr`.
pub const VNET_HEADER: usize = 10;

/// How many frames one system call takes or gives at most.
pub const BATCH: usize = 64;

/// `AF_PACKET` (linux/socket.h).
const PACKET: u16 = 17;
/// linux/if_packet.h.
const PACKET_VNET_HDR: i32 = 15;
const PACKET_IGNORE_OUTGOING: i32 = 23;
/// `ETH_P_ALL` (linux/if_ether.h).
const ALL: u16 = 0x0003;

/// A socket that sees what one link receives, or sends on one link.
#[derive(Debug)]
pub struct PacketSocket(OwnedFd);

impl PacketSocket {
    /// Sees all that the link with this index receives from now on, and nothing of what it sends. What
    /// waits to be read may take up so many bytes of the kernel's memory.
    pub fn receiver(link: i32, buffer: usize) -> io::Result<Self> {
        let socket = Self::open()?;
        // The first is for who has NET_ADMIN outside of any user namespace; else the kernel grants less.
        setsockopt(&socket.0, RcvBufForce, &buffer)
            .or_else(|_| setsockopt(&socket.0, RcvBuf, &buffer))?;
        socket.set(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
        socket.bind(link, ALL)?;
        Ok(socket)
    }

    /// Sends on the link with this index, with this priority; receives nothing.
    pub fn sender(link: i32, priority: u32, buffer: usize) -> io::Result<Self> {
        let socket = Self::open()?;
        setsockopt(&socket.0, SndBufForce, &buffer)
            .or_else(|_| setsockopt(&socket.0, SndBuf, &buffer))?;
        socket.set(libc::SOL_SOCKET, libc::SO_PRIORITY, priority.cast_signed())?;
        // No protocol: none is received.
        socket.bind(link, 0)?;
        Ok(socket)
    }

    fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = Self(socket(AddressFamily::Packet, SockType::Raw, flags, None)?);
        socket.set(libc::SOL_PACKET, PACKET_VNET_HDR, 1)?;
        Ok(socket)
    }

    fn set(&self, level: i32, option: i32, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the pointer is to an int that lives through the call, and its size is given; the kernel
        // only reads it.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                level,
                option,
                ptr::from_ref(&value).cast(),
                length_of::<libc::c_int>(),
            )
        };
        Ok(Errno::result(result).map(drop)?)
    }

    fn bind(&self, link: i32, protocol: u16) -> io::Result<()> {
        // SAFETY: all zeros is a valid sockaddr_ll: it holds nothing but numbers.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = PACKET;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = link;
        // SAFETY: the pointer is to a sockaddr_ll that lives through the call, and its size is given; the
        // kernel only reads it.
        let result = unsafe {
            libc::bind(
                self.0.as_raw_fd(),
                ptr::from_ref(&address).cast(),
                length_of::<libc::sockaddr_ll>(),
            )
        };
        Ok(Errno::result(result).map(drop)?)
    }

    /// Takes the frames that have come, at most [`BATCH`] of them, without waiting for any; none is
    /// `EAGAIN`.
    pub fn receive<'a>(
        &self,
        frames: &'a mut Frames,
    ) -> Result<impl Iterator<Item = &'a [u8]>, Errno> {
        let slot = frames.slot;
        let mut parts: Vec<_> = frames
            .bytes
            .chunks_exact_mut(slot)
            .map(|bytes| libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: slot })
            .collect();
        let mut messages: Vec<_> = parts.iter_mut().map(message).collect();
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        // SAFETY: `messages` holds `count` headers. Each points to one iovec of `parts`, which lives through
        // the call and is not moved, and that to its own part of `frames`, which is borrowed for as long as
        // the result. Names and control messages are absent. No timeout is given.
        let received = unsafe {
            libc::recvmmsg(
                self.0.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                (libc::MSG_DONTWAIT | libc::MSG_TRUNC) as _,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(Errno::result(received)?).unwrap_or(0);
        let lengths = messages.into_iter().take(received).map(|message| message.msg_len as usize);
        // MSG_TRUNC: the length is that of the whole frame. One that was cut off is of no use.
        let slots = frames.bytes.chunks_exact(slot);
        Ok(slots.zip(lengths).filter_map(|(slot, length)| slot.get(..length)))
    }

    /// Sends frames in their order, without waiting, at most [`BATCH`]; says how many went. An error is
    /// about the first of them.
    pub fn send(&self, frames: &[impl AsRef<[u8]>]) -> Result<usize, Errno> {
        let mut parts: Vec<_> = frames
            .iter()
            .take(BATCH)
            .map(AsRef::as_ref)
            .map(|frame| libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            })
            .collect();
        let mut messages: Vec<_> = parts.iter_mut().map(message).collect();
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        // SAFETY: `messages` holds `count` headers. Each points to one iovec of `parts`, which lives through
        // the call and is not moved, and that to a frame that is borrowed for the call; the kernel only
        // reads frames that are sent. Names and control messages are absent.
        let sent = unsafe {
            libc::sendmmsg(
                self.0.as_raw_fd(),
                messages.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT as _,
            )
        };
        Ok(usize::try_from(Errno::result(sent)?).unwrap_or(0))
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Room for [`BATCH`] frames.
#[derive(Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    slot: usize,
}

impl Frames {
    /// For frames of at most so many bytes, the header in front included.
    pub fn new(slot: usize) -> Self {
        Self { bytes: vec![0; slot * BATCH], slot }
    }
}

/// The header of a message in one part.
fn message(part: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all zeros is a valid mmsghdr: it holds nothing but numbers and pointers, and may hold null.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = part;
    message.msg_hdr.msg_iovlen = 1;
    message
}

const fn length_of<T>() -> libc::socklen_t {
    #[expect(clippy::cast_possible_truncation, reason = "of small structures")]
    let length = size_of::<T>() as libc::socklen_t;
    length
}
