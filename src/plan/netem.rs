//! What becomes of packets, from flags.

use pod_chaos_protocol::{BadNetem, Netem};

use crate::cli::NetemArgs;

impl TryFrom<&NetemArgs> for Netem {
    type Error = BadNetem;

    /// The profile, and over it what was given by itself. Refuses what makes no sense together.
    fn try_from(args: &NetemArgs) -> Result<Self, BadNetem> {
        let mut netem = args.profile.map(super::Profile::netem).unwrap_or_default();
        put(&mut netem.delay, args.delay);
        put(&mut netem.jitter, args.variation);
        put(&mut netem.correlation, args.correlation);
        put(&mut netem.distribution, args.distribution.clone());
        put(&mut netem.loss, args.loss);
        put(&mut netem.duplicate, args.duplicate);
        put(&mut netem.corrupt, args.corrupt);
        put(&mut netem.reorder, args.reorder);
        netem.ecn = args.ecn;
        netem.rate = args.rate.or(netem.rate);
        netem.slot.clone_from(&args.slot);
        netem.limit = args.limit;
        netem.check()?;
        Ok(netem)
    }
}

fn put<T>(place: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *place = given;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use pod_chaos_protocol::{Distance, Distribution, Fault, Loss, Reorder, Slot};
    use proptest::{option, prelude::*};

    use super::*;
    use crate::{
        cli::{Cli, Command},
        plan::Intent,
    };

    fn parse(flags: &[String]) -> Result<Netem, String> {
        let line = ["pod-chaos", "disrupt", "-p", "web"].map(str::to_owned);
        let cli = Cli::try_parse_from(line.iter().chain(flags)).map_err(|e| e.to_string())?;
        let Command::Disrupt(args) = cli.command else { return Err("not disrupt".to_owned()) };
        let plan = Intent::try_from(&*args).map_err(|error| error.to_string())?.plan;
        // As the agent reads it.
        let plan = serde_json::to_string(&plan).unwrap();
        match serde_json::from_str::<pod_chaos_protocol::Plan>(&plan).unwrap().fault {
            Fault::Netem(fault) => Ok(fault.netem),
            other => Err(format!("{other:?}")),
        }
    }

    fn words(flags: &str) -> Result<String, String> {
        parse(&flags.split(' ').map(|word| word.replace('_', " ")).collect::<Vec<_>>())
            .map(|netem| netem.to_string())
    }

    #[test]
    fn flags_beside_a_profile_override_its_parts() {
        for (flags, netem) in [
            ("--profile 3g", "delay 300ms rate 1.6mbit"),
            ("--profile 3g -d 50", "delay 50ms rate 1.6mbit"),
            ("--profile 3g --rate 64kbit --loss 1", "delay 300ms loss 1% rate 64kbit"),
            (
                "--profile 3g -v 20 --distribution normal",
                "delay 300ms 20ms distribution normal rate 1.6mbit",
            ),
            ("--profile satellite", "delay 558ms loss 0.12%"),
            ("--profile satellite --loss 0", "delay 558ms"),
        ] {
            assert_eq!(words(flags).as_deref(), Ok(netem), "{flags}");
        }
    }

    #[test]
    fn any_option_makes_a_fault_and_none_is_refused() {
        for (flags, netem) in [
            ("-d 100", "delay 100ms"),
            ("--loss 10", "loss 10%"),
            ("--loss state_1%", "loss state 1% 99% 0% 100% 0%"),
            ("--loss 1% --ecn", "loss 1% ecn"),
            ("--duplicate 1%_25%", "duplicate 1% 25%"),
            ("--corrupt 0.1", "corrupt 0.1%"),
            ("-d 10 --reorder 25%_50%_gap_5", "delay 10ms reorder 25% 50% gap 5"),
            ("--rate 1mbit_-14", "rate 1mbit -14"),
            ("--slot 800us_1ms_packets_5", "slot 800us 1ms packets 5"),
            ("--slot distribution_normal_1ms_100us", "slot distribution normal 1ms 100us"),
            ("--loss 1 --limit 5 --seed 7", "loss 1% limit 5 seed 7"),
        ] {
            assert_eq!(words(flags).as_deref(), Ok(netem), "{flags}");
        }
        for flags in ["-d 0", "-r 30", "--limit 5", "--seed 7", "--loss 0"] {
            assert_eq!(words(flags).unwrap_err(), "nothing would change", "{flags}");
        }
    }

    prop_compose! {
        /// In hundredths, as people write them.
        fn percent()(hundredths in 0..=10_000u32) -> String {
            format!("{}.{:02}%", hundredths / 100, hundredths % 100)
        }
    }

    prop_compose! {
        fn chance()(hundredths in 1..=10_000u32, correlation in percent()) -> String {
            format!("{}.{:02}% {correlation}", hundredths / 100, hundredths % 100)
        }
    }

    fn loss() -> impl Strategy<Value = String> {
        prop_oneof![
            chance(),
            [percent(), percent(), percent(), percent()]
                .prop_map(|parts| format!("gemodel {}", parts.join(" "))),
            [1..50u32, 1..50, 1..50, 1..50, 1..50].prop_map(|parts| format!(
                "state {}",
                parts.map(|part| part.to_string()).join(" ")
            )),
        ]
    }

    fn shape() -> impl Strategy<Value = Distribution> {
        prop_oneof![
            Just(Distribution::Uniform),
            Just(Distribution::Normal),
            Just(Distribution::Pareto),
            Just(Distribution::Paretonormal),
            Just("table:1,-2,3".parse().unwrap()),
        ]
    }

    prop_compose! {
        fn slot()(
            shape in shape(), min in 1..1_000_000_000u64, more in 0..1_000_000_000u64,
            packets in option::of(1..1000u32), bytes in option::of(1..1000u32),
        ) -> Slot {
            let time = |nanos| pod_chaos_protocol::Latency::from_nanos(nanos).unwrap();
            let jitter = more.min(min);
            let distance = if jitter == 0 || shape.is_uniform() {
                Distance::Between { min: time(min), max: time(min + more) }
            } else {
                Distance::Around { distribution: shape, delay: time(min), jitter: time(jitter) }
            };
            let count = |count: Option<u32>| count.and_then(std::num::NonZeroU32::new);
            Slot::new(distance, count(packets), count(bytes)).unwrap()
        }
    }

    prop_compose! {
        fn netem()(
            (delay, jitter) in (1..240_000_000_000u64, 1..2_147_483_647u64),
            (with_jitter, correlation, shape) in (any::<bool>(), percent(), shape()),
            loss in option::of(loss()), duplicate in option::of(chance()),
            corrupt in option::of(chance()), ecn: bool,
            reorder in option::of((chance(), 1..100u32)),
            rate in option::of((1..125_000_000_000u64, -34..100i32, 1..100i32, -1..10i32)),
            slot in option::of(slot()),
            limit in option::of(1..=u32::MAX), seed: Option<u64>,
        ) -> Netem {
            let time = |nanos| pod_chaos_protocol::Latency::from_nanos(nanos).unwrap();
            let mut netem = Netem {
                delay: time(delay),
                duplicate: duplicate.map_or_else(Default::default, |text| text.parse().unwrap()),
                corrupt: corrupt.map_or_else(Default::default, |text| text.parse().unwrap()),
                reorder: reorder.map_or(Reorder::NONE, |(chance, gap)| {
                    format!("{chance} gap {gap}").parse().unwrap()
                }),
                rate: rate.map(|(bytes, packet, cell, overhead)| {
                    let overhead = overhead.max(1 - cell);
                    format!("{}bit {packet} {cell} {overhead}", bytes * 8).parse().unwrap()
                }),
                slot,
                limit: limit.and_then(std::num::NonZeroU32::new),
                seed,
                ..Netem::default()
            };
            if with_jitter {
                netem.jitter = time(jitter.min(delay));
                netem.correlation = correlation.parse().unwrap();
                netem.distribution = shape;
            }
            if let Some(loss) = loss {
                netem.loss = loss.parse::<Loss>().unwrap();
                netem.ecn = ecn && !netem.loss.is_none();
            }
            netem
        }
    }

    /// The flags for it.
    fn flags(netem: &Netem) -> Vec<String> {
        let mut flags = vec![
            format!("--delay={}", netem.delay),
            format!("--jitter={}", netem.jitter),
            format!("--correlation={}", netem.correlation),
            format!("--distribution={}", netem.distribution),
            format!("--loss={}", netem.loss),
            format!("--duplicate={}", netem.duplicate),
            format!("--corrupt={}", netem.corrupt),
            format!("--reorder={}", netem.reorder),
        ];
        flags.extend(netem.ecn.then(|| "--ecn".to_owned()));
        flags.extend(netem.rate.map(|rate| format!("--rate={rate}")));
        flags.extend(netem.slot.as_ref().map(|slot| format!("--slot={slot}")));
        flags.extend(netem.limit.map(|limit| format!("--limit={limit}")));
        flags.extend(netem.seed.map(|seed| format!("--seed={seed}")));
        flags
    }

    proptest! {
        #[test]
        fn what_flags_say_reaches_the_agent(netem in netem()) {
            prop_assert_eq!(netem.check(), Ok(()));
            prop_assert_eq!(parse(&flags(&netem)), Ok(netem));
        }
    }
}
