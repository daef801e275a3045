//! A fault that a process carries can be found and ended by other agents of the pod.
//!
//! While it lasts, its process listens at an abstract Unix socket with the fault's id in its name. Such a name
//! belongs to the pod's network namespace, which all its containers share, needs no file, and goes with its
//! process, as the fault does. Whoever connects sends one [`Request`] and reads [`Event`]s, as on stdin and
//! stdout of [`crate::serve`].
//!
//! A pod in its node's network shares that with others: the name also has the number of the IPC namespace in
//! it, which containers of a pod share as well.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead as _, BufReader, Write as _},
    os::{
        fd::{AsFd, BorrowedFd},
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    time::Duration,
};

use pod_chaos_protocol::{Event, FaultId, OWNER, ProcessStatus, Request};

/// How long a carrier waits for the words of who has connected, which may be anyone in the pod.
const VISITOR_PATIENCE: Duration = Duration::from_millis(200);
/// How long a carrier may take for an answer: to end its fault, for one.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// A request to a carrier is one of a few words.
const REQUEST_MAX: u64 = 4096;

/// What all names of this pod start with.
fn prefix() -> io::Result<String> {
    // `ipc:[4026531839]` (namespaces(7)).
    let link = fs::read_link("/proc/self/ns/ipc")?;
    let digits: String = link.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    Ok(format!("{OWNER}-{digits}-fault-"))
}

/// Says that this process carries a fault, for as long as it is held.
#[derive(Debug)]
pub struct Presence(UnixListener);

impl Presence {
    /// `AddrInUse` when another process carries a fault with this id.
    pub fn claim(id: FaultId) -> io::Result<Self> {
        let address = SocketAddr::from_abstract_name(format!("{}{id}", prefix()?))?;
        let listener = UnixListener::bind_addr(&address)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// One that has connected and said what it wants; none when nobody is there, or who is says nothing.
    pub fn visitor(&self) -> Option<(Request, Visitor)> {
        let (stream, _) = self.0.accept().ok()?;
        stream.set_nonblocking(false).ok()?;
        stream.set_read_timeout(Some(VISITOR_PATIENCE)).ok()?;
        stream.set_write_timeout(Some(VISITOR_PATIENCE)).ok()?;
        let mut line = String::new();
        let input = io::Read::take(&stream, REQUEST_MAX);
        BufReader::new(input).read_line(&mut line).ok()?;
        Some((serde_json::from_str(&line).ok()?, Visitor(stream)))
    }
}

impl AsFd for Presence {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Another agent that waits for an answer.
#[derive(Debug)]
pub struct Visitor(UnixStream);

impl Visitor {
    /// Tells it. It may have gone, which changes nothing.
    pub fn tell(&mut self, event: &Event) {
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let _ = self.0.write_all(&line);
        }
    }
}

/// The faults that processes of this pod carry.
pub fn faults() -> io::Result<BTreeSet<FaultId>> {
    let sockets = fs::read_to_string("/proc/self/net/unix")?;
    Ok(listed(&sockets, &prefix()?))
}

/// The ids in a list of sockets, as unix(7) describes it.
fn listed(sockets: &str, prefix: &str) -> BTreeSet<FaultId> {
    let names = sockets.lines().filter_map(|line| line.split_whitespace().nth(7));
    names.filter_map(|name| name.strip_prefix('@')?.strip_prefix(prefix)?.parse().ok()).collect()
}

/// Asks the carrier of a fault; its one answer. An error is most likely the end of the fault.
fn ask(id: FaultId, request: &Request) -> io::Result<Event> {
    let address = SocketAddr::from_abstract_name(format!("{}{id}", prefix()?))?;
    let mut stream = UnixStream::connect_addr(&address)?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    stream.set_write_timeout(Some(ANSWER_PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

/// What is in force, and an [`Event::Untold`] for each fault whose carrier does not say that. One that ends meanwhile is
/// none.
pub fn statuses() -> (Vec<ProcessStatus>, Vec<Event>) {
    let (mut told, mut untold) = (Vec::new(), Vec::new());
    for id in faults().unwrap_or_default() {
        let why = match ask(id, &Request::Status) {
            Ok(Event::Status { processes, .. }) => {
                told.extend(processes);
                continue;
            }
            Ok(other) => format!("it said {other:?}"),
            Err(error) => error.to_string(),
        };
        if faults().is_ok_and(|faults| faults.contains(&id)) {
            untold.push(Event::Untold { fault: id, why });
        }
    }
    (told, untold)
}

/// Has the carrier end its fault; what it says of that. `None` when it has ended before.
pub fn revert(id: FaultId) -> Option<Event> {
    let answer = ask(id, &Request::Revert { fault: Some(id) });
    // The end of the process is the end of its fault.
    answer.ok().filter(|event| matches!(event, Event::Ended { .. }))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn finds_the_names_of_this_pod_only_and_each_once() {
        let sockets = "Num       RefCount Protocol Flags    Type St Inode Path
0: 2 0 00010000 0001 01 11 @pod-chaos-7-fault-0badcafe
0: 3 0 00000000 0001 03 12 @pod-chaos-7-fault-0badcafe
0: 2 0 00010000 0001 01 13 @pod-chaos-8-fault-00000001
0: 2 0 00010000 0001 01 14 @pod-chaos-7-fault-nothex00
0: 2 0 00010000 0001 01 15 /run/x
0: 2 0 00000000 0002 01 16
";
        let ids: Vec<_> = listed(sockets, "pod-chaos-7-fault-").into_iter().collect();
        assert_eq!(ids, ["0badcafe".parse().unwrap()]);
    }

    #[test]
    fn a_carrier_is_found_and_asked() {
        let id = FaultId::new(std::process::id());
        let presence = Presence::claim(id).unwrap();
        assert!(faults().unwrap().contains(&id));
        assert_eq!(Presence::claim(id).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let visitor = || loop {
            if let Some((request, visitor)) = presence.visitor() {
                assert_eq!(request, Request::Status);
                return visitor;
            }
            thread::yield_now();
        };
        let asking = thread::spawn(move || ask(id, &Request::Status));
        let answer = Event::Status { faults: vec![], processes: vec![] };
        visitor().tell(&answer);
        assert_eq!(asking.join().unwrap().unwrap(), answer);
        // What is not understood is not left out.
        let asking = thread::spawn(statuses);
        visitor().0.write_all(b"weather\n").unwrap();
        let (told, untold) = asking.join().unwrap();
        assert!(told.is_empty(), "{told:?}");
        assert!(matches!(untold[..], [Event::Untold { fault, .. }] if fault == id), "{untold:?}");
        // What ends meanwhile is.
        let asking = thread::spawn(statuses);
        let visitor = visitor();
        drop((presence, visitor));
        assert_eq!(asking.join().unwrap(), (vec![], vec![]));
        assert!(!faults().unwrap().contains(&id));
    }
}
