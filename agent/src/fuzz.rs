//! All that reads what comes from outside, for targets of `cargo fuzz` (`fuzz/`) and for the tests below: none
//! may panic, hang or take more memory than it was given bytes for, and what is read is written back the
//! same.
#![expect(
    clippy::missing_panics_doc,
    reason = "they panic when something is wrong: that is their use"
)]

use pod_chaos_protocol::{
    Carried, Chance, Cidr, Distribution, Endpoint, Event, Fault, FaultId, Interface, Latency,
    Link as Rate, Loss, Peer, Percentage, Plan, Ports, Probe, Protocol, Reorder, Request, RunTime,
    Share, Slot, Target,
};

use crate::{
    emulate::{BYTES_MAX, Emulator},
    fault::{
        emulation::{self, default_limit},
        id_of_any_table, id_of_link,
        label::{Label, Shapes},
        selection::Selection,
    },
    lines::{self, Lines},
    netlink::{
        address, attribute, link,
        nftables::{self, Expression},
        qdisc, redirect, route, socket_diagnosis,
    },
    resolve::{self, Resolver},
    sys::packet::VNET_HEADER,
};

/// Something that reads bytes.
pub type Door = fn(&[u8]);

/// All there are.
pub const DOORS: [Door; 6] = [requests, events, labels, names, netlink, packets];

/// Largest packet of the interface that plans are made for.
const MTU: u32 = 1500;

/// What is written is read back the same.
macro_rules! assert_read_back {
    ($value:expr, $type:ty) => {
        let text = serde_json::to_string(&$value).expect("JSON");
        assert_eq!(serde_json::from_str::<$type>(&text).ok().as_ref(), Some(&$value), "{text}");
    };
}

/// What the plugin sends, as lines or in the arguments of a container, up to what the kernel would be told.
pub fn requests(bytes: &[u8]) {
    let mut lines = Lines::default();
    // As they may come in.
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    lines.push(first);
    lines.push(rest);
    let all = std::iter::from_fn(|| lines.next_line()).collect::<Vec<_>>();
    for line in all.into_iter().chain(lines.last_line()) {
        if let Ok(request) = lines::request(line) {
            assert_read_back!(request, Request);
            if let Request::Apply { plan } = request {
                work_out(&plan);
            }
        }
    }
    if let Ok(carried) = serde_json::from_slice::<Carried>(bytes) {
        assert_read_back!(carried, Carried);
        work_out(&carried.plan);
    }
}

fn work_out(plan: &Plan) {
    // A name that is still to be resolved is nowhere yet.
    if plan.traffic.check().is_ok() && !plan.traffic.targets().any(Target::is_open) {
        let selection = Selection::new(&plan.traffic);
        assert!(selection.meets(&selection), "{:?} misses itself", plan.traffic);
        let _ = selection.traffic();
    }
    if let Fault::Netem(fault) = &plan.fault
        && fault.netem.check().is_ok()
    {
        let options = qdisc::Options::Netem(Box::new(emulation::options(&fault.netem, MTU)));
        let _ = qdisc::add(1, qdisc::Handle::ROOT, qdisc::Handle::ANY, &options);
        Emulator::new(&fault.netem, (default_limit(&fault.netem, MTU), BYTES_MAX), 1);
    }
}

/// What an agent, perhaps of another version, answers.
pub fn events(bytes: &[u8]) {
    if let Ok(event) = serde_json::from_slice::<Event>(bytes) {
        assert_read_back!(event, Event);
        let _ = format!("{event:?}");
    }
}

/// Words of users, and what is written in names and comments of things in the kernel.
pub fn labels(bytes: &[u8]) {
    fn parse<T: std::str::FromStr + ToString + PartialEq + std::fmt::Debug>(text: &str) {
        if let Ok(value) = text.parse::<T>() {
            let written = value.to_string();
            assert_eq!(written.parse::<T>().ok().as_ref(), Some(&value), "{text}: {written}");
        }
    }
    let text = String::from_utf8_lossy(bytes);
    let text = &*text;
    parse::<Label>(text);
    parse::<FaultId>(text);
    parse::<Interface>(text);
    parse::<Cidr>(text);
    parse::<Endpoint>(text);
    parse::<Peer>(text);
    parse::<Probe>(text);
    parse::<Ports>(text);
    parse::<Protocol>(text);
    parse::<Share>(text);
    parse::<Latency>(text);
    parse::<RunTime>(text);
    parse::<Percentage>(text);
    parse::<Chance>(text);
    parse::<Loss>(text);
    parse::<Reorder>(text);
    parse::<Rate>(text);
    // A table of numbers is printed by what it is.
    let _ = (text.parse::<Slot>(), text.parse::<Distribution>());
    let _ = (id_of_any_table(text), id_of_link(text));
}

/// What name servers answer, and the files of the pod that say who they are.
pub fn names(bytes: &[u8]) {
    let _ = Resolver::new(bytes, bytes);
    resolve::read_any(bytes);
}

/// What the kernel answers and announces, of each kind.
pub fn netlink(bytes: &[u8]) {
    let _ = (link::read(bytes), address::read(bytes), redirect::read(bytes));
    let _ = (route::read_any(bytes), socket_diagnosis::read(bytes));
    if let Some(options) = qdisc::Qdisc::read(bytes).and_then(|qdisc| qdisc.netem()) {
        let _ = emulation::parameters(&options, &Shapes::default(), MTU);
    }
    for (_, value) in attribute::read(bytes) {
        let _ = (Expression::read(value), attribute::text(value));
    }
    nftables::read_any(bytes);
}

