//! The options of the netem qdisc, number by number (linux/pkt_sched.h).
//!
//! The kernel gives back all that it was told but for the tables of distributions. It always gives a seed,
//! of its own choice when it was told none, where it has one (from Linux 6.6 on).

use super::attribute::{self, Attributes};

const TCA_NETEM_CORR: u16 = 1;
const TCA_NETEM_DELAY_DIST: u16 = 2;
const TCA_NETEM_REORDER: u16 = 3;
const TCA_NETEM_CORRUPT: u16 = 4;
const TCA_NETEM_LOSS: u16 = 5;
const TCA_NETEM_RATE: u16 = 6;
const TCA_NETEM_ECN: u16 = 7;
const TCA_NETEM_RATE64: u16 = 8;
const TCA_NETEM_LATENCY64: u16 = 10;
const TCA_NETEM_JITTER64: u16 = 11;
const TCA_NETEM_SLOT: u16 = 12;
const TCA_NETEM_SLOT_DIST: u16 = 13;
const TCA_NETEM_PRNG_SEED: u16 = 14;
const NETEM_LOSS_GI: u16 = 1;
const NETEM_LOSS_GE: u16 = 2;

/// `struct tc_netem_qopt`.
const PARMS: usize = 24;
/// `PSCHED_SHIFT` (net/pkt_sched.h): the ticks of `struct tc_netem_qopt` are 64 ns.
const TICK_NANOS: u64 = 64;

/// What netem is told. Times are in nanoseconds; probabilities and correlations are parts of 4294967295.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetemOptions {
    /// Time that packets are held.
    pub delay: u64,
    /// What the shape of the delay is scaled by.
    pub jitter: u64,
    /// Of one packet's delay with the next one's.
    pub delay_correlation: u32,
    /// Packets it holds at most; later ones are lost.
    pub limit: u32,
    /// Which packets are lost.
    pub loss: LossOptions,
    /// Mark packets instead, where they can be.
    pub ecn: bool,
    /// Which packets are sent twice.
    pub duplicate: Dice,
    /// Which packets have a bit changed.
    pub corrupt: Dice,
    /// Which packets are sent at once.
    pub reorder: Dice,
    /// Every how many packets that may be; 0 is never.
    pub gap: u32,
    /// The link.
    pub rate: RateOptions,
    /// When packets may leave.
    pub slot: SlotOptions,
    /// Where the random numbers start.
    pub seed: Option<u64>,
    /// The shape of the delay, in parts of 8192 of the jitter; the even one when empty. Never read back.
    pub delay_table: Vec<i16>,
    /// The shape of the time between slots, as above.
    pub slot_table: Vec<i16>,
}

/// Whether something happens to a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dice {
    /// How likely.
    pub probability: u32,
    /// Of one packet with the next.
    pub correlation: u32,
}

/// A model of loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossOptions {
    /// Each packet as such.
    Random(Dice),
    /// `struct tc_netem_gimodel`: p13, p31, p32, p14, p23.
    FourStates([u32; 5]),
    /// `struct tc_netem_gemodel`: p, r, h, k1.
    GilbertElliott([u32; 4]),
}

impl Default for LossOptions {
    fn default() -> Self {
        Self::Random(Dice::default())
    }
}

/// `struct tc_netem_rate`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateOptions {
    /// Bytes per second; 0 is no limit.
    pub rate: u64,
    /// Bytes.
    pub packet_overhead: i32,
    /// Bytes; 0 is no cells.
    pub cell_size: u32,
    /// Bytes.
    pub cell_overhead: i32,
}

/// `struct tc_netem_slot`; all 0 is no slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotOptions {
    /// Nanoseconds.
    pub min_delay: i64,
    /// Nanoseconds.
    pub max_delay: i64,
    /// 0 is any number.
    pub max_packets: i32,
    /// 0 is any number.
    pub max_bytes: i32,
    /// Nanoseconds.
    pub dist_delay: i64,
    /// Nanoseconds.
    pub dist_jitter: i64,
}

fn numbers(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

fn table(entries: &[i16]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_ne_bytes()).collect()
}

