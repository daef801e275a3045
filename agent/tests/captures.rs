//! The bytes that the agent sends, against the bytes that `ip`, `tc` and `nft` send for the same objects:
//! `captures/*.txt`, written by `captures/capture.sh`.
//!
//! Every message is compared whole but for its sequence number, and its flags as each test says. Where the
//! agent means to differ, the test says how and why.
#![cfg(target_os = "linux")]

use std::{collections::BTreeMap, num::NonZeroU32, path::Path};

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST};
use pod_chaos_agent::{
    fault::{
        gate::{Fate, Gate, Way},
        label::{Kind, Label, Shapes},
        netem::Plan,
        prio,
        selection::Selection,
    },
    netlink::{
        Message, attribute, link,
        nftables::{Family, TableId, delete_table, flush_set},
        qdisc::{self, Handle},
        redirect,
    },
};
use pod_chaos_protocol::{Direction, FaultId, Netem, Traffic};
use serde_json::json;

/// The indices that `eth0` and the first link of the pair had when the captures were made.
const TARGET: i32 = 3;
const LINK: i32 = 5;
const ID: FaultId = FaultId::new(0x0bad_cafe);
const TABLE: TableId<'_> = TableId { family: Family::Netdev, name: "pod-chaos-0badcafe" };

/// `NFT_MSG_NEWRULE` of nf_tables.
const NEW_RULE: u16 = 0x0a06;

/// The messages of a capture.
fn capture(name: &str) -> Vec<Message> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let bytes: Vec<u8> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(|byte| u8::from_str_radix(byte, 16).unwrap())
        .collect();
    let (mut rest, mut messages) = (&bytes[..], Vec::new());
    while let Some((header, _)) = rest.split_at_checked(16) {
        let length = u32::from_ne_bytes(header[..4].try_into().unwrap()) as usize;
        messages.push(Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            body: rest[16..length].to_vec(),
        });
        rest = &rest[length.next_multiple_of(4).min(rest.len())..];
    }
    assert!(!messages.is_empty(), "{name} holds no message");
    messages
}

/// The one message of a capture.
fn single(name: &str) -> Message {
    let [message] = capture(name).try_into().expect("one message");
    message
}

/// The same but for the flag that asks for an acknowledgement, which is added when it is sent.
fn assert_same(ours: &Message, file: &str) {
    let mut theirs = single(file);
    theirs.flags &= !NLM_F_ACK;
    assert_eq!(ours, &theirs, "{file}");
}

fn plan() -> Plan {
    Plan {
        id: ID,
        interfaces: Vec::new(),
        traffic: Traffic::default(),
        netem: Netem {
            delay: "100ms".parse().unwrap(),
            jitter: "10ms".parse().unwrap(),
            ..Netem::default()
        },
        timeout_ms: 5000,
    }
}

/// The message that adds the fault's qdisc of this kind.
fn qdisc_message(kind: &str) -> Message {
    let (parent, handle, options) =
        plan().qdiscs(1500).into_iter().find(|(_, _, options)| options.kind() == kind).unwrap();
    qdisc::add(LINK, parent, handle, &options)
}

#[test]
fn links_are_made_as_ip_makes_them() {
    let pair = link::create_pair(
        ["pc-0badcafe", "pc-0badcafex"],
        [0x72, 0x63, 0x0b, 0xad, 0xca, 0xfe],
        1500,
    );
    assert_same(&pair, "link-create.txt");
    assert_same(&link::create_ifb("pc-0badcafei", 1500), "link-create-ifb.txt");
    assert_same(&link::set_alias(LINK, "pod-chaos 0badcafe"), "link-alias.txt");
    assert_same(&link::set_no_addresses(LINK), "link-no-addresses.txt");
    assert_same(&link::set_up(LINK), "link-up.txt");
    assert_same(&link::delete(LINK), "link-delete.txt");
}

/// tcmsg, then TCA_KIND, then TCA_OPTIONS: the last one's value.
fn options(message: &Message) -> &[u8] {
    attribute::find(&message.body[20..], 2).unwrap()
}

#[test]
fn qdiscs_are_deleted_as_tc_deletes_them() {
    assert_same(&qdisc::delete(LINK, Handle::qdisc(0x7062)), "qdisc-delete.txt");
}

