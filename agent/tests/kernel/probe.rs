//! Packets with a number, some every millisecond, and when each of them left and arrived: what says when a
//! delay really ended.

use std::{
    fs::File,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::channel,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::{
    sched::{CloneFlags, setns},
    time::{ClockId, clock_gettime},
};

use crate::pod::{PEER4, POD4, Pod};

const PORT: u16 = 7000;
const INTERVAL: Duration = Duration::from_millis(1);

/// Milliseconds of the clock that the agent and the kernel's timers go by.
pub fn now_ms() -> f64 {
    Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap()).as_secs_f64() * 1e3
}

/// A packet that arrived: when it left and for how long it travelled, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub sent_ms: f64,
    pub travelled_ms: f64,
}

/// Sends and receives until it is told to stop.
pub struct Probe {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u32>,
    receiver: JoinHandle<Vec<Packet>>,
}

impl Probe {
    /// From the pod to its peer, one each millisecond.
    pub fn start(pod: &Pod) -> Self {
        Self::of(pod, 1)
    }

    /// So many each millisecond.
    pub fn of(pod: &Pod, each: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (inside, outside) = (pod.inside.path(), pod.outside.path());
        let socket = |namespace: &str, address: &str| {
            // A thread may change its namespace; its sockets stay there.
            setns(File::open(namespace).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            UdpSocket::bind((address, PORT)).unwrap()
        };
        let (ready, wait) = channel();
        let stopped = Arc::clone(&stop);
        let receiver = thread::spawn(move || {
            let socket = socket(&outside, PEER4);
            ready.send(()).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let (mut packets, mut buffer) = (Vec::new(), [0; 8]);
            loop {
                match socket.recv(&mut buffer) {
                    Ok(_) => {
                        let sent_ms = f64::from_ne_bytes(buffer);
                        packets.push(Packet { sent_ms, travelled_ms: now_ms() - sent_ms });
                    }
                    Err(_) if stopped.load(Ordering::Relaxed) => return packets,
                    Err(_) => {}
                }
            }
        });
        wait.recv().unwrap();
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            let socket = socket(&inside, POD4);
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                for _ in 0..each {
                    socket.send_to(&now_ms().to_ne_bytes(), (PEER4, PORT)).unwrap();
                }
                sent += each;
                thread::sleep(INTERVAL);
            }
            sent
        });
        Self { stop, sender, receiver }
    }

    /// Stops; returns what arrived, in the order in which it was sent, and how many were sent.
    pub fn stop(self) -> (Vec<Packet>, u32) {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().unwrap();
        let mut packets = self.receiver.join().unwrap();
        packets.sort_by(|a, b| a.sent_ms.total_cmp(&b.sent_ms));
        (packets, sent)
    }
}

/// When a delay that was in force at `after_ms` ended: between the last packet that was delayed and the first
/// one that was not. A busy machine may hold up any packet, but lets none arrive too early: the first that
/// travels for less than the delay proves that it is over.
pub fn end_of_delay(packets: &[Packet], delay_ms: f64, after_ms: f64) -> (f64, f64) {
    let start = packets.iter().position(|packet| packet.sent_ms > after_ms).expect("a packet");
    let hit = packets[start..].iter().take_while(|packet| packet.travelled_ms >= delay_ms).count();
    assert!(hit > 0, "not delayed at all");
    let next = packets.get(start + hit).expect("a packet that is not delayed");
    (packets[start + hit - 1].sent_ms, next.sent_ms)
}
