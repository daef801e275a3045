//! Queueing disciplines: tbf, netem, prio, pfifo (linux/pkt_sched.h, linux/rtnetlink.h).

use std::fmt;

use super::{
    Message, Netlink, Refusal,
    attribute::{self, Attributes},
    netem::NetemOptions,
};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
/// linux/gen_stats.h.
const TCA_STATS_BASIC: u16 = 1;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_STATS_PKT64: u16 = 8;

const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`. With it the kernel needs no rate table, which `tc` sends all the same.
const ETHERNET: u8 = 1;

/// Where a qdisc hangs, or its own name: `major:minor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle(pub u32);

impl Handle {
    /// `TC_H_ROOT`.
    pub const ROOT: Self = Self(u32::MAX);
    /// None in particular.
    pub const ANY: Self = Self(0);

    /// A qdisc's own name, `major:`.
    pub const fn qdisc(major: u16) -> Self {
        Self((major as u32) << 16)
    }

    /// A class of this qdisc, `major:minor`.
    #[must_use]
    pub const fn class(self, minor: u16) -> Self {
        Self(self.0 | minor as u32)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = (self.0 >> 16, self.0 & 0xffff);
        match (*self, minor) {
            (Self::ROOT, _) => out.write_str("root"),
            (_, 0) => write!(out, "{major:x}:"),
            _ => write!(out, "{major:x}:{minor:x}"),
        }
    }
}

/// A kind of qdisc and its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Options {
    /// Token bucket.
    Tbf {
        /// Bytes per second.
        rate: u32,
        /// Bytes. A super-packet (GSO) above this is split, any other packet above it is lost.
        burst: u32,
    },
    /// The network emulator.
    Netem(Box<NetemOptions>),
    /// Queues of which the first that is not empty is served.
    Prio {
        /// How many, up to 16.
        bands: u32,
        /// The band of packets of each priority, for those that do not name their class.
        map: [u8; 16],
    },
    /// A queue.
    Pfifo {
        /// Packets.
        limit: u32,
    },
}

impl Options {
    /// The name of the kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Tbf { .. } => "tbf",
            Self::Netem(_) => "netem",
            Self::Prio { .. } => "prio",
            Self::Pfifo { .. } => "pfifo",
        }
    }

    fn write(&self) -> Vec<u8> {
        match self {
            Self::Tbf { rate, burst } => {
                // struct tc_tbf_qopt: rate, peakrate (struct tc_ratespec, 12 bytes each), limit, buffer,
                // mtu. The buffer is given exactly, in bytes, by its own attribute.
                let mut parms = [0; 36];
                parms[1] = ETHERNET;
                parms[8..12].copy_from_slice(&rate.to_ne_bytes());
                // The limit of the queue that netem replaces at once; zero would mean none to replace.
                parms[24..28].copy_from_slice(&burst.to_ne_bytes());
                Attributes::new()
                    .bytes(TCA_TBF_PARMS, &parms)
                    .native32(TCA_TBF_BURST, *burst)
                    .as_bytes()
                    .to_vec()
            }
            Self::Netem(options) => options.write(),
            // struct tc_prio_qopt.
            Self::Prio { bands, map } => [&bands.to_ne_bytes()[..], map].concat(),
            // struct tc_fifo_qopt.
            Self::Pfifo { limit } => limit.to_ne_bytes().to_vec(),
        }
    }
}

/// A qdisc as the kernel holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qdisc {
    /// The interface.
    pub link: i32,
    /// Its own name.
    pub handle: Handle,
    /// Where it hangs.
    pub parent: Handle,
    /// `tbf`, `netem`, …
    pub kind: String,
    /// What it has done so far.
    pub stats: Stats,
    options: Vec<u8>,
}

/// Packets, as a qdisc counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// That have left it.
    pub sent: u64,
    /// In it and below it.
    pub queued: u32,
    /// That it has thrown away; netem also counts those that it has marked instead (ECN).
    pub dropped: u32,
    /// That were put at its front; of netem, those that have overtaken others.
    pub requeued: u32,
}

impl Stats {
    /// The value of `TCA_STATS2`.
    fn read(stats: &[u8]) -> Self {
        // struct gnet_stats_basic: bytes (64 bits), packets; struct gnet_stats_queue: qlen, backlog, drops,
        // requeues, overlimits.
        let basic = attribute::find(stats, TCA_STATS_BASIC).unwrap_or_default();
        let queue = attribute::find(stats, TCA_STATS_QUEUE).unwrap_or_default();
        let number = |of: &[u8], at: usize| of.get(at..).and_then(attribute::native32).unwrap_or(0);
        // Only there when 32 bits do not hold it.
        let many = attribute::find(stats, TCA_STATS_PKT64).and_then(attribute::native64);
        Self {
            sent: many.unwrap_or_else(|| number(basic, 8).into()),
            queued: number(queue, 0),
            dropped: number(queue, 8),
            requeued: number(queue, 12),
        }
    }
}

