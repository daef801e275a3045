//! From what a person asks of netem to the numbers of the kernel, and back.

use std::num::{NonZeroU16, NonZeroU32};

use pod_chaos_protocol::{
    Cell, Chance, Distance, Distribution, FourStates, GilbertElliott, Latency, Link, Loss, Netem,
    Percentage, Rate, Reorder, Slot,
};

use super::{distribution, label::Shapes};
use crate::netlink::netem::{Dice, LossOptions, NetemOptions, RateOptions, SlotOptions};

/// netem holds packets for as long as the delay lasts, and drops what goes beyond its limit. It must not
/// turn a delay into a loss, so the limit is what a million packets per second (12 Gbit/s in full frames)
/// need, between these bounds. `tc` takes 1000 packets, which at 100 ms is full at 10,000 per second. The
/// upper bound, about 700 MB in full frames, is there for the node: something in the pod may flood.
const LIMIT: (u64, u64) = (10_000, 300_000);
const NANOS_PER_PACKET: u64 = 1_000;

/// A link of a given rate fills up, and then its buffer decides how late packets are. One that holds what
/// it sends in a second, in full frames, is what modems have; with the limit above a sender could queue
/// for minutes. The least is for slow links: a few TCP connections that start have 10 packets each on
/// their way (RFC 6928).
const BUFFER_NANOS: u64 = 1_000_000_000;
const BUFFER_MIN: u64 = 50;

/// A table goes up to 32767 parts of 8192, four jitters.
const TABLE_REACH: u64 = 4;

/// The limit when nobody said: for this, on an interface of this MTU.
pub fn default_limit(netem: &Netem, mtu: u32) -> u32 {
    let reach = if netem.distribution.is_uniform() { 1 } else { TABLE_REACH };
    let slot = netem.slot.as_ref().map_or(0, |slot| slot.longest().as_nanos());
    let held = netem.delay.as_nanos() + reach * netem.jitter.as_nanos() + slot;
    let (least, most) = LIMIT;
    let without_rate = (held / NANOS_PER_PACKET).clamp(least, most);
    let limit = netem.rate.map_or(without_rate, |link| {
        let bytes = u128::from(link.rate().bytes_per_second()) * u128::from(held + BUFFER_NANOS);
        let frames = bytes / 1_000_000_000 / u128::from(mtu.max(1));
        u64::try_from(frames).unwrap_or(most).clamp(BUFFER_MIN, without_rate)
    });
    u32::try_from(limit).unwrap_or(u32::MAX)
}

/// The numbers for the kernel, on an interface of this MTU.
pub fn options(netem: &Netem, mtu: u32) -> NetemOptions {
    let reorder = netem.reorder;
    NetemOptions {
        delay: netem.delay.as_nanos(),
        jitter: netem.jitter.as_nanos(),
        delay_correlation: netem.correlation.scaled(),
        limit: netem.limit.map_or_else(|| default_limit(netem, mtu), NonZeroU32::get),
        loss: loss_options(netem.loss),
        ecn: netem.ecn,
        duplicate: dice(netem.duplicate),
        corrupt: dice(netem.corrupt),
        reorder: dice(reorder.chance()),
        // A gap makes the kernel reorder.
        gap: if reorder.is_none() { 0 } else { reorder.gap().get() },
        rate: netem.rate.map(rate_options).unwrap_or_default(),
        slot: netem.slot.as_ref().map(slot_options).unwrap_or_default(),
        seed: netem.seed,
        delay_table: distribution::table(&netem.distribution),
        slot_table: match netem.slot.as_ref().map(Slot::distance) {
            Some(Distance::Around { distribution, .. }) => distribution::table(distribution),
            _ => Vec::new(),
        },
    }
}

fn dice(chance: Chance) -> Dice {
    Dice { probability: chance.probability().scaled(), correlation: chance.correlation().scaled() }
}

fn loss_options(loss: Loss) -> LossOptions {
    match loss {
        // A chain that never loses: without it the kernel throws no dice.
        _ if loss.is_none() => LossOptions::default(),
        Loss::Random(chance) => LossOptions::Random(dice(chance)),
        Loss::State(chain) => {
            let [p13, p31, p32, p23, p14] = chain.probabilities().map(Percentage::scaled);
            // The kernel adds these in 32 bits (`loss_4state()`): two halves, both rounded up, would be
            // nothing at all.
            let (p14, p32) = (p14.min(u32::MAX - p13), p32.min(u32::MAX - p31));
            LossOptions::FourStates([p13, p31, p32, p14, p23])
        }
        Loss::Gemodel(GilbertElliott { p, r, bad, good }) => {
            // `tc` and we say 1-h, the kernel h.
            LossOptions::GilbertElliott([
                p.scaled(),
                r.scaled(),
                bad.complement().scaled(),
                good.scaled(),
            ])
        }
    }
}

