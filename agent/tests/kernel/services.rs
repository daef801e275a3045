//! What answers in a namespace, and what asks from another one.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::pod::Namespace;

/// How long an answer may take; on the wire of a test it takes microseconds.
const PATIENCE: Duration = Duration::from_millis(400);

/// Servers in a namespace that send back what they get.
pub struct Services {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Services {
    /// Listens on these ports of TCP and UDP, on all addresses of both versions.
    pub fn start(namespace: &Namespace, ports: &[u16]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for port in ports.iter().copied() {
            let any = SocketAddr::new([0u16; 8].into(), port);
            let listener = namespace.spawn(move || TcpListener::bind(any).unwrap()).join().unwrap();
            listener.set_nonblocking(true).unwrap();
            let flag = Arc::clone(&stop);
            threads.push(thread::spawn(move || accept(&listener, &flag)));
            let socket = namespace.spawn(move || UdpSocket::bind(any).unwrap()).join().unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let flag = Arc::clone(&stop);
            threads.push(thread::spawn(move || answer(&socket, &flag)));
        }
        Self { stop, threads }
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(1));
            continue;
        };
        let stop = Arc::clone(stop);
        thread::spawn(move || {
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let mut buffer = [0; 1024];
            while !stop.load(Ordering::Relaxed) {
                match stream.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(length) if stream.write_all(&buffer[..length]).is_ok() => {}
                    Err(error) if is_timeout(error.kind()) => {}
                    _ => return,
                }
            }
        });
    }
}

fn answer(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 1024];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

/// Whether that is what a socket says when its time is up.
pub fn is_timeout(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::TimedOut | ErrorKind::WouldBlock)
}

/// Opens a connection; what it says when it cannot.
pub fn connect(namespace: &Namespace, to: &str) -> Result<TcpStream, ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    let connect = move || TcpStream::connect_timeout(&to, PATIENCE).map_err(|error| error.kind());
    let stream = namespace.spawn(connect).join().unwrap()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Ok(stream)
}

/// Sends a few bytes over a connection and waits for them to come back.
pub fn echo(stream: &mut TcpStream) -> Result<(), ErrorKind> {
    stream.write_all(b"hello").map_err(|error| error.kind())?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).map_err(|error| error.kind())
}

/// Sends a datagram, from this port or any, and waits for it to come back.
pub fn ask(namespace: &Namespace, to: &str, from_port: u16) -> Result<(), ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let ask = move || {
        let socket = UdpSocket::bind(SocketAddr::new(any.ip(), from_port))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.connect(to)?;
        socket.send(b"hello")?;
        socket.recv(&mut [0; 16]).map(|_| ())
    };
    namespace.spawn(ask).join().unwrap().map_err(|error| error.kind())
}

/// Something that is tried to see whether it passes: `tcp 10.9.0.2:80`, `udp 10.9.0.2:53`,
/// `udp 10.9.0.2:53 from 1234`, `ping 10.9.0.2`.
pub fn passes(namespace: &Namespace, what: &str) -> bool {
    match what.split(' ').collect::<Vec<_>>()[..] {
        ["tcp", to] => connect(namespace, to).and_then(|mut stream| echo(&mut stream)).is_ok(),
        ["udp", to] => ask(namespace, to, 0).is_ok(),
        ["udp", to, "from", port] => ask(namespace, to, port.parse().unwrap()).is_ok(),
        ["ping", to] => {
            let output = namespace.try_run(&format!("ping -n -c 1 -W 0.4 {to}"));
            output.status.success()
        }
        _ => panic!("{what}"),
    }
}