#[test]
fn the_queues_of_an_interface_are_made_as_tc_makes_them() {
    let qdiscs = prio::Plan::new(plan()).unwrap().qdiscs(1500);
    let message = |kind: &str| {
        let (parent, handle, options) =
            qdiscs.iter().find(|(.., options)| options.kind() == kind).unwrap();
        qdisc::add(LINK, *parent, *handle, options)
    };
    assert_same(&message("pfifo"), "qdisc-pfifo.txt");
    let (ours, theirs) = (message("prio"), single("qdisc-prio.txt"));
    assert_eq!(ours.body[..20], theirs.body[..20], "struct tcmsg");
    // Behind struct tc_prio_qopt tc has an attribute without a value, TCA_OPTIONS, which means nothing.
    assert_eq!([options(&ours), &[4, 0, 2, 0]].concat(), options(&theirs));
}

#[test]
fn packets_are_handed_back_as_tc_has_them_redirected() {
    assert_same(&redirect::prepare(LINK), "qdisc-clsact.txt");
    let (ours, theirs) = (redirect::receive(LINK, TARGET), single("filter-mirred.txt"));
    assert_eq!((ours.kind, &ours.body[..20]), (theirs.kind, &theirs.body[..20]), "struct tcmsg");
    // In another order: TCA_U32_SEL, and TCA_U32_ACT with one action.
    let parts = |message| {
        let [selector, actions] =
            [5, 7].map(|kind| attribute::find(options(message), kind).unwrap().to_vec());
        let [(1, action)] = &attributes(&actions)[..] else { panic!("{actions:?}") };
        let [kind, options] = [1, 2].map(|kind| attribute::find(action, kind).unwrap().to_vec());
        (selector, kind, attributes(&options))
    };
    assert_eq!(parts(&ours), parts(&theirs));
}

fn attributes(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    attribute::read(bytes).map(|(kind, value)| (kind, value.to_vec())).collect()
}

#[test]
fn tbf_is_made_as_tc_makes_it_but_for_the_rate_table() {
    let (ours, theirs) = (qdisc_message("tbf"), single("qdisc-tbf.txt"));
    assert_eq!(ours.body[..20], theirs.body[..20], "struct tcmsg");
    let (ours, mut theirs) = (attributes(options(&ours)), attributes(options(&theirs)));
    // TCA_TBF_RTAB: not read by the kernel, as the link layer is given. cell_log and cell_align of the
    // rate say how to index that table.
    theirs.retain(|(kind, _)| *kind != 2);
    theirs[0].1[0] = 0;
    theirs[0].1[4..6].fill(0);
    assert_eq!(ours, theirs);
}

#[test]
fn netem_is_made_as_tc_makes_it_and_more_exactly() {
    let (ours, theirs) = (qdisc_message("netem"), single("qdisc-netem.txt"));
    assert_eq!(ours.body[..20], theirs.body[..20], "struct tcmsg");
    let (parms, exact) = options(&ours).split_at(24);
    assert_eq!(parms, options(&theirs), "struct tc_netem_qopt");
    // This tc leaves out TCA_NETEM_LATENCY64 and TCA_NETEM_JITTER64, in nanoseconds.
    let exact: Vec<_> =
        attribute::read(exact).map(|(k, v)| (k, attribute::native_i64(v))).collect();
    assert_eq!(exact, [(10, Some(100_000_000)), (11, Some(10_000_000))]);
}

/// The options of netem that the agent sends for this, and those that `tc` sends.
fn netem_options(json: &str, file: &str) -> (Vec<u8>, Vec<u8>) {
    let netem: Netem = serde_json::from_str(json).unwrap();
    netem.check().unwrap();
    let plan = Plan { netem: Netem { limit: NonZeroU32::new(1000), ..netem }, ..plan() };
    let [_, (parent, handle, netem)] = plan.qdiscs(1500);
    let ours = qdisc::add(LINK, parent, handle, &netem);
    let theirs = single(&format!("netem-{file}.txt"));
    assert_eq!(ours.body[..20], theirs.body[..20], "struct tcmsg");
    (options(&ours).to_vec(), options(&theirs).to_vec())
}

