use serde_json::json;

use super::{frame::tests::ipv4, *};

const MS: u64 = 1_000_000;

fn emulator(netem: &serde_json::Value) -> Emulator {
    Emulator::new(&serde_json::from_value(netem.clone()).unwrap(), (1_000, BYTES_MAX), 9)
}

/// A packet with its number in it.
fn packet(number: u32) -> Vec<u8> {
    [vec![0; VNET_HEADER], ipv4(0, &number.to_be_bytes())].concat()
}

/// What comes out of these many packets, one each millisecond: numbers, and for how long each was held.
fn run(netem: &serde_json::Value, count: u32) -> Vec<(u32, u64)> {
    let mut emulator = emulator(netem);
    let mut out = Vec::new();
    let mut give = |emulator: &mut Emulator, now: u64| {
        while let Some(due) = emulator.next_due().filter(|due| *due <= now) {
            let packet = emulator.give(due).unwrap();
            let at = VNET_HEADER + 14 + 20;
            let number = u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
            out.push((number, due - u64::from(number) * MS));
        }
    };
    for number in 0..count {
        let now = u64::from(number) * MS;
        give(&mut emulator, now);
        emulator.take(now, &packet(number));
    }
    give(&mut emulator, u64::MAX);
    assert_eq!(emulator.held(), 0);
    out
}

#[test]
fn a_delay_is_the_same_for_all() {
    let want: Vec<_> = (0..1_000).map(|number| (number, 100 * MS)).collect();
    assert_eq!(run(&json!({ "delay": "100ms" }), 1_000), want);
}

#[test]
fn the_same_seed_does_the_same() {
    let netem = json!({
        "delay": "10ms", "jitter": "5ms", "loss": "10%", "duplicate": "10%", "reorder": "5%"
    });
    assert_eq!(run(&netem, 1_000), run(&netem, 1_000));
}

#[test]
fn jitter_makes_packets_overtake_each_other() {
    let out = run(&json!({ "delay": "10ms", "jitter": "5ms" }), 10_000);
    assert_eq!(out.len(), 10_000);
    assert!(out.iter().all(|(_, held)| (5 * MS..15 * MS).contains(held)));
    assert!(out.windows(2).any(|pair| pair[0].0 > pair[1].0));
    let times: Vec<_> = out.iter().map(|(number, held)| u64::from(*number) * MS + held).collect();
    assert!(times.is_sorted());
}

#[test]
fn who_overtakes_is_not_held() {
    let out = run(&json!({ "delay": "10ms", "reorder": "100% gap 4" }), 1_000);
    for (number, held) in out {
        assert_eq!(held, if number % 4 == 3 { 0 } else { 10 * MS }, "{number}");
    }
}

#[test]
fn each_packet_of_two_is_lost_by_itself() {
    let out = run(&json!({ "loss": "20%", "duplicate": "30%" }), 100_000);
    let want = 100_000.0 * 0.8 * 1.3;
    let count = f64::from(u32::try_from(out.len()).unwrap());
    assert!((count / want - 1.0).abs() < 0.01, "{count} instead of {want}");
}

#[test]
fn a_rate_comes_after_the_delay() {
    let out = run(&json!({ "delay": "10ms", "rate": "8kbit" }), 3);
    // 41 bytes with three that fill up the frame take 41 ms.
    let took = out.iter().map(|(number, held)| (u64::from(*number) * MS + held) / MS);
    assert_eq!(took.collect::<Vec<_>>(), [51, 92, 133]);
}

/// What has been done to these many packets, one each millisecond.
fn done(netem: &serde_json::Value, count: u32) -> (u64, u64) {
    let mut emulator = emulator(netem);
    for number in 0..count {
        emulator.take(u64::from(number) * MS, &packet(number));
    }
    let Done { delayed, dropped } = emulator.done();
    (delayed, dropped)
}

#[test]
fn what_is_delayed_and_dropped_is_counted() {
    for (netem, want) in [
        (json!({ "delay": "10ms" }), (30, 0)),
        (json!({ "rate": "8mbit" }), (30, 0)),
        (json!({ "slot": "5ms" }), (30, 0)),
        (json!({ "delay": "10ms", "reorder": "100% gap 3" }), (20, 0)),
        (json!({ "loss": "100%" }), (0, 30)),
        (json!({ "delay": "10ms", "loss": "100%" }), (0, 30)),
        (json!({ "duplicate": "100%" }), (0, 0)),
        (json!({ "delay": "10ms", "duplicate": "100%" }), (60, 0)),
        (json!({ "corrupt": "100%" }), (0, 0)),
    ] {
        assert_eq!(done(&netem, 30), want, "{netem}");
    }
}

#[test]
fn no_more_packets_are_held_than_the_limit() {
    let mut emulator = emulator(&json!({ "delay": "1s" }));
    for number in 0..1_500 {
        emulator.take(0, &packet(number));
    }
    assert_eq!((emulator.held(), emulator.done().dropped), (1_000, 500));
}

#[test]
fn no_more_bytes_are_held_than_there_is_room_for() {
    let netem = serde_json::from_value(json!({ "delay": "1s" })).unwrap();
    let mut emulator = Emulator::new(&netem, (u32::MAX, BYTES_MAX), 1);
    let large = vec![0; 1 << 20];
    for _ in 0..130 {
        emulator.take(0, &large);
    }
    assert_eq!((emulator.held(), emulator.done().dropped), (128, 2));
}

#[test]
fn only_a_delay_keeps_super_packets() {
    let keeps = |netem| keeps_super_packets(&serde_json::from_value(netem).unwrap());
    assert!(keeps(json!({ "delay": "10ms", "limit": 5, "seed": 1 })));
    assert!(!keeps(json!({ "delay": "10ms", "jitter": "1us" })));
    assert!(!keeps(json!({ "delay": "10ms", "loss": "1%" })));
    assert!(!keeps(json!({ "rate": "1gbit" })));
}
