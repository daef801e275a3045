//! A name server for tests (RFC 1035), by UDP and TCP.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::pod::Namespace;

/// How often it looks whether its test is over.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// For how long its answers hold, in seconds: no agent asks more often. A name may say another time.
const TTL: u32 = 1;

/// Where it listens: the pod has it on its loopback, which no fault hits.
pub const ADDRESS: &str = "127.0.0.53";

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;

/// What it knows of a name: addresses, aliases that start with `=`, `!` for a failure; how long that holds, as
/// `ttl 20`.
type Zone = BTreeMap<String, Vec<String>>;

/// A running name server; it ends with the test.
pub struct NameServer {
    zone: Arc<Mutex<Zone>>,
    /// Names whose IPv4 addresses were asked for by UDP, each as often as it was.
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl NameServer {
    /// Listens in a namespace.
    pub fn start(namespace: &Namespace) -> Self {
        let at: SocketAddr = format!("{ADDRESS}:53").parse().unwrap();
        let socket = namespace.spawn(move || UdpSocket::bind(at).unwrap()).join().unwrap();
        socket.set_read_timeout(Some(LOOK_EVERY)).unwrap();
        let listener = namespace.spawn(move || TcpListener::bind(at).unwrap()).join().unwrap();
        listener.set_nonblocking(true).unwrap();
        let server = Self { zone: Arc::default(), asked: Arc::default(), stop: Arc::default() };
        let (zone, stop) = (Arc::clone(&server.zone), Arc::clone(&server.stop));
        let asked = Arc::clone(&server.asked);
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                let question = &buffer[..length];
                let (name, wanted, _) = read(question);
                asked.lock().unwrap().extend((wanted == A).then_some(name));
                let mut answer = answer(&zone.lock().unwrap(), question);
                // Truncated, as all that is longer than the oldest of limits.
                if answer.len() > 512 {
                    answer[2] |= 2;
                    answer.truncate(512);
                }
                let _ = socket.send_to(&answer, from);
            }
        });
        let (zone, stop) = (Arc::clone(&server.zone), Arc::clone(&server.stop));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => serve(stream, &zone),
                    Err(_) => thread::sleep(LOOK_EVERY),
                }
            }
        });
        server
    }

    /// What it is to answer from now on to who asks for this name.
    pub fn set(&self, name: &str, answers: &[&str]) {
        let answers = answers.iter().map(ToString::to_string).collect();
        self.zone.lock().unwrap().insert(name.to_owned(), answers);
    }

    /// How often the IPv4 addresses of this name were asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == name).count()
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn serve(mut stream: TcpStream, zone: &Mutex<Zone>) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(LOOK_EVERY * 50)).unwrap();
    let mut length = [0; 2];
    if stream.read_exact(&mut length).is_err() {
        return;
    }
    let mut question = vec![0; u16::from_be_bytes(length).into()];
    if stream.read_exact(&mut question).is_ok() {
        let answer = answer(&zone.lock().unwrap(), &question);
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        let _ = stream.write_all(&[&length[..], &answer].concat());
    }
}

/// The name that is asked for, the kind of its records, and where that ends.
fn read(question: &[u8]) -> (String, u16, usize) {
    let (mut name, mut at) = (Vec::new(), 12);
    while question[at] > 0 {
        let end = at + 1 + usize::from(question[at]);
        name.push(String::from_utf8(question[at + 1..end].to_vec()).unwrap());
        at = end;
    }
    let wanted = u16::from_be_bytes([question[at + 1], question[at + 2]]);
    (name.join(".").to_lowercase(), wanted, at)
}

fn answer(zone: &Zone, question: &[u8]) -> Vec<u8> {
    let (mut name, wanted, at) = read(question);
    let (mut records, mut count, mut code) = (Vec::new(), 0u16, NO_SUCH_NAME);
    let mut add = |owner: &str, kind: u16, ttl: u32, data: &[u8]| {
        records.extend(encode(owner));
        records.extend([kind.to_be_bytes(), [0, 1]].concat());
        records.extend(ttl.to_be_bytes());
        records.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        records.extend(data);
        count += 1;
    };
    while let Some(known) = zone.get(&name) {
        code = if known.iter().any(|one| one == "!") { SERVER_FAILURE } else { 0 };
        let mut alias = None;
        let ttl =
            known.iter().find_map(|one| one.strip_prefix("ttl ")?.parse().ok()).unwrap_or(TTL);
        for one in known {
            match (one.strip_prefix('='), one.parse()) {
                (Some(other), _) => {
                    add(&name, CNAME, ttl, &encode(other));
                    alias = Some(other.to_owned());
                }
                (_, Ok(IpAddr::V4(four))) if wanted == A => add(&name, A, ttl, &four.octets()),
                (_, Ok(IpAddr::V6(six))) if wanted == AAAA => add(&name, AAAA, ttl, &six.octets()),
                _ => {}
            }
        }
        match alias {
            Some(other) => name = other,
            None => break,
        }
    }
    let mut answer = question[..at + 5].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
    answer[6..8].copy_from_slice(&count.to_be_bytes());
    answer.extend(records);
    answer
}

fn encode(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}
