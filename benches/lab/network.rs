//! How fast packets go: past a fault that is aimed elsewhere, past many addresses, and through the agent where
//! there is no netem. Streams by `iperf3`, from one pod of a node to another.

use std::{
    process::{Child, Command, Stdio},
    thread::sleep,
    time::Duration,
};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    Row, Samples, check,
    lab::{self, Lab, Namespace, Node, Outcome, Pod, text},
};

/// How often a stream by itself is measured, in turns.
const ROUNDS: usize = 5;
/// How often a fault comes and goes beside a stream.
const TURNS: usize = 15;
/// For how long programs that came with the fault, or went with it, may keep the node busy.
const SETTLE: Duration = Duration::from_millis(500);
/// An address for documentation (RFC 5737), which no packet goes to.
const ELSEWHERE: &str = "192.0.2.1";

/// Two pods on one node: who sends, and who receives.
struct Streams {
    space: Namespace,
    from: Pod,
    to: String,
}

impl Streams {
    fn new(lab: &Lab) -> Outcome<Self> {
        let space = lab.namespace(&json!({}))?;
        let pod = |name: &str, command: Value| {
            space.create(
                name,
                &json!({"spec": {"containers": [{
                    "name": name, "image": "localhost/pod-chaos-tools:lab",
                    "imagePullPolicy": "IfNotPresent", "command": command,
                }]}}),
            )
        };
        pod("receiver", json!(["iperf3", "-s"]))?;
        pod("sender", json!(["sleep", "3600"]))?;
        let (receiver, from) = (space.running("receiver")?, space.running("sender")?);
        let output = space.plugin(&["install", "-p", "sender"]);
        check!(output.status.success(), "{}", text(&output));
        let to = receiver.address()?;
        Ok(Self { space, from, to })
    }

    /// Bits per second over one connection, as the receiver counts them.
    fn measure(&self) -> Outcome<f64> {
        let place = ["exec", &self.from.name, "-n", &self.space.name, "--"];
        let output =
            lab::kubectl(&[&place[..], &["iperf3", "-J", "-t", "1", "-c", &self.to]].concat());
        let report: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| Failed::from(format!("{error}: {}", text(&output))))?;
        let rate = report["end"]["sum_received"]["bits_per_second"].as_f64();
        Ok(rate.ok_or_else(|| text(&output))?)
    }

    /// A stream that goes on.
    fn endless(&self) -> Outcome<Child> {
        let mut command = Command::new("kubectl");
        command.args(["exec", &self.from.name, "-n", &self.space.name, "--"]);
        command.args(["iperf3", "-t", "3600", "-c", &self.to]);
        Ok(command.stdout(Stdio::null()).spawn()?)
    }

    /// Bits per second that leave the sender, for a second.
    fn passing(&self) -> Outcome<f64> {
        sleep(SETTLE);
        let (from, sent) = self.sent()?;
        sleep(Duration::from_secs(1));
        let (to, more) = self.sent()?;
        Ok((more - sent) * 8.0 / (to - from))
    }

    /// How many bytes have left the sender, and when that was, in seconds of its node's clock.
    fn sent(&self) -> Outcome<(f64, f64)> {
        let place = format!("{}/{}", self.space.name, self.from.name);
        let look = "date +%s.%N; grep eth0: /proc/net/dev";
        let output = lab::lab(&["pod", &place, "--", "sh", "-c", look]);
        check!(output.status.success(), "{}", text(&output));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut words = said.split_whitespace();
        let mut number = |position| -> Outcome<f64> {
            Ok(words.nth(position).ok_or_else(|| said.clone())?.parse()?)
        };
        // Behind the time: the interface, eight numbers of what it received, and the bytes that it sent.
        Ok((number(0)?, number(9)?))
    }

    /// What this measures while that fault is in force; and what the plugin said of the fault, as JSON lines.
    fn during(
        &self,
        flags: &[&str],
        measure: impl Fn(&Self) -> Outcome<f64>,
    ) -> Outcome<(f64, Vec<Value>)> {
        let common = ["disrupt", "-p", "sender", "-r", "60", "--detach", "-o", "json"];
        let output = self.space.plugin(&[&common[..], flags].concat());
        check!(output.status.success(), "{}", text(&output));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let rate = measure(self)?;
        let output = self.space.plugin(&["revert", "-p", "sender"]);
        check!(output.status.success(), "{}", text(&output));
        Ok((rate, said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()))
    }
}