impl NetemOptions {
    /// The value of `TCA_OPTIONS`: what `tc` sends, in its order; then what it leaves out or says less
    /// exactly.
    pub(super) fn write(&self) -> Vec<u8> {
        let ticks = |nanos: u64| u32::try_from(nanos / TICK_NANOS).unwrap_or(u32::MAX);
        let random = match self.loss {
            LossOptions::Random(dice) => dice,
            _ => Dice::default(),
        };
        // struct tc_netem_qopt: latency, limit, loss, gap, duplicate, jitter.
        let mut bytes = numbers(&[
            ticks(self.delay),
            self.limit,
            random.probability,
            self.gap,
            self.duplicate.probability,
            ticks(self.jitter),
        ]);
        let mut attributes = Attributes::new();
        let mut add = |kind, value: &[u8]| {
            attributes = std::mem::take(&mut attributes).bytes(kind, value);
        };
        let correlations = [self.delay_correlation, random.correlation, self.duplicate.correlation];
        if correlations != [0; 3] {
            add(TCA_NETEM_CORR, &numbers(&correlations));
        }
        if self.reorder != Dice::default() {
            add(TCA_NETEM_REORDER, &self.reorder.write());
        }
        if self.ecn {
            add(TCA_NETEM_ECN, &numbers(&[1]));
        }
        if self.corrupt != Dice::default() {
            add(TCA_NETEM_CORRUPT, &self.corrupt.write());
        }
        if self.slot != SlotOptions::default() {
            add(TCA_NETEM_SLOT, &self.slot.write());
        }
        let model = match self.loss {
            LossOptions::Random(_) => None,
            LossOptions::FourStates(chain) => Some((NETEM_LOSS_GI, numbers(&chain))),
            LossOptions::GilbertElliott(chain) => Some((NETEM_LOSS_GE, numbers(&chain))),
        };
        if let Some((kind, chain)) = model {
            add(TCA_NETEM_LOSS, Attributes::new().bytes(kind, &chain).as_bytes());
        }
        if self.rate != RateOptions::default() {
            if u32::try_from(self.rate.rate).is_err() {
                add(TCA_NETEM_RATE64, &self.rate.rate.to_ne_bytes());
            }
            add(TCA_NETEM_RATE, &self.rate.write());
        }
        if !self.delay_table.is_empty() {
            add(TCA_NETEM_DELAY_DIST, &table(&self.delay_table));
        }
        if !self.slot_table.is_empty() {
            add(TCA_NETEM_SLOT_DIST, &table(&self.slot_table));
        }
        // The same to the nanosecond; they win over the ticks.
        add(TCA_NETEM_LATENCY64, &self.delay.to_ne_bytes());
        add(TCA_NETEM_JITTER64, &self.jitter.to_ne_bytes());
        if let Some(seed) = self.seed {
            add(TCA_NETEM_PRNG_SEED, &seed.to_ne_bytes());
        }
        bytes.extend_from_slice(attributes.as_bytes());
        bytes
    }

    /// From the value of `TCA_OPTIONS`, as the kernel gives it back or as [`NetemOptions::write`] makes it.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (parms, attributes) = bytes.split_at_checked(PARMS)?;
        let [latency, limit, loss, gap, duplicate, jitter] = read_numbers(parms)?;
        let find = |kind| attribute::find(attributes, kind);
        let exact = |kind, ticks: u32| {
            let exact = find(kind).and_then(attribute::native_i64);
            exact.and_then(|n| u64::try_from(n).ok()).unwrap_or(u64::from(ticks) * TICK_NANOS)
        };
        let [delay_correlation, loss_correlation, duplicate_correlation] =
            find(TCA_NETEM_CORR).and_then(read_numbers).unwrap_or_default();
        let model = find(TCA_NETEM_LOSS).and_then(|models| {
            let find = |kind| attribute::find(models, kind);
            let four = find(NETEM_LOSS_GI).and_then(read_numbers).map(LossOptions::FourStates);
            let two = || find(NETEM_LOSS_GE).and_then(read_numbers);
            four.or_else(|| two().map(LossOptions::GilbertElliott))
        });
        let random = Dice { probability: loss, correlation: loss_correlation };
        let number64 = |kind| find(kind)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
        let mut rate = find(TCA_NETEM_RATE).and_then(RateOptions::read).unwrap_or_default();
        rate.rate = number64(TCA_NETEM_RATE64).unwrap_or(rate.rate).max(rate.rate);
        Some(Self {
            delay: exact(TCA_NETEM_LATENCY64, latency),
            jitter: exact(TCA_NETEM_JITTER64, jitter),
            delay_correlation,
            limit,
            loss: model.unwrap_or(LossOptions::Random(random)),
            ecn: find(TCA_NETEM_ECN).and_then(attribute::native32).is_some_and(|ecn| ecn != 0),
            duplicate: Dice { probability: duplicate, correlation: duplicate_correlation },
            corrupt: find(TCA_NETEM_CORRUPT).and_then(Dice::read).unwrap_or_default(),
            reorder: find(TCA_NETEM_REORDER).and_then(Dice::read).unwrap_or_default(),
            gap,
            rate,
            slot: find(TCA_NETEM_SLOT).and_then(SlotOptions::read).unwrap_or_default(),
            seed: number64(TCA_NETEM_PRNG_SEED),
            delay_table: find(TCA_NETEM_DELAY_DIST).map(read_table).unwrap_or_default(),
            slot_table: find(TCA_NETEM_SLOT_DIST).map(read_table).unwrap_or_default(),
        })
    }
}