fn rate_options(link: Link) -> RateOptions {
    RateOptions {
        rate: link.rate().bytes_per_second(),
        packet_overhead: link.packet_overhead(),
        cell_size: link.cell().map_or(0, |cell| cell.size.get().into()),
        cell_overhead: link.cell().map_or(0, |cell| cell.overhead),
    }
}

fn slot_options(slot: &Slot) -> SlotOptions {
    let time = |time: &Latency| time.as_nanos().cast_signed();
    let count = |count: Option<NonZeroU32>| count.map_or(0, |count| count.get().cast_signed());
    let counts = SlotOptions {
        max_packets: count(slot.packets()),
        max_bytes: count(slot.bytes()),
        ..SlotOptions::default()
    };
    match slot.distance() {
        Distance::Between { min, max } => {
            SlotOptions { min_delay: time(min), max_delay: time(max), ..counts }
        }
        Distance::Around { delay, jitter, .. } => {
            SlotOptions { dist_delay: time(delay), dist_jitter: time(jitter), ..counts }
        }
    }
}

/// What the kernel holds, as a person would ask for it. The shapes are what the fault's label says: the
/// kernel does not give the tables back. A limit that is the default for this MTU is not mentioned. `None`
/// when the kernel holds more than anyone could have asked for.
pub fn parameters(options: &NetemOptions, shapes: &Shapes, mtu: u32) -> Option<Netem> {
    let mut netem = Netem {
        delay: Latency::from_nanos(options.delay).ok()?,
        jitter: Latency::from_nanos(options.jitter).ok()?,
        correlation: Percentage::from_scaled(options.delay_correlation),
        distribution: shapes.delay.clone(),
        loss: loss(options.loss)?,
        ecn: options.ecn,
        duplicate: chance(options.duplicate)?,
        corrupt: chance(options.corrupt)?,
        reorder: NonZeroU32::new(options.gap)
            .map_or(Some(Reorder::NONE), |gap| Reorder::new(chance(options.reorder)?, gap).ok())?,
        rate: if options.rate.rate == 0 { None } else { Some(link(options.rate)?) },
        slot: if options.slot == SlotOptions::default() {
            None
        } else {
            Some(slot(options.slot, &shapes.slot)?)
        },
        limit: None,
        seed: options.seed,
    };
    netem.limit = NonZeroU32::new(options.limit).filter(|l| l.get() != default_limit(&netem, mtu));
    Some(netem)
}

fn chance(dice: Dice) -> Option<Chance> {
    let [probability, correlation] =
        [dice.probability, dice.correlation].map(Percentage::from_scaled);
    Chance::new(probability, correlation).ok()
}

fn loss(options: LossOptions) -> Option<Loss> {
    Some(match options {
        LossOptions::Random(dice) => Loss::Random(chance(dice)?),
        LossOptions::FourStates(chain) => {
            let [p13, p31, p32, p14, p23] = chain.map(Percentage::from_scaled);
            Loss::State(FourStates::new([p13, p31, p32, p23, p14]).ok()?)
        }
        LossOptions::GilbertElliott([p, r, h, k1]) => {
            let [p, r, h, good] = [p, r, h, k1].map(Percentage::from_scaled);
            let bad = h.complement();
            Loss::Gemodel(GilbertElliott { p, r, bad, good })
        }
    })
}

fn link(options: RateOptions) -> Option<Link> {
    let size = NonZeroU16::new(u16::try_from(options.cell_size).ok()?);
    let cell = size.map(|size| Cell { size, overhead: options.cell_overhead });
    let rate = Rate::from_bytes_per_second(options.rate).ok()?;
    Link::new(rate, options.packet_overhead, cell).ok()
}

fn slot(options: SlotOptions, shape: &Distribution) -> Option<Slot> {
    let time = |nanos: i64| Latency::from_nanos(u64::try_from(nanos).ok()?).ok();
    let count = |count: i32| u32::try_from(count).ok().and_then(NonZeroU32::new);
    let distance = if options.dist_jitter == 0 {
        Distance::Between { min: time(options.min_delay)?, max: time(options.max_delay)? }
    } else {
        // Without a word about it in the label, it was still not the even one.
        let even = shape.is_uniform();
        let distribution = if even { Distribution::SomeTable } else { shape.clone() };
        let (delay, jitter) = (time(options.dist_delay)?, time(options.dist_jitter)?);
        Distance::Around { distribution, delay, jitter }
    };
    Slot::new(distance, count(options.max_packets), count(options.max_bytes)).ok()
}