/// What the agent is to do something to: the first byte says what, the rest is a frame with its header.
pub fn packets(bytes: &[u8]) {
    const NETEMS: [&str; 4] = [
        r#"{"corrupt":"100%"}"#,
        r#"{"loss":"100%","ecn":true}"#,
        r#"{"delay":"1ms","jitter":"1us","duplicate":"50%","reorder":"50%"}"#,
        r#"{"rate":"1mbit 20 48 5","slot":"1ms 2ms packets 1"}"#,
    ];
    let Some((which, packet)) = bytes.split_first() else { return };
    let netem = NETEMS[usize::from(*which) % NETEMS.len()];
    let netem = serde_json::from_str(netem).expect("parameters");
    let mut emulator = Emulator::new(&netem, (100, BYTES_MAX), 1);
    for now in 0..3 {
        emulator.take(now, packet);
    }
    while let Some(given) = emulator.give_up() {
        assert!(given.len() == packet.len() && (given.len() < VNET_HEADER || emulator.held() < 6));
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::vec,
        prelude::*,
        sample::{Index, select},
    };

    use super::*;

    /// Something that is read without fail at each of the doors.
    const SEEDS: [&[u8]; 10] = [
        br#"{"request":"apply","plan":{"id":"0badcafe","running-time":"30s","fault":{"netem":{"netem":{"delay":"100ms","jitter":"10ms","loss":"gemodel 1% 10%","rate":"1mbit 20","slot":"1ms 2ms packets 4"}}},"traffic":{"egress":[{"name":"x","endpoints":["10.0.0.0/8:80-90/tcp"]}],"exclude":[{"name":"db","source":{"dns":"db:80"},"endpoints":["fd00::1"]}]}}}"#,
        br#"{"protocol":1,"from":1,"until":9,"plan":{"id":"0badcafe","running-time":"1s","fault":{"partition":{"mode":"drop"}}}}"#,
        br#"{"event":"ended","fault":"0badcafe","by":"timer","ran_ms":1,"packets":2,"left":[],"errors":[]}"#,
        b"v1 netem eth0:net1 from 123456 to 153456 normal/even",
        b"[fd00::/64]:443,8000-9000/udp",
        b"gemodel 1% 10% 70% 0.1%",
        b"200us 10ms packets 4 bytes 9000",
        // A link: ifinfomsg, IFLA_IFNAME, IFLA_LINKINFO with IFLA_INFO_KIND.
        b"\0\0\x01\0\x07\0\0\0\x01\0\0\0\0\0\0\0\x09\0\x03\0eth0\0\0\0\0\x0c\0\x12\0\x08\0\x01\0veth",
        // A packet of IPv4 around a datagram, with a checksum to be filled in.
        b"\x01\x01\0\0\0\0\0\x22\0\x06\0\x02\0\0\0\0\x01\x02\0\0\0\0\x02\x08\0\x45\x02\0\x21\0\0\0\0\x40\x11\0\0\x0a\0\0\x01\x0a\0\0\x02\0\x50\0\x50\0\x0d\0\0hello",
        // The answer to a question for an address, by an alias.
        b"\0\x01\x81\x80\0\x01\0\x02\0\0\0\0\x02db\0\0\x01\0\x01\x02db\0\0\x05\0\x01\0\0\0\x1e\0\x03\x01x\0\x01x\0\0\x01\0\x01\0\0\0\x1e\0\x04\x0a\0\0\x01",
    ];

    /// Those, with some bytes changed, and cut off.
    fn almost_right() -> impl Strategy<Value = Vec<u8>> {
        let changes = vec((any::<Index>(), any::<u8>()), 0..4);
        (select(SEEDS.to_vec()), changes, any::<Option<Index>>()).prop_map(
            |(seed, changes, cut)| {
                let mut bytes = seed.to_vec();
                for (at, byte) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes.truncate(cut.map_or(usize::MAX, |cut| cut.index(seed.len())));
                bytes
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn nothing_panics(bytes in prop_oneof![vec(any::<u8>(), 0..200), almost_right()]) {
            for door in DOORS {
                door(&bytes);
            }
        }
    }

    #[test]
    fn the_seeds_are_read() {
        assert_eq!(lines::request(Ok(SEEDS[0].to_vec())).map(drop), Ok(()));
        assert!(serde_json::from_slice::<Carried>(SEEDS[1]).is_ok());
        assert!(serde_json::from_slice::<Event>(SEEDS[2]).is_ok());
        let text = |seed: usize| std::str::from_utf8(SEEDS[seed]).unwrap();
        assert!(text(3).parse::<Label>().is_ok() && text(4).parse::<Endpoint>().is_ok());
        assert!(text(5).parse::<Loss>().is_ok() && text(6).parse::<Slot>().is_ok());
        assert_eq!(link::read(SEEDS[7]).unwrap().kind.as_deref(), Some("veth"));
        assert!(crate::emulate::frame::Ip::find(&SEEDS[8][1 + VNET_HEADER..]).is_some());
        assert_eq!(resolve::read_any(SEEDS[9]), Some(1));
    }
}
