//! Help texts and usage errors, as a person sees them.

use insta::assert_snapshot;

use crate::{plugin, seen};

fn run(args: &[&str]) -> String {
    seen(&plugin().args(args).output().unwrap())
}

#[test]
fn every_help_text_is_as_reviewed() {
    assert_snapshot!("help", run(&["--help"]));
    for command in [
        "install",
        "uninstall",
        "disrupt",
        "partition",
        "pause",
        "kill",
        "signal",
        "delete",
        "fail",
        "syscall",
        "observe",
        "status",
        "revert",
    ] {
        assert_snapshot!(format!("help_{command}"), run(&[command, "--help"]));
    }
    for command in ["doctor", "rbac", "version"] {
        assert_snapshot!(format!("help_{command}"), run(&[command, "--help"]));
    }
    for [command, action] in [
        ["image", "save"],
        ["image", "load"],
        ["burn", "cpu"],
        ["burn", "memory"],
        ["burn", "io"],
        ["fill", "disk"],
        ["syscall", "matrix"],
    ] {
        assert_snapshot!(format!("help_{command}_{action}"), run(&[command, action, "--help"]));
    }
}

#[test]
fn refuses_numbers_that_make_no_sense() {
    for (name, args) in [
        ("negative_delay", ["-d", "-5"]),
        ("absurd_delay", ["-d", "10h"]),
        ("delay_of_zero", ["-d", "0"]),
        ("delay_of_letters", ["-d", "soon"]),
        ("too_fine_delay", ["-d", "0.1ns"]),
    ] {
        assert_snapshot!(name, run(&[&["disrupt", "-p", "web"], &args[..]].concat()));
    }
    let delayed = |more: &[&str]| run(&[&["disrupt", "-p", "web", "-d", "100"], more].concat());
    assert_snapshot!("no_time", delayed(&["-r", "0"]));
    assert_snapshot!("negative_time", delayed(&["-r", "-3"]));
    assert_snapshot!("more_than_a_day", delayed(&["-r", "25h"]));
    assert_snapshot!("negative_warm_up", delayed(&["-w", "-1"]));
    assert_snapshot!("variation_larger_than_delay", delayed(&["-v", "200"]));
}

#[test]
fn refuses_traffic_that_makes_no_sense() {
    for (name, args) in [
        ("not_an_endpoint", ["--to", "http://example.com"]),
        ("icmp_with_ports", ["--to", "10.0.0.1:80/icmp"]),
        ("not_a_port", ["--port", "http"]),
        ("not_a_protocol", ["--protocol", "sctp"]),
        ("loopback_target", ["--to", "127.0.0.1"]),
        ("every_packet", ["--every", "1"]),
        ("no_packet", ["--every", "0"]),
        ("half_a_packet", ["--every", "2.5"]),
        ("more_than_all_connections", ["--connections", "120"]),
    ] {
        assert_snapshot!(name, run(&[&["disrupt", "-p", "web", "-d", "9"], &args[..]].concat()));
    }
    let partition = |more: &[&str]| run(&[&["partition", "-p", "web"], more].concat());
    assert_snapshot!("to_ingress", partition(&["--to", "10.0.0.1", "--direction", "ingress"]));
    assert_snapshot!("drop_and_reject", partition(&["--drop", "--reject"]));
    assert_snapshot!("kill_and_new_only", partition(&["--kill-connections", "--new-only"]));
}

#[test]
fn refuses_options_that_make_no_sense_together() {
    let seen = [
        "-v 10",
        "-d 3s -v 2.5s",
        "-d 10 --correlation 25%",
        "-d 10 --distribution normal",
        "-d 10 -v 5 --distribution gauss",
        "--loss 101%",
        "--loss 0%_25%",
        "--loss state_60%_10%_10%_10%_50%",
        "--loss bursts_1%",
        "--ecn -d 10",
        "--corrupt=-1",
        "--reorder 25%",
        "-d 10 --reorder gap_5",
        "-d 10 --reorder 0%_gap_5",
        "--rate 1mb",
        "--rate 1mbit_0_48_-48",
        "--rate 1mbit_0_0_5",
        "--slot 2ms_1ms",
        "--slot 0",
        "--slot distribution_normal_1ms_2ms",
        "--limit 0",
        "--limit 100",
        "--profile 5g",
        "--profile satellite --loss 0 -d 0",
    ]
    .map(|flags| {
        let words: Vec<_> = flags.split(' ').map(|word| word.replace('_', " ")).collect();
        let words = words.iter().map(String::as_str);
        let args: Vec<_> = ["disrupt", "-p", "web"].into_iter().chain(words).collect();
        format!("=== {}\n{}", args[3..].join(" "), run(&args))
    })
    .concat();
    assert_snapshot!("bad_netem", seen);
}

#[test]
fn refuses_names_that_make_no_sense() {
    assert_snapshot!("no_pod", run(&["disrupt", "-d", "100"]));
    assert_snapshot!("no_delay", run(&["disrupt", "-p", "web"]));
    assert_snapshot!("not_a_pod", run(&["disrupt", "-p", "deploy/web", "-d", "100"]));
    assert_snapshot!("bad_pod", run(&["install", "-p", "Web_1"]));
    assert_snapshot!("bad_namespace", run(&["install", "-p", "web", "-n", "a.b"]));
    assert_snapshot!("bad_image", run(&["install", "-p", "web", "-g", "a b"]));
    assert_snapshot!("loopback", run(&["disrupt", "-p", "web", "-d", "100", "-i", "lo"]));
    assert_snapshot!("bad_iface", run(&["disrupt", "-p", "web", "-d", "100", "-i", "a/b"]));
    assert_snapshot!("unknown_command", run(&["explode"]));
}
