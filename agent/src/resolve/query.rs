//! One question to one name server (RFC 1035): by UDP, and by TCP when the answer does not fit.

use std::{
    hash::{BuildHasher as _, RandomState},
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use domain::{
    base::{
        Message, MessageBuilder, Name, Rtype,
        iana::{Class, Rcode},
    },
    rdata::{A, Aaaa, Cname},
};

/// The longest message by UDP without the extension that nobody asks for here (RFC 1035, section 2.3.4).
const LENGTH_MAX: usize = 512;

/// Which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4.
    A,
    /// IPv6.
    Aaaa,
}

impl Kind {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::Aaaa];

    const fn record(self) -> Rtype {
        match self {
            Self::A => Rtype::A,
            Self::Aaaa => Rtype::AAAA,
        }
    }
}

/// What a server has answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The addresses; none when the name has none of that kind, or is none.
    pub addresses: Vec<IpAddr>,
    /// What the name is an alias of, if it is one.
    pub alias: Option<String>,
    /// For how long that holds: the shortest of its records.
    pub ttl: Duration,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Silence {
    /// Nobody to ask.
    #[error("the pod has no name server")]
    NoServer,
    /// Nothing came, or nothing could be sent.
    #[error("name server {0}: {1}")]
    Unreachable(SocketAddr, String),
    /// The server said that it cannot tell.
    #[error("{0}")]
    Failed(String),
}

impl Silence {
    /// Whether another name would get no answer either.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Failed(_))
    }
}

/// Asks, and waits for the answer for so long.
pub fn ask(
    server: SocketAddr,
    name: &str,
    kind: Kind,
    timeout: Duration,
    by_tcp: bool,
) -> Result<Reply, Silence> {
    let question = question(name, kind).map_err(Silence::Failed)?;
    let unreachable = |error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer".to_owned(),
            _ => error.to_string(),
        };
        Silence::Unreachable(server, why)
    };
    let deadline = Instant::now() + timeout;
    if !by_tcp {
        let answer = by_udp(server, &question, deadline).map_err(unreachable)?;
        let truncated = Message::from_slice(&answer).is_ok_and(|answer| answer.header().tc());
        if !truncated {
            return read(server, &question, &answer);
        }
    }
    let answer = by_stream(server, &question, deadline).map_err(unreachable)?;
    read(server, &question, &answer)
}

/// The message with the question.
fn question(name: &str, kind: Kind) -> Result<Vec<u8>, String> {
    let bad = |error: &dyn std::fmt::Display| format!("`{name}` cannot be asked for: {error}");
    let asked = Name::<Vec<u8>>::vec_from_str(name).map_err(|error| bad(&error))?;
    let mut message = MessageBuilder::new_vec();
    message.header_mut().set_id(any_id());
    message.header_mut().set_rd(true);
    let mut message = message.question();
    message.push((&asked, kind.record(), Class::IN)).map_err(|error| bad(&error))?;
    Ok(message.finish())
}

/// One that nobody can guess.
fn any_id() -> u16 {
    let [low, high, ..] = RandomState::new().hash_one(0).to_ne_bytes();
    u16::from_ne_bytes([low, high])
}

/// Whether it is the answer to this question and not to another one.
fn answers(question: &[u8], answer: &[u8]) -> bool {
    match (Message::from_slice(question), Message::from_slice(answer)) {
        (Ok(question), Ok(answer)) => answer.is_answer(question),
        _ => false,
    }
}

fn by_udp(server: SocketAddr, question: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(question)?;
    let mut buffer = [0; LENGTH_MAX];
    loop {
        socket.set_read_timeout(Some(left(deadline)?))?;
        let length = socket.recv(&mut buffer)?;
        // A late one, or somebody's who guesses.
        if answers(question, &buffer[..length]) {
            return Ok(buffer[..length].to_vec());
        }
    }
}

fn by_stream(server: SocketAddr, question: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, left(deadline)?)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    let length = u16::try_from(question.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    read_exact(&mut stream, &mut length, deadline)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    read_exact(&mut stream, &mut answer, deadline)?;
    if answers(question, &answer) {
        return Ok(answer);
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "it answers another question"))
}

/// Each read has a timeout of its own: a server that sends byte by byte is not waited for longer.
fn read_exact(stream: &mut TcpStream, mut into: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !into.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(into)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => into = &mut into[length..],
        }
    }
    Ok(())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// Reads the answer to this question.
pub fn read(server: SocketAddr, question: &[u8], answer: &[u8]) -> Result<Reply, Silence> {
    let failed = |why: &dyn std::fmt::Display| {
        Silence::Failed(format!("name server {server} answers with {why}"))
    };
    let answer = Message::from_slice(answer).map_err(|error| failed(&error))?;
    match answer.header().rcode() {
        Rcode::NOERROR => {}
        Rcode::NXDOMAIN => return Ok(Reply::default()),
        other => return Err(failed(&other)),
    }
    let asked =
        Message::from_slice(question).ok().and_then(|it| Some(it.first_question()?.into_qname()));
    let name = answer.canonical_name().ok_or_else(|| failed(&"what cannot be read"))?;
    let mut reply = Reply { ttl: Duration::MAX, ..Reply::default() };
    if asked.is_some_and(|asked| asked != name) {
        reply.alias = Some(name.to_string());
    }
    let records = || answer.answer().map_err(|error| failed(&error));
    let mut add = |ttl: Duration, address: Option<IpAddr>| {
        reply.ttl = reply.ttl.min(ttl);
        reply.addresses.extend(address);
    };
    for alias in records()?.limit_to_in::<Cname<_>>() {
        add(alias.map_err(|error| failed(&error))?.ttl().into_duration(), None);
    }
    for record in records()?.limit_to_in::<A>() {
        let record = record.map_err(|error| failed(&error))?;
        if *record.owner() == name {
            add(record.ttl().into_duration(), Some(record.data().addr().into()));
        }
    }
    for record in records()?.limit_to_in::<Aaaa>() {
        let record = record.map_err(|error| failed(&error))?;
        if *record.owner() == name {
            add(record.ttl().into_duration(), Some(record.data().addr().into()));
        }
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), honest: bool) {
            let question = question("db.example.com", Kind::A).unwrap();
            // One that looks like an answer gets further.
            let mut answer = question.clone();
            answer[2] |= 0x80;
            if honest {
                answer[7] = 3;
            }
            answer.extend_from_slice(&bytes);
            let server = "127.0.0.1:53".parse().unwrap();
            let _ = (read(server, &question, &answer), read(server, &question, &bytes));
        }
    }
}
