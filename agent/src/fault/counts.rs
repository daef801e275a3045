//! What a fault has done to packets: by the kernel's counters, or by those of the agent where that does it.
//!
//! The gate counts what is hit as it comes, and TCP comes in super-packets of up to 64 KiB; what is delayed or
//! dropped are packets as they would be on the wire. A packet that is sent twice is two.

use super::{
    gate::Contents,
    label::Kind,
    netem::{NETEM, TBF},
};
use crate::netlink::{
    netem::{NetemOptions, RateOptions, SlotOptions},
    qdisc::{Handle, Qdisc},
};

/// Packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// That were hit.
    pub hit: u64,
    /// What was done to them; `None` when that is not known, or an [emulator](super::emulator::tally) has to be asked.
    pub done: Option<Done>,
}

/// What was done to packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Held for some time, those that are held now included.
    pub delayed: u64,
    /// Thrown away.
    pub dropped: u64,
}

impl Counts {
    /// Of a fault of this kind, by its gate and its qdiscs: what the kernel knows of it.
    pub fn of(kind: Kind, gate: &Contents, qdiscs: &[Qdisc]) -> Self {
        let hit = gate.packets();
        let done = match kind {
            Kind::Partition => Some(Done { delayed: 0, dropped: hit }),
            Kind::Emulated => None,
            Kind::Netem | Kind::Prio => by_netem(qdiscs),
        };
        Self { hit, done }
    }
}

/// What netem is told to be rid of at once it reports to tbf as dropped, and tbf counts it (`net_xmit_drop_count` of
/// linux/netdevice.h); netem's own count includes packets that it has only marked. Those that overtake others count
/// as requeued (`netem_enqueue` of net/sched/sch_netem.c).
fn by_netem(qdiscs: &[Qdisc]) -> Option<Done> {
    let at = |handle: Handle| qdiscs.iter().filter(move |qdisc| qdisc.handle == handle);
    let options = at(NETEM).find_map(Qdisc::netem)?;
    let held = |qdisc: &Qdisc| {
        let stats = qdisc.stats;
        (stats.sent + u64::from(stats.queued)).saturating_sub(stats.requeued.into())
    };
    let delayed = if delays(&options) { at(NETEM).map(held).sum() } else { 0 };
    let dropped = at(TBF).map(|qdisc| u64::from(qdisc.stats.dropped)).sum();
    Some(Done { delayed, dropped })
}

/// Whether packets leave it later than they come.
fn delays(options: &NetemOptions) -> bool {
    let NetemOptions { delay, jitter, rate: RateOptions { rate, .. }, slot, .. } = options;
    [*delay, *jitter, *rate].iter().any(|number| *number > 0) || *slot != SlotOptions::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::qdisc::{Options, Stats};

    fn qdiscs(options: NetemOptions, netem: Stats, tbf: Stats) -> [Qdisc; 2] {
        let netem_options = Options::Netem(Box::new(options));
        [
            Qdisc::new(TBF, &Options::Tbf { rate: 1, burst: 1 }, tbf),
            Qdisc::new(NETEM, &netem_options, netem),
        ]
    }

    #[test]
    fn who_overtakes_is_not_delayed_and_who_is_marked_is_not_dropped() {
        let slow = || NetemOptions { delay: 1_000_000, ..NetemOptions::default() };
        let netem = Stats { sent: 10, queued: 5, dropped: 7, requeued: 3 };
        let tbf = Stats { sent: 10, queued: 5, dropped: 2, requeued: 0 };
        let done = Done { delayed: 12, dropped: 2 };
        let one = qdiscs(slow(), netem, tbf);
        assert_eq!(by_netem(&one), Some(done));
        // One link for each direction and interface.
        let two = [one.clone(), one].concat();
        assert_eq!(by_netem(&two), Some(Done { delayed: 24, dropped: 4 }));
        let lossy = qdiscs(NetemOptions::default(), netem, tbf);
        assert_eq!(by_netem(&lossy), Some(Done { delayed: 0, ..done }));
        assert_eq!(by_netem(&lossy[..1]), None);
    }

    #[test]
    fn jitter_rate_and_slots_delay_too() {
        let none = NetemOptions::default;
        let rate = RateOptions { rate: 1, ..RateOptions::default() };
        let slot = SlotOptions { min_delay: 1, ..SlotOptions::default() };
        assert!(!delays(&none()));
        assert!(delays(&NetemOptions { jitter: 1, ..none() }));
        assert!(delays(&NetemOptions { rate, ..none() }));
        assert!(delays(&NetemOptions { slot, ..none() }));
    }
}