fn gigabits(samples: &Samples) -> String {
    format!("{:.2} Gbit/s", samples.median() / 1e9)
}

/// A stream past a fault that comes and goes, on each node. It is one connection all the time: two of them
/// differ by more than a fault makes of either.
fn past(
    lab: &Lab,
    figure: &'static str,
    flags: &[&str],
    reach: &'static str,
) -> Outcome<(Vec<Row>, Vec<Value>)> {
    let (mut rows, mut said) = (Vec::new(), Vec::new());
    for node in [Node::Native, Node::Guest].into_iter().filter(|node| lab.has(*node)) {
        let streams = Streams::new(&lab.on(node))?;
        let mut stream = streams.endless()?;
        let (mut with, mut ratios) = (Vec::new(), Vec::new());
        let mut before = streams.passing()?;
        for _ in 0..TURNS {
            let (rate, events) = streams.during(flags, Streams::passing)?;
            let after = streams.passing()?;
            ratios.push(2.0 * rate / (before + after));
            with.push(rate);
            said.extend(events);
            before = after;
        }
        stream.kill()?;
        stream.wait()?;
        let ratios = Samples::new(ratios);
        rows.push(Row {
            figure,
            measured: format!(
                "{node}: {}, {:.3} × (quartiles {:.3}, {:.3})",
                gigabits(&Samples::new(with)),
                ratios.median(),
                ratios.percentile(25),
                ratios.percentile(75)
            ),
            reference: "the same stream before and after".to_owned(),
            reach,
        });
    }
    Ok((rows, said))
}

/// What is not aimed at.
pub fn untargeted(lab: &Lab) -> Outcome<Vec<Row>> {
    let flags = ["-d", "100", "--to", ELSEWHERE];
    Ok(past(lab, "a stream that is not aimed at", &flags, "≥ 0.97 ×")?.0)
}

/// What is not among ten thousand blocks of addresses.
pub fn cidrs(lab: &Lab) -> Outcome<Vec<Row>> {
    // Of 198.18.0.0/15 (RFC 2544), every second block of eight.
    let blocks: Vec<_> = (0..10_000u32)
        .map(|n| format!("--to=198.{}.{}.{}/29", 18 + n / 8192, n / 32 % 256, n % 32 * 8))
        .collect();
    let flags: Vec<_> =
        ["-d", "100"].into_iter().chain(blocks.iter().map(String::as_str)).collect();
    let (mut rows, said) = past(lab, "a stream past 10,000 CIDRs", &flags, "≥ 0.95 ×")?;
    // What arms the fault comes last, and is the first that is read back; the addresses are read after it.
    let armed = said.iter().filter_map(|event| {
        let remaining = event["status"]["remaining-ms"].as_f64()?;
        (event["event"] == "in-force").then_some((60_000.0 - remaining) / 1e3)
    });
    let armed = Samples::new(armed.collect());
    rows.push(Row {
        figure: "10,000 CIDRs: from the timer's start to its being read back",
        measured: armed.show(),
        reference: String::new(),
        reach: "≤ 100 ms",
    });
    Ok(rows)
}

/// The agent's own delay beside netem's, where there is one.
pub fn emulator(lab: &Lab) -> Outcome<Vec<Row>> {
    let mut rows = Vec::new();
    for node in [Node::Native, Node::Guest].into_iter().filter(|node| lab.has(*node)) {
        let streams = Streams::new(&lab.on(node))?;
        let (mut ours, mut netem) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(streams.during(&["-d", "10", "--backend", "userspace"], Streams::measure)?.0);
            if node == Node::Guest {
                netem
                    .push(streams.during(&["-d", "10", "--backend", "netem"], Streams::measure)?.0);
            }
        }
        let ours = Samples::new(ours);
        let (ratio, reference) = if netem.is_empty() {
            (String::new(), String::new())
        } else {
            let netem = Samples::new(netem);
            let ratio = format!(", {:.2} ×", ours.median() / netem.median());
            (ratio, format!("netem: {}", gigabits(&netem)))
        };
        rows.push(Row {
            figure: "a stream through 10 ms by the agent itself",
            measured: format!("{node}: {}{ratio}", gigabits(&ours)),
            reference,
            reach: "≥ 0.8 ×",
        });
    }
    Ok(rows)
}