#[test]
fn every_option_of_netem_is_sent_as_tc_sends_it() {
    for (file, json) in [
        ("jitter", r#"{"delay":"100ms","jitter":"10ms","correlation":"25%"}"#),
        ("table", r#"{"delay":"100ms","jitter":"10ms","distribution":"table:-8192,-1,0,24576"}"#),
        ("loss", r#"{"loss":"1% 25%"}"#),
        ("state", r#"{"loss":"state 10% 50% 25% 75% 1%"}"#),
        ("state-defaults", r#"{"loss":"state 10%"}"#),
        ("gemodel", r#"{"loss":"gemodel 1% 10% 70% 0.1%","ecn":true}"#),
        ("gemodel-defaults", r#"{"loss":"gemodel 1%"}"#),
        ("duplicate", r#"{"duplicate":"1%"}"#),
        (
            "correlations",
            r#"{"delay":"100ms","jitter":"10ms","correlation":"5%","loss":"1% 25%",
                "duplicate":"2% 10%"}"#,
        ),
        ("corrupt", r#"{"corrupt":"0.1% 25%"}"#),
        ("reorder", r#"{"delay":"10ms","reorder":"25% 50% gap 5"}"#),
        ("reorder-any", r#"{"delay":"10ms","reorder":"25%"}"#),
        ("rate", r#"{"rate":"1mbit 20 48 5"}"#),
        ("rate-negative", r#"{"rate":"1500kbps -14 53 -5"}"#),
        ("rate-64", r#"{"rate":"100gbit"}"#),
        ("slot", r#"{"slot":"800us 1ms packets 20 bytes 6000"}"#),
        ("slot-fixed", r#"{"slot":"800us"}"#),
        ("slot-table", r#"{"slot":"distribution table:-8192,-1,0,24576 1ms 100us packets 2"}"#),
        (
            "all",
            r#"{"delay":"100ms","jitter":"10ms","correlation":"25%",
                "distribution":"table:-8192,-1,0,24576","loss":"gemodel 1% 10%","ecn":true,
                "duplicate":"1%","corrupt":"0.1%","reorder":"25%","rate":"1mbit",
                "slot":"800us 1ms"}"#,
        ),
    ] {
        let (ours, theirs) = netem_options(json, file);
        assert_eq!(ours[..24], theirs[..24], "struct tc_netem_qopt of {file}");
        let mut ours = attributes(&ours[24..]);
        // This tc leaves out the nanoseconds.
        ours.retain(|(kind, _)| ![10, 11].contains(kind));
        // And it says, with some correlations, that the others are zero.
        let mut theirs = attributes(&theirs[24..]);
        theirs.retain(|(kind, value)| *kind != 1 || *value != [0; 12]);
        assert_eq!(ours, theirs, "{file}");
    }
}

#[test]
fn a_correlation_of_duplicates_is_sent_which_tc_alone_forgets() {
    let (ours, theirs) = netem_options(r#"{"duplicate":"1% 10%"}"#, "duplicate");
    let correlations = attribute::find(&ours[24..], 1).unwrap();
    assert_eq!(attribute::native32(&correlations[8..]), Some(429_496_730));
    assert_eq!(attribute::find(&theirs[24..], 1), None);
}

#[test]
fn a_seed_is_sent_as_the_kernel_has_it() {
    // This tc does not know it: TCA_NETEM_PRNG_SEED of linux/pkt_sched.h, a number of 64 bits.
    let (ours, _) = netem_options(r#"{"loss":"1% 25%","seed":72623859790382856}"#, "loss");
    let seed = 0x0102_0304_0506_0708u64.to_ne_bytes();
    assert_eq!(attribute::find(&ours[24..], 14), Some(&seed[..]));
}

/// A gate on `eth0`, where every direction that the traffic has is hit alike.
fn gate(kind: Kind, traffic: serde_json::Value, new_only: bool, fate: Fate) -> Gate {
    let traffic: Traffic = serde_json::from_value(traffic).unwrap();
    let eth0 = || "eth0".parse().unwrap();
    let hit = |direction: &Direction| traffic.peers(*direction).is_some();
    let way = |direction| Way { number: 0, interface: eth0(), target: TARGET, direction, fate };
    Gate {
        id: ID,
        label: Label {
            kind,
            interfaces: vec![eth0()],
            from_ms: 1000,
            to_ms: 6000,
            shapes: Shapes::default(),
        },
        timeout_ms: 5000,
        ways: Direction::BOTH.into_iter().filter(hit).map(way).collect(),
        selection: Selection::new(&traffic),
        sample: traffic.sample,
        new_only,
    }
}

/// The body of a message; of a rule, without what `nft` adds that changes nothing: in the family `inet`, a look
/// at the version of IP behind one at the packet's EtherType; in a key of several fields, another byte order
/// for the one byte of `meta l4proto`.
fn without_additions(message: &Message) -> Vec<u8> {
    let body = &message.body;
    let rule = message.kind == NEW_RULE;
    let Some(list) = attribute::find(&body[4..], 4).filter(|_| rule) else { return body.clone() };
    let mut expressions: Vec<_> = attribute::read(list).map(|(_, value)| value.to_vec()).collect();
    let is = |expression: &[u8], name: &[u8], kind, number: u8| {
        let value = attribute::find(expression, 2).and_then(|data| attribute::find(data, kind));
        attribute::find(expression, 1) == Some(name) && value == Some(&[0, 0, 0, number])
    };
    // NFTA_META_KEY of NFT_META_NFPROTO, and the comparison behind it.
    while let Some(at) = expressions.iter().position(|one| is(one, b"meta\0", 2, 15)) {
        assert_eq!(body[0], Family::Inet as u8);
        expressions.drain(at..at + 2);
    }
    // NFTA_BYTEORDER_LEN.
    expressions.retain(|one| !is(one, b"byteorder\0", 4, 1));
    let head = body.len() - list.len();
    [&body[..head - 4], &expressions.concat()].concat()
}

/// The same messages but for their sequence, which differs between kinds of object and between sets.
fn assert_same_table(gate: &Gate, file: &str) {
    // Sets and their elements; the order of chains and that of rules matter.
    const UNORDERED: [u16; 2] = [0x0a09, 0x0a0c];
    let ours = gate.transaction();
    let theirs = capture(file);
    // The first and the last are the frame of the batch.
    let theirs = &theirs[1..theirs.len() - 1];
    let sorted = |messages: &mut dyn Iterator<Item = &Message>| {
        let mut by_kind: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
        for message in messages {
            by_kind.entry(message.kind).or_default().push(without_additions(message));
        }
        for kind in UNORDERED {
            by_kind.entry(kind).or_default().sort();
        }
        by_kind
    };
    let (ours_sorted, theirs_sorted) =
        (sorted(&mut ours.iter().map(|(_, message)| message)), sorted(&mut theirs.iter()));
    for (kind, theirs) in theirs_sorted {
        let ours = ours_sorted.get(&kind).cloned().unwrap_or_default();
        for (number, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(ours, theirs, "{file}: number {number} of type {kind:#x}");
        }
        assert_eq!(ours.len(), theirs.len(), "{file}: type {kind:#x}");
    }
    assert_eq!(ours.len(), theirs.len(), "{file}");
    for (part, message) in &ours {
        // nft adds to what is there already; the agent must not: NLM_F_EXCL.
        let is_rule = message.kind == NEW_RULE;
        let order = NLM_F_REQUEST | NLM_F_CREATE | if is_rule { NLM_F_APPEND } else { NLM_F_EXCL };
        assert_eq!(message.flags, order, "{part:?}");
    }
}

#[test]
fn the_gate_is_made_as_nft_makes_it() {
    let gate = gate(Kind::Netem, json!({}), false, Fate::Through(LINK));
    assert_same_table(&gate, "table.txt");
}

fn targets(texts: &[&str]) -> serde_json::Value {
    texts.iter().map(|text| json!({ "name": text, "endpoints": [text] })).collect()
}

#[test]
fn every_condition_is_made_as_nft_makes_it() {
    let traffic = json!({
        "egress": targets(&["10.0.0.0/8", "192.168.1.7", "[fd00::1]:80"]),
        "ingress": targets(&["fd00::/8"]),
        "protocol": "tcp",
        "remote-ports": "80,8000-8100",
        "local-ports": "1024-65535",
        "exclude": [{ "name": "10.0.0.9", "endpoints": ["10.0.0.9"] }],
        "spare-dns": true,
        "sample": { "every": 3 },
    });
    assert_same_table(&gate(Kind::Partition, traffic, true, Fate::Vanish), "table-partition.txt");
}

#[test]
fn a_refusal_and_a_share_of_connections_are_made_as_nft_makes_them() {
    let traffic = json!({ "egress": null, "ingress": [], "sample": { "connections": "30%" } });
    assert_same_table(&gate(Kind::Partition, traffic, false, Fate::Refused), "table-reject.txt");
}

#[test]
fn the_gate_of_an_interfaces_queues_is_made_as_nft_makes_it() {
    let gate = gate(Kind::Prio, json!({}), false, Fate::Queued(0x7062_0004));
    assert_same_table(&gate, "table-prio.txt");
}

#[test]
fn the_gate_is_closed_as_nft_empties_a_set() {
    let theirs = &capture("set-flush.txt")[1];
    let ours = flush_set(TABLE, "live");
    assert_eq!((ours.kind, &ours.body), (theirs.kind, &theirs.body));
}

#[test]
fn the_gate_is_removed_as_nft_removes_it() {
    let theirs = &capture("table-delete.txt")[1];
    let ours = delete_table(TABLE);
    assert_eq!((ours.kind, &ours.body), (theirs.kind, &theirs.body));
}