/// What of the options the kernel shows differently, by name, read and asked. Not the tables, which it does
/// not show at all.
pub fn differences(read: &NetemOptions, asked: &NetemOptions) -> Vec<String> {
    // A kernel may only know ticks of 64 ns.
    let near = |read: u64, asked: u64| if read.abs_diff(asked) < 64 { asked } else { read };
    let mut seen = read.clone();
    seen.delay = near(read.delay, asked.delay);
    seen.jitter = near(read.jitter, asked.jitter);
    // Of its own choice when it was told none.
    seen.seed = asked.seed.and(read.seed);
    let pairs = [
        (
            "delay",
            format!("{:?}", (seen.delay, seen.jitter, seen.delay_correlation)),
            format!("{:?}", (asked.delay, asked.jitter, asked.delay_correlation)),
        ),
        ("limit", format!("{:?}", seen.limit), format!("{:?}", asked.limit)),
        ("loss", format!("{:?}", (seen.loss, seen.ecn)), format!("{:?}", (asked.loss, asked.ecn))),
        ("duplicate", format!("{:?}", seen.duplicate), format!("{:?}", asked.duplicate)),
        ("corrupt", format!("{:?}", seen.corrupt), format!("{:?}", asked.corrupt)),
        (
            "reorder",
            format!("{:?}", (seen.reorder, seen.gap)),
            format!("{:?}", (asked.reorder, asked.gap)),
        ),
        ("rate", format!("{:?}", seen.rate), format!("{:?}", asked.rate)),
        ("slot", format!("{:?}", seen.slot), format!("{:?}", asked.slot)),
        ("seed", format!("{:?}", seen.seed), format!("{:?}", asked.seed)),
    ];
    let differ = pairs.into_iter().filter(|(_, read, asked)| read != asked);
    differ.map(|(name, read, asked)| format!("{name}: {read} instead of {asked}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;

    fn netem(json: &str) -> Netem {
        let netem: Netem =
            serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"));
        netem.check().unwrap();
        netem
    }

    fn limit(json: &str) -> u32 {
        default_limit(&netem(json), 1500)
    }

    #[test]
    fn a_delay_is_no_loss_at_a_million_packets_per_second() {
        assert_eq!(limit(r#"{"delay":"1ms"}"#), 10_000);
        assert_eq!(limit(r#"{"loss":"1%"}"#), 10_000);
        assert_eq!(limit(r#"{"delay":"100ms","jitter":"10ms"}"#), 110_000);
        assert_eq!(limit(r#"{"delay":"100ms","jitter":"10ms","distribution":"normal"}"#), 140_000);
        assert_eq!(limit(r#"{"delay":"100ms","slot":"10ms 20ms"}"#), 120_000);
        assert_eq!(limit(r#"{"delay":"240s"}"#), 300_000);
    }

    #[test]
    fn a_slow_link_holds_what_it_sends_in_a_second() {
        assert_eq!(limit(r#"{"rate":"12mbit"}"#), 1_000);
        assert_eq!(limit(r#"{"rate":"12mbit","delay":"1s"}"#), 2_000);
        assert_eq!(limit(r#"{"rate":"56kbit"}"#), 50);
        assert_eq!(limit(r#"{"rate":"1tbit"}"#), 10_000);
    }

    #[test]
    fn what_is_asked_for_is_what_is_reported() {
        for json in [
            r#"{"delay":"100ms","jitter":"10ms","correlation":"25%","distribution":"normal"}"#,
            r#"{"loss":"1% 25%","ecn":true,"duplicate":"2% 3%","corrupt":"4% 5%"}"#,
            r#"{"loss":"state 10% 20% 30% 40% 50%"}"#,
            r#"{"loss":"gemodel 10% 20% 30% 40%"}"#,
            r#"{"delay":"1ms","reorder":"25% 50% gap 5","limit":7}"#,
            r#"{"delay":"1ms","reorder":"25%"}"#,
            r#"{"rate":"100gbit -14 48 -5"}"#,
            r#"{"slot":"1ms 2ms packets 3 bytes 4"}"#,
            r#"{"slot":"distribution pareto 2ms 1ms","seed":18446744073709551615}"#,
        ] {
            let netem = netem(json);
            let options = options(&netem, 1500);
            let shapes = Shapes::of(&netem);
            assert_eq!(parameters(&options, &shapes, 1500), Some(netem), "{json}");
        }
    }

    prop_compose! {
        /// In hundredths of a percent, as people write them.
        fn chance()(probability in 1..=10_000u32, correlation in 0..=10_000u32) -> Chance {
            let percent = |hundredths: u32| format!("{}.{:02}", hundredths / 100, hundredths % 100);
            format!("{} {}", percent(probability), percent(correlation)).parse().unwrap()
        }
    }

    fn model() -> impl Strategy<Value = Loss> {
        let chain = |name: &'static str, most: u32| {
            proptest::array::uniform4(1..most).prop_map(move |parts| {
                format!("{name} {}", parts.map(|part| part.to_string()).join(" ")).parse().unwrap()
            })
        };
        prop_oneof![chance().prop_map(Loss::Random), chain("state", 50), chain("gemodel", 100)]
    }

    prop_compose! {
        fn any_netem()(
            times in proptest::array::uniform2(1..240_000_000_000u64), correlation in chance(),
            loss in option::of(model()), ecn: bool,
            others in proptest::array::uniform2(option::of(chance())),
            reorder in option::of((chance(), 1..u32::MAX)),
            rate in option::of((1..=125_000_000_000u64, -34..1000i32, option::of((1..100u16, 0..9i32)))),
            slot in option::of((1..1_000_000_000u64, 0..1_000_000_000u64, 1..1000u32)),
            limit in 1..=u32::MAX, seed: Option<u64>,
        ) -> Netem {
            let time = |nanos: u64| Latency::from_nanos(nanos).unwrap();
            let count = NonZeroU32::new;
            let [duplicate, corrupt] = others.map(Option::unwrap_or_default);
            Netem {
                delay: time(times[0]),
                jitter: time(times[1].min(times[0]).min(Netem::JITTER_MAX_NANOS)),
                correlation: correlation.correlation(),
                loss: loss.unwrap_or_default(),
                ecn: ecn && loss.is_some(),
                duplicate,
                corrupt,
                reorder: reorder.map_or(Reorder::NONE, |(chance, gap)| {
                    Reorder::new(chance, count(gap).unwrap()).unwrap()
                }),
                rate: rate.map(|(bytes, overhead, cell)| {
                    let cell = cell.map(|(size, overhead)| {
                        Cell { size: NonZeroU16::new(size).unwrap(), overhead }
                    });
                    Link::new(Rate::from_bytes_per_second(bytes).unwrap(), overhead, cell).unwrap()
                }),
                slot: slot.map(|(min, more, packets)| {
                    let distance = Distance::Between { min: time(min), max: time(min + more) };
                    Slot::new(distance, count(packets), None).unwrap()
                }),
                limit: count(limit),
                seed,
                ..Netem::default()
            }
        }
    }

    proptest! {
        #[test]
        fn anything_that_can_be_asked_for_is_reported_as_it_was_asked(netem in any_netem()) {
            prop_assert_eq!(netem.check(), Ok(()));
            let options = options(&netem, 1500);
            let told = parameters(&options, &Shapes::default(), 1500);
            prop_assert_eq!(told, Some(netem));
            prop_assert_eq!(differences(&options, &options), Vec::<String>::new());
        }
    }

    #[test]
    fn two_halves_do_not_overflow_in_the_kernel() {
        let asked = options(&netem(r#"{"loss":"state 50% 50% 50% 50% 50%"}"#), 1500);
        let half = 0x8000_0000;
        assert_eq!(asked.loss, LossOptions::FourStates([half, half, half - 1, half - 1, half]));
    }

    #[test]
    fn differences_are_named() {
        let asked = options(&netem(r#"{"delay":"100ms","loss":"1%","seed":1}"#), 1500);
        let mut read = asked.clone();
        read.delay -= 63;
        assert_eq!(differences(&read, &asked), Vec::<String>::new());
        read.delay -= 1;
        read.ecn = true;
        read.seed = Some(2);
        let found = differences(&read, &asked);
        let names: Vec<_> = found.iter().filter_map(|text| text.split(':').next()).collect();
        assert_eq!(names, ["delay", "loss", "seed"]);
        // A seed that nobody asked for is no difference.
        let asked = NetemOptions { seed: None, ..read.clone() };
        assert_eq!(differences(&read, &asked), Vec::<String>::new());
    }
}