impl Qdisc {
    /// One of no link in particular, for tests of what is made of it.
    #[cfg(test)]
    pub(crate) fn new(handle: Handle, options: &Options, stats: Stats) -> Self {
        let kind = options.kind().to_owned();
        Self { link: 0, handle, parent: Handle::ROOT, kind, stats, options: options.write() }
    }

    /// Its parameters, when it is a netem.
    pub fn netem(&self) -> Option<NetemOptions> {
        if self.kind == "netem" { NetemOptions::read(&self.options) } else { None }
    }

    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (header, attributes) = body.split_at_checked(20)?;
        let number = |at: usize| attribute::native32(&header[at..]);
        Some(Self {
            link: number(4)?.cast_signed(),
            handle: Handle(number(8)?),
            parent: Handle(number(12)?),
            kind: attribute::text(attribute::find(attributes, TCA_KIND)?),
            stats: Stats::read(attribute::find(attributes, TCA_STATS2).unwrap_or_default()),
            options: attribute::find(attributes, TCA_OPTIONS).unwrap_or_default().to_vec(),
        })
    }
}

/// `struct tcmsg`.
fn header(link: i32, handle: Handle, parent: Handle) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[4..8].copy_from_slice(&link.to_ne_bytes());
    bytes[8..12].copy_from_slice(&handle.0.to_ne_bytes());
    bytes[12..16].copy_from_slice(&parent.0.to_ne_bytes());
    bytes
}

/// Adds a qdisc. Fails when one of that handle exists.
pub fn add(link: i32, parent: Handle, handle: Handle, options: &Options) -> Message {
    let attributes =
        Attributes::new().text(TCA_KIND, options.kind()).bytes(TCA_OPTIONS, &options.write());
    Message::new(RTM_NEWQDISC, &header(link, handle, parent), &attributes).create()
}

/// Asks for a qdisc without parameters: refused by those that need some.
pub fn ask_for(link: i32, kind: &str) -> Message {
    let attributes = Attributes::new().text(TCA_KIND, kind);
    Message::new(RTM_NEWQDISC, &header(link, Handle::ANY, Handle::ROOT), &attributes).create()
}

/// Deletes the root qdisc and those below it, if it has this handle.
pub fn delete(link: i32, handle: Handle) -> Message {
    Message::new(RTM_DELQDISC, &header(link, handle, Handle::ROOT), &Attributes::new())
}

/// The qdiscs of all links.
pub fn list_all(route: &mut Netlink) -> Result<Vec<Qdisc>, Refusal> {
    let message =
        Message::new(RTM_GETQDISC, &header(0, Handle::ANY, Handle::ANY), &Attributes::new());
    route.dump(message, Qdisc::read)
}

/// The qdiscs of this link.
pub fn list(route: &mut Netlink, link: i32) -> Result<Vec<Qdisc>, Refusal> {
    let message =
        Message::new(RTM_GETQDISC, &header(link, Handle::ANY, Handle::ANY), &Attributes::new());
    // Older kernels dump those of every link.
    route.dump(message, |body| Qdisc::read(body).filter(|qdisc| qdisc.link == link))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(qdisc) = Qdisc::read(&bytes) {
                let _ = qdisc.netem();
            }
        }
    }

    /// As of `tc -s qdisc` on Linux 6.12: 33 packets of 2706 bytes sent, 7 in it, 5 dropped, 2 requeued.
    #[test]
    fn statistics_are_read() {
        let basic = [&2706u64.to_ne_bytes()[..], &33u32.to_ne_bytes(), &[0; 4]].concat();
        let queue = [7u32, 574, 5, 2, 9].map(u32::to_ne_bytes).concat();
        let stats =
            || Attributes::new().bytes(TCA_STATS_BASIC, &basic).bytes(TCA_STATS_QUEUE, &queue);
        let read = |stats: &Attributes| {
            let attributes =
                Attributes::new().text(TCA_KIND, "netem").bytes(TCA_STATS2, stats.as_bytes());
            let body = [&header(3, Handle::qdisc(1), Handle::ROOT)[..], attributes.as_bytes()];
            Qdisc::read(&body.concat()).unwrap().stats
        };
        let want = Stats { sent: 33, queued: 7, dropped: 5, requeued: 2 };
        assert_eq!(read(&stats()), want);
        let many = (1u64 << 32) + 33;
        let above = stats().bytes(TCA_STATS_PKT64, &many.to_ne_bytes());
        assert_eq!(read(&above), Stats { sent: many, ..want });
        assert_eq!(read(&Attributes::new()), Stats::default());
    }

    #[test]
    fn handles_print_as_tc_prints_them() {
        let root = Handle::qdisc(0x7063);
        assert_eq!(root.to_string(), "7063:");
        assert_eq!(root.class(1).to_string(), "7063:1");
        assert_eq!(Handle::ROOT.to_string(), "root");
    }
}
