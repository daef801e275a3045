//! What answers in a namespace, and what asks from another one.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use crate::pod::{Namespace, until};

/// How long to wait for an answer that should not come; on the wire of a test it takes microseconds.
pub const IN_VAIN: Duration = Duration::from_millis(400);
/// And for one that should, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(5);

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
    connect_within(PATIENCE, namespace, to)
}

/// Opens a connection, and gives it and what is read from it that long.
pub fn connect_within(
    patience: Duration,
    namespace: &Namespace,
    to: &str,
) -> Result<TcpStream, ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    let connect = move || TcpStream::connect_timeout(&to, patience).map_err(|error| error.kind());
    let stream = namespace.spawn(connect).join().unwrap()?;
    stream.set_read_timeout(Some(patience)).unwrap();
    Ok(stream)
}

/// Sends a few bytes over a connection and waits for them to come back.
pub fn echo(stream: &mut TcpStream) -> Result<(), ErrorKind> {
    stream.write_all(b"hello").map_err(|error| error.kind())?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).map_err(|error| error.kind())
}

/// Sends a datagram and waits for it to come back.
pub fn ask(namespace: &Namespace, to: &str) -> Result<(), ErrorKind> {
    ask_within(PATIENCE, namespace, to, 0)
}

/// Sends a datagram, from this port or any.
fn ask_within(
    patience: Duration,
    namespace: &Namespace,
    to: &str,
    from_port: u16,
) -> Result<(), ErrorKind> {
    // Two sockets cannot have one port.
    static OWN_PORT: Mutex<()> = Mutex::new(());
    let _turn = (from_port != 0).then(|| OWN_PORT.lock().unwrap());
    let to: SocketAddr = to.parse().unwrap();
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let ask = move || {
        // What another thread starts has this one's sockets too, until it runs.
        let own = SocketAddr::new(any.ip(), from_port);
        let socket = until("a free port", || UdpSocket::bind(own).ok());
        socket.set_read_timeout(Some(patience))?;
        socket.connect(to)?;
        socket.send(b"hello")?;
        socket.recv(&mut [0; 16]).map(|_| ())
    };
    namespace.spawn(ask).join().unwrap().map_err(|error| error.kind())
}

/// Tries whether something passes, for that long: `tcp 10.9.0.2:80`, `udp 10.9.0.2:53`,
/// `udp 10.9.0.2:53 from 1234`, `ping 10.9.0.2`.
pub fn passes_within(patience: Duration, namespace: &Namespace, what: &str) -> bool {
    match what.split(' ').collect::<Vec<_>>()[..] {
        ["tcp", to] => {
            connect_within(patience, namespace, to).and_then(|mut stream| echo(&mut stream)).is_ok()
        }
        ["udp", to] => ask_within(patience, namespace, to, 0).is_ok(),
        ["udp", to, "from", port] => {
            ask_within(patience, namespace, to, port.parse().unwrap()).is_ok()
        }
        ["ping", to] => {
            let seconds = patience.as_secs_f64();
            namespace.try_run(&format!("ping -n -c 1 -W {seconds} {to}")).status.success()
        }
        _ => panic!("{what}"),
    }
}

/// Of all that is tried, exactly `hit` does not pass.
pub fn assert_only_hit(namespace: &Namespace, all: &[&str], hit: &[&str], when: &str) {
    let is_hit = |what: &str| {
        let patience = if hit.contains(&what) { IN_VAIN } else { PATIENCE };
        !passes_within(patience, namespace, what)
    };
    // Beside each other: what does not pass takes its time to say so.
    let found: Vec<&str> = thread::scope(|scope| {
        let tried: Vec<_> =
            all.iter().map(|what| (what, scope.spawn(move || is_hit(what)))).collect();
        tried.into_iter().filter_map(|(what, is)| is.join().unwrap().then_some(*what)).collect()
    });
    assert_eq!(found, hit, "{when}");
}
