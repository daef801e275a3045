//! A synchronous netlink socket: send, read the answers, report what the kernel says.

use std::{fmt, io};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer,
};
use netlink_sys::{Socket, SocketAddr};
use nix::{
    errno::Errno,
    libc::{MSG_DONTWAIT, MSG_TRUNC},
};

use super::{Message, attribute, message::HEADER};

/// `NLMSGERR_ATTR_MSG` (linux/netlink.h): the kernel's own words.
const EXPLANATION: u16 = 1;

/// The kernel sends a dump in pieces of at most this size (`netlink_dump()` in
/// net/netlink/af_netlink.c).
const RECEIVE: usize = 32 * 1024;

/// A dump that raced with a change is asked for again this often.
const DUMP_TRIES: usize = 8;

/// Why the kernel did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error number.
    pub errno: Errno,
    /// The kernel's extended acknowledgement, when it gave one.
    pub explanation: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.explanation {
            Some(words) => write!(out, "{} ({})", words.trim_end_matches('.'), self.errno.desc()),
            None => out.write_str(self.errno.desc()),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, explanation: None }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        error.raw_os_error().map_or(Errno::EIO, Errno::from_raw).into()
    }
}

/// What the kernel could not understand of us, or we of it.
fn garbled() -> Refusal {
    Refusal { errno: Errno::EBADMSG, explanation: None }
}

/// A socket to one family of netlink.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One received message.
struct Received<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