fn read_numbers<const N: usize>(bytes: &[u8]) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    for (index, number) in numbers.iter_mut().enumerate() {
        *number = attribute::native32(bytes.get(4 * index..)?)?;
    }
    Some(numbers)
}

fn read_table(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|entry| i16::from_ne_bytes([entry[0], entry[1]])).collect()
}

impl Dice {
    fn write(self) -> Vec<u8> {
        numbers(&[self.probability, self.correlation])
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let [probability, correlation] = read_numbers(bytes)?;
        Some(Self { probability, correlation })
    }
}

impl RateOptions {
    fn write(self) -> Vec<u8> {
        numbers(&[
            u32::try_from(self.rate).unwrap_or(u32::MAX),
            self.packet_overhead.cast_unsigned(),
            self.cell_size,
            self.cell_overhead.cast_unsigned(),
        ])
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let [rate, packet_overhead, cell_size, cell_overhead] = read_numbers(bytes)?;
        Some(Self {
            rate: rate.into(),
            packet_overhead: packet_overhead.cast_signed(),
            cell_size,
            cell_overhead: cell_overhead.cast_signed(),
        })
    }
}

impl SlotOptions {
    fn write(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.min_delay.to_ne_bytes());
        bytes.extend_from_slice(&self.max_delay.to_ne_bytes());
        bytes.extend_from_slice(&self.max_packets.to_ne_bytes());
        bytes.extend_from_slice(&self.max_bytes.to_ne_bytes());
        bytes.extend_from_slice(&self.dist_delay.to_ne_bytes());
        bytes.extend_from_slice(&self.dist_jitter.to_ne_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let time = |at: usize| bytes.get(at..).and_then(attribute::native_i64);
        let count = |at: usize| bytes.get(at..).and_then(attribute::native32).map(u32::cast_signed);
        Some(Self {
            min_delay: time(0)?,
            max_delay: time(8)?,
            max_packets: count(16)?,
            max_bytes: count(20)?,
            dist_delay: time(24)?,
            dist_jitter: time(32)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    prop_compose! {
        fn dice()(probability: u32, correlation: u32) -> Dice {
            Dice { probability, correlation }
        }
    }

    fn loss() -> impl Strategy<Value = LossOptions> {
        prop_oneof![
            dice().prop_map(LossOptions::Random),
            any::<[u32; 5]>().prop_map(LossOptions::FourStates),
            any::<[u32; 4]>().prop_map(LossOptions::GilbertElliott),
        ]
    }

    prop_compose! {
        fn rate()(rate in 0..=u64::MAX / 2, packet_overhead: i32, cell_size: u32, cell_overhead: i32)
            -> RateOptions
        {
            RateOptions { rate, packet_overhead, cell_size, cell_overhead }
        }
    }

    prop_compose! {
        fn slot()(times: [i64; 4], counts: [i32; 2]) -> SlotOptions {
            let [min_delay, max_delay, dist_delay, dist_jitter] = times;
            let [max_packets, max_bytes] = counts;
            SlotOptions { min_delay, max_delay, max_packets, max_bytes, dist_delay, dist_jitter }
        }
    }

    prop_compose! {
        fn options()(
            delay in 0..=240_000_000_000u64, jitter in 0..=2_147_483_647u64,
            numbers: [u32; 3], loss in loss(), ecn: bool, dice in [dice(), dice(), dice()],
            rate in rate(), slot in slot(), seed: Option<u64>,
            tables in [vec(any::<i16>(), 0..40), vec(any::<i16>(), 0..40)],
        ) -> NetemOptions {
            let [delay_correlation, limit, gap] = numbers;
            let [duplicate, corrupt, reorder] = dice;
            let [delay_table, slot_table] = tables;
            NetemOptions {
                delay, jitter, delay_correlation, limit, loss, ecn, duplicate, corrupt, reorder, gap,
                rate, slot, seed, delay_table, slot_table,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(options in options()) {
            prop_assert_eq!(NetemOptions::read(&options.write()), Some(options));
        }

        #[test]
        fn no_bytes_panic(bytes in vec(any::<u8>(), 0..80)) {
            let _ = NetemOptions::read(&bytes);
        }
    }

    #[test]
    fn ticks_are_used_where_the_kernel_gives_no_nanoseconds() {
        let options = NetemOptions { delay: 100_000_000, limit: 1000, ..NetemOptions::default() };
        assert_eq!(NetemOptions::read(&options.write()[..PARMS]), Some(options));
    }
}
