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
    sys::socket::{setsockopt, sockopt::RcvBufForce},
    time::{ClockId, clock_gettime},
};

use crate::pod::{PEER4, POD4, Pod};

const PORT: u16 = 7000;
const RECEIVE_BUFFER: usize = 8 << 20;
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

/// What came of a stream of packets.
pub struct Seen {
    /// Those that arrived, in the order in which they were sent.
    pub packets: Vec<Packet>,
    /// When those left that did not, in milliseconds.
    pub lost: Vec<f64>,
}

impl Seen {
    /// How many were sent.
    pub fn sent(&self) -> usize {
        self.packets.len() + self.lost.len()
    }

    /// Fails unless all of them arrived; says where in the stream the others are missing.
    pub fn assert_none_lost(&self) {
        let places: Vec<_> = self.lost.iter().map(|left| self.place(*left)).collect();
        assert!(places.is_empty(), "packets were lost: {}", places.join("; "));
    }

    /// A packet among those that were sent around it.
    fn place(&self, left_ms: f64) -> String {
        let next = self.packets.partition_point(|packet| packet.sent_ms < left_ms);
        let around = |packet: &Packet| {
            format!("{:+.2} ms travelled {:.2}", packet.sent_ms - left_ms, packet.travelled_ms)
        };
        let [before, after] = [next.checked_sub(1), Some(next)]
            .map(|at| at.and_then(|at| self.packets.get(at)).map_or_else(String::new, around));
        format!("number {next} of {}, between [{before}] and [{after}]", self.sent())
    }
}

/// Sends and receives until it is told to stop.
pub struct Probe {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Vec<f64>>,
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
            // What a busy machine keeps it from reading for a while must not be lost.
            setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER).unwrap();
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
            let mut sent = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                for _ in 0..each {
                    let now = now_ms();
                    socket.send_to(&now.to_ne_bytes(), (PEER4, PORT)).unwrap();
                    sent.push(now);
                }
                thread::sleep(INTERVAL);
            }
            sent
        });
        Self { stop, sender, receiver }
    }

    /// Stops; says what came of the packets.
    pub fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut lost = self.sender.join().unwrap();
        let mut packets = self.receiver.join().unwrap();
        packets.sort_by(|a, b| a.sent_ms.total_cmp(&b.sent_ms));
        lost.retain(|left| {
            packets.binary_search_by(|packet| packet.sent_ms.total_cmp(left)).is_err()
        });
        Seen { packets, lost }
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