impl Netlink {
    /// Opens a socket for `protocol` (`netlink_sys::protocols`).
    pub fn open(protocol: isize) -> Result<Self, Refusal> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        // Both only improve messages; kernels before 4.12 and 4.2 lack them.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self { socket, sequence: 0, buffer: Vec::new() })
    }

    /// Sends one request and waits for its acknowledgement.
    pub fn request(&mut self, message: &Message) -> Result<(), Refusal> {
        let sequence = self.send(std::slice::from_ref(message), NLM_F_ACK)?;
        self.receive(|received| {
            Ok((received.sequence == sequence && received.kind == NLMSG_ERROR)
                .then(|| acknowledged(received)))
        })?
    }

    /// Sends one request that is answered by one message, and returns its body.
    pub fn get(&mut self, message: &Message) -> Result<Vec<u8>, Refusal> {
        let sequence = self.send(std::slice::from_ref(message), 0)?;
        self.receive(|received| {
            Ok((received.sequence == sequence).then(|| {
                if received.kind == NLMSG_ERROR {
                    acknowledged(received)?;
                }
                Ok(received.body.to_vec())
            }))
        })?
    }

    /// Asks for all objects and reads each with `read`, which leaves out what it does not want.
    pub fn dump<T>(
        &mut self,
        message: Message,
        mut read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Refusal> {
        let message = message.dump();
        for _ in 0..DUMP_TRIES {
            let sequence = self.send(std::slice::from_ref(&message), 0)?;
            let (mut found, mut torn) = (Vec::new(), false);
            self.receive(|received| {
                if received.sequence != sequence {
                    return Ok(None);
                }
                torn |= received.flags & NLM_F_DUMP_INTR != 0;
                match received.kind {
                    NLMSG_DONE | NLMSG_ERROR => acknowledged(received).map(Some),
                    _ => {
                        found.extend(read(received.body));
                        Ok(None)
                    }
                }
            })?;
            if !torn {
                return Ok(found);
            }
        }
        Err(Errno::EAGAIN.into())
    }

    /// Sends messages that the kernel carries out together or not at all (nfnetlink batches; `first`
    /// and `last` frame them). On refusal, also says which of `messages` it was about, where known.
    pub fn transact(
        &mut self,
        first: &Message,
        messages: &[Message],
        last: &Message,
    ) -> Result<(), (Option<usize>, Refusal)> {
        let unknown = |refusal| (None, refusal);
        let start = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        first.write(start, 0, &mut bytes);
        let mut sequence = start;
        for (index, message) in messages.iter().enumerate() {
            sequence = sequence.wrapping_add(1);
            // The kernel reports every error; success only where asked: after the last.
            let ack = if index + 1 == messages.len() { NLM_F_ACK } else { 0 };
            message.write(sequence, ack, &mut bytes);
        }
        let done = sequence;
        self.sequence = sequence.wrapping_add(1);
        last.write(self.sequence, 0, &mut bytes);
        self.write(&bytes).map_err(unknown)?;
        self.receive(|received| {
            let position = received.sequence.wrapping_sub(start);
            if received.kind != NLMSG_ERROR || position > done.wrapping_sub(start) + 1 {
                return Ok(None);
            }
            Ok(match acknowledged(received) {
                Ok(()) => (received.sequence == done).then_some(Ok(())),
                Err(refusal) => {
                    let index =
                        (position as usize).checked_sub(1).filter(|at| *at < messages.len());
                    Some(Err((index, refusal)))
                }
            })
        })
        .map_err(unknown)?
    }

    fn send(&mut self, messages: &[Message], extra_flags: u16) -> Result<u32, Refusal> {
        let mut bytes = Vec::new();
        for message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.write(self.sequence, extra_flags, &mut bytes);
        }
        self.write(&bytes)?;
        Ok(self.sequence)
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Refusal> {
        let kernel = SocketAddr::new(0, 0);
        let sent = retry(|| self.socket.send_to(bytes, &kernel, 0))?;
        if sent == bytes.len() { Ok(()) } else { Err(garbled()) }
    }

    /// Reads messages until `until` has its answer. The kernel answers while the request is being sent, and
    /// goes on with a dump while it is being read: the answer is there, or never comes.
    fn receive<T>(
        &mut self,
        mut until: impl FnMut(&Received<'_>) -> Result<Option<T>, Refusal>,
    ) -> Result<T, Refusal> {
        self.buffer.resize(RECEIVE, 0);
        loop {
            let length = retry(|| {
                self.socket.recv(&mut self.buffer.as_mut_slice(), MSG_TRUNC | MSG_DONTWAIT)
            })?;
            let mut rest = self.buffer.get(..length).ok_or_else(garbled)?;
            while !rest.is_empty() {
                let message = NetlinkBuffer::new_checked(rest).map_err(|_| garbled())?;
                let received = Received {
                    kind: message.message_type(),
                    flags: message.flags(),
                    sequence: message.sequence_number(),
                    body: message.payload(),
                };
                if let Some(answer) = until(&received)? {
                    return Ok(answer);
                }
                let length = message.length() as usize;
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Reads `struct nlmsgerr` (or the error number at the end of a dump): `Ok` when it says zero.
fn acknowledged(received: &Received<'_>) -> Result<(), Refusal> {
    let code = received.body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    if code == 0 {
        return Ok(());
    }
    // Behind the number, for an error: the header of the request, the rest of it unless capped, and
    // then the attributes. Behind the number, at the end of a dump: the attributes.
    let attributes = match received.kind {
        NLMSG_ERROR if received.flags & NLM_F_CAPPED != 0 => received.body.get(4 + HEADER..),
        NLMSG_ERROR => received
            .body
            .get(4..)
            .and_then(attribute::native32)
            .and_then(|length| received.body.get(4 + (length as usize).next_multiple_of(4)..)),
        _ => received.body.get(4..),
    };
    let explanation = attributes
        .filter(|_| received.flags & NLM_F_ACK_TLVS != 0)
        .and_then(|attributes| attribute::find(attributes, EXPLANATION))
        .map(attribute::text);
    Err(Refusal { errno: Errno::from_raw(code.wrapping_neg()), explanation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_own_words() {
        let mut body = (-2i32).to_ne_bytes().to_vec();
        body.extend_from_slice(&[0; HEADER]);
        let words =
            attribute::Attributes::new().text(EXPLANATION, "Specified qdisc kind is unknown.");
        body.extend_from_slice(words.as_bytes());
        let received = Received {
            kind: NLMSG_ERROR,
            flags: NLM_F_CAPPED | NLM_F_ACK_TLVS,
            sequence: 1,
            body: &body,
        };
        let refusal = acknowledged(&received).unwrap_err();
        assert_eq!(refusal.errno, Errno::ENOENT);
        assert_eq!(
            refusal.to_string(),
            "Specified qdisc kind is unknown (No such file or directory)"
        );
    }

    #[test]
    fn zero_is_success() {
        let received = Received { kind: NLMSG_ERROR, flags: 0, sequence: 1, body: &[0; 20] };
        assert_eq!(acknowledged(&received), Ok(()));
    }
}
