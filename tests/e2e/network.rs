//! What packets and connections say of network faults, as typed: every option alone and with others, targets
//! beside what is none, partitions beside open connections. On a kernel with netem and on one without.
//!
//! Delays and shares are judged from below, which a busy machine does not change, and what it does change is
//! measured again.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    check,
    followed::{endpoints, service},
    lab::{
        Backend, Lab, Namespace, Node, OBSERVER4, OBSERVER6, Outcome, Pod, Running, apply, kubectl,
        lab as lab_command, text, wait_for,
    },
};

/// How often packets are looked at before they are not what they should be.
const MEASUREMENTS: u32 = 3;
/// How long to wait for an answer that should not come, and for one that should.
const IN_VAIN: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(15);

/// Flags of `disrupt`, and what pings to the pod show while they are in force.
type Case = (&'static [&'static str], Sees);
type Sees = fn(&Eye<'_>) -> Outcome<Echoes>;

/// A table that says one variation less, the same, and three more, with the same more often.
const STEPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/agent/tests/captures/steps.dist");

/// Each option alone.
const ALONE: &[Case] = &[
    (&["-d", "50"], |eye| eye.ping(20, 5)?.came(1.0, 1.0)?.fastest(50.0, 100.0)),
    (&["--delay", "100", "-v", "60"], |eye| {
        let echoes = eye.ping(150, 5)?.came(1.0, 1.0)?.fastest(40.0, 62.0)?;
        echoes.quantile(0.25, 50.0, 100.0)?.slowest(138.0)?.steps(15.0, 80.0)
    }),
    (&["-d", "100", "-v", "60", "--correlation", "100%"], |eye| {
        eye.ping(80, 5)?.came(1.0, 1.0)?.fastest(40.0, 200.0)?.steps(0.0, 8.0)
    }),
    (&["-d", "120", "-v", "40", "--distribution", "normal"], |eye| {
        let echoes = eye.ping(200, 4)?.fastest(0.0, 70.0)?.slowest(175.0)?;
        echoes.quantile(0.16, 60.0, 105.0)?.quantile(0.5, 105.0, 150.0)
    }),
    // The tail is above, and nothing is more than two thirds of a variation below.
    (&["-d", "120", "-v", "60", "--distribution", "pareto"], |eye| {
        eye.ping(200, 4)?.fastest(78.0, 100.0)?.quantile(0.5, 85.0, 130.0)?.slowest(185.0)
    }),
    (&["-d", "120", "-v", "60", "--distribution", "paretonormal"], |eye| {
        eye.ping(200, 4)?.fastest(20.0, 95.0)?.quantile(0.5, 85.0, 135.0)?.slowest(205.0)
    }),
    (&["-d", "100", "-v", "30", "--distribution", STEPS], |eye| {
        let echoes = eye.ping(160, 5)?.fastest(70.0, 90.0)?;
        echoes.sooner(98.0, 0.1, 0.4)?.sooner(185.0, 0.6, 0.9)
    }),
    (&["--loss", "50%"], |eye| eye.ping(150, 4)?.came(0.33, 0.67)),
    (&["--loss", "50% 25%"], |eye| eye.ping(150, 4)?.came(0.25, 0.8)),
    (&["--loss", "gemodel 10% 30%"], |eye| eye.ping(400, 3)?.came(0.55, 0.93)?.bursts(1.8, 6.0)),
    (&["--loss", "state 10% 30%"], |eye| eye.ping(400, 3)?.came(0.55, 0.93)?.bursts(1.8, 6.0)),
    (&["--loss", "100%", "--ecn"], |eye| {
        // ECN-capable, and not.
        eye.ping_with(20, 10, &["-Q", "2"])?.came(1.0, 1.0)?;
        eye.ping(10, 10)?.came(0.0, 0.0)
    }),
    (&["--duplicate", "30%"], |eye| eye.ping(150, 4)?.came(1.0, 1.0)?.again(0.13, 0.47)),
    (&["--corrupt", "50%"], |eye| eye.ping_with(150, 4, &["-s", "1000"])?.came(0.33, 0.68)),
    (&["-d", "200", "--reorder", "25%"], |eye| {
        eye.ping(100, 5)?.came(1.0, 1.0)?.sooner(190.0, 0.08, 0.45)
    }),
    (&["-d", "200", "--reorder", "100% gap 5"], |eye| {
        eye.ping(100, 5)?.came(1.0, 1.0)?.sooner(190.0, 0.15, 0.25)
    }),
    // Of 1042 bytes each: 8.34 ms; with 208 more 10 ms; in 22 cells of 53 bytes 9.33 ms.
    (&["--rate", "1mbit"], |eye| eye.burst()?.lasts(186.0, 500.0)),
    (&["--rate", "1mbit 208"], |eye| eye.burst()?.lasts(223.0, 500.0)),
    (&["--rate", "1mbit 0 48 5"], |eye| eye.burst()?.lasts(208.0, 500.0)),
    // Five slots of five packets; five of 1042 bytes are the first that are more than 4800.
    (&["--slot", "40ms packets 5"], |eye| eye.burst()?.lasts(145.0, 500.0)),
    (&["--slot", "40ms bytes 4800"], |eye| eye.burst()?.lasts(145.0, 500.0)),
    (&["--slot", "distribution normal 40ms 1ms packets 5"], |eye| eye.burst()?.lasts(140.0, 500.0)),
    (&["-d", "400", "--limit", "10"], |eye| eye.ping(40, 2)?.fastest(400.0, 600.0)?.came(0.2, 0.6)),
    (&["--profile", "3g"], |eye| eye.ping(20, 5)?.came(1.0, 1.0)?.fastest(300.0, 400.0)),
    // Which way a ping was late, nobody sees; where it was lost, the pod does.
    (&["--loss", "100%", "--direction", "ingress", "--protocol", "icmp"], |eye| {
        let before = eye.echo_requests()?;
        let echoes = eye.ping(10, 10)?.came(0.0, 0.0)?;
        echoes.within("requests that reached the pod", eye.echo_requests()? - before, 0.0, 0.0)
    }),
    (&["--loss", "100%", "--direction", "egress", "--protocol", "icmp"], |eye| {
        let before = eye.echo_requests()?;
        let echoes = eye.ping(10, 10)?.came(0.0, 0.0)?;
        echoes.within("requests that reached the pod", eye.echo_requests()? - before, 10.0, 1e9)
    }),
    (&["-d", "50", "--direction", "ingress"], |eye| {
        eye.ping(20, 5)?.came(1.0, 1.0)?.fastest(50.0, 100.0)?;
        eye.ping6(20, 5)?.came(1.0, 1.0)?.fastest(50.0, 100.0)
    }),
    (&["-d", "50", "--direction", "both"], |eye| {
        eye.ping(20, 5)?.came(1.0, 1.0)?.fastest(100.0, 190.0)
    }),
    (&["--loss", "100%", "--every", "3", "--to", OBSERVER4], |eye| {
        eye.ping(60, 4)?.came(0.65, 0.68)
    }),
];

/// With others.
const TOGETHER: &[Case] = &[
    (&["-d", "50", "--loss", "30%"], |eye| {
        eye.ping(150, 4)?.fastest(50.0, 100.0)?.came(0.54, 0.86)
    }),
    (&["-d", "100", "--rate", "1mbit"], |eye| {
        eye.burst()?.fastest(108.0, 170.0)?.lasts(186.0, 500.0)
    }),
    (&["--corrupt", "30%", "-d", "50"], |eye| {
        // One time of sending in sixty is damaged.
        eye.ping_with(150, 4, &["-s", "1000"])?.quantile(0.1, 50.0, 120.0)?.came(0.5, 0.88)
    }),
    (&["-d", "200", "--reorder", "25%", "--loss", "gemodel 10% 30%"], |eye| {
        eye.ping(300, 3)?.came(0.5, 0.95)?.sooner(190.0, 0.1, 0.42)
    }),
    (
        &[
            "-d",
            "100",
            "-v",
            "20",
            "--distribution",
            "normal",
            "--loss",
            "20%",
            "--duplicate",
            "20%",
        ],
        |eye| {
            let echoes = eye.ping(200, 4)?.came(0.65, 0.95)?.again(0.05, 0.35)?;
            // Spread evenly, it would be no less than 80 ms.
            echoes.fastest(20.0, 78.0)?.quantile(0.5, 90.0, 125.0)
        },
    ),
    // One packet in 16.7 ms, of which two or three leave together.
    (&["--rate", "500kbit", "--slot", "40ms packets 5"], |eye| {
        eye.burst()?.lasts(340.0, 1000.0)?.together(8)
    }),
    (&["--profile", "3g", "--loss", "30%"], |eye| {
        eye.ping(150, 4)?.fastest(300.0, 400.0)?.came(0.54, 0.86)
    }),
    (&["-d", "50", "--loss", "30%", "--direction", "both"], |eye| {
        eye.ping(150, 4)?.fastest(100.0, 190.0)?.came(0.3, 0.68)
    }),
    (&["-d", "50", "--rate", "1mbit", "--direction", "ingress"], |eye| {
        eye.burst()?.fastest(58.0, 120.0)?.lasts(186.0, 500.0)
    }),
    (&["-d", "50", "--duplicate", "30%", "--to", OBSERVER6], |eye| {
        eye.ping(10, 10)?.fastest(0.0, 49.0)?;
        eye.ping6(150, 4)?.came(1.0, 1.0)?.fastest(50.0, 100.0)?.again(0.13, 0.47)
    }),
    (&["-d", "200", "--every", "2", "--protocol", "icmp", "--to", OBSERVER4], |eye| {
        eye.ping(60, 5)?.came(1.0, 1.0)?.sooner(190.0, 0.45, 0.55)
    }),
    (
        &[
            "-d",
            "100",
            "-v",
            "10",
            "--correlation",
            "25%",
            "--distribution",
            "paretonormal",
            "--loss",
            "gemodel 20% 50%",
            "--ecn",
            "--duplicate",
            "20%",
            "--corrupt",
            "10%",
            "--reorder",
            "50% 50% gap 3",
            "--rate",
            "10mbit 20 48 5",
            "--slot",
            "1ms packets 20",
            "--limit",
            "1000",
        ],
        |eye| {
            eye.sees_all_told()?;
            // ECN-capable: marked, and lost only where they are damaged.
            let echoes = eye.ping_with(150, 4, &["-s", "1000", "-Q", "2"])?;
            let echoes = echoes.came(0.8, 0.98)?.again(0.05, 0.4)?;
            echoes.quantile(0.5, 80.0, 160.0)?.sooner(70.0, 0.05, 0.5)
        },
    ),
];

/// Flags that choose traffic, and who is late then: `peer` and `peer6` (pings from a pod), `observer` (pings from
/// outside of pods) and `tcp` (connections from there to port 80).
const TARGETS: &[(&[&str], &str)] = &[
    (&["--to", "{peer}"], "peer"),
    (&["--to", "{peer}/32", "--to", "{peer6}/128"], "peer peer6"),
    (&["--from", "{peer6}"], "peer6"),
    (&["--to-pods", "app=peer"], "peer peer6"),
    (&["--from-pods", "app=peer"], "peer peer6"),
    (&["--exclude", "{peer}"], "peer6 observer tcp"),
    (&["--exclude-pods", "app=peer"], "observer tcp"),
    (&["--protocol", "tcp"], "tcp"),
    (&["--protocol", "icmp", "--exclude", OBSERVER4], "peer peer6"),
    (&["--local-port", "80"], "tcp"),
    (&["--port", "1-65535"], "tcp"),
    (&["--exclude", "/tcp"], "peer peer6 observer"),
    // A Service without ports and an address of its own: it has IPv4 alone, and is a name.
    (&["--to-service", "peers"], "peer"),
    (&["--from-service", "peers"], "peer"),
    (&["--exclude-service", "peers"], "peer6 observer tcp"),
    (&["--to", "peers"], "peer"),
    (&["--exclude", "peers"], "peer6 observer tcp"),
];

/// Flags of `partition`, and what an open connection and a new one come to.
const PARTITIONS: &[(&[&str], Option<ErrorKind>, Option<ErrorKind>)] = &[
    (&["--drop"], Some(ErrorKind::TimedOut), Some(ErrorKind::TimedOut)),
    (&["--reject"], Some(ErrorKind::ConnectionReset), Some(ErrorKind::ConnectionRefused)),
    // Their resets get out.
    (
        &["--kill-connections", "--direction", "ingress"],
        Some(ErrorKind::ConnectionReset),
        Some(ErrorKind::TimedOut),
    ),
    (&["--new-only", "--direction", "ingress"], None, Some(ErrorKind::TimedOut)),
    (
        &["--new-only", "--direction", "ingress", "--reject"],
        None,
        Some(ErrorKind::ConnectionRefused),
    ),
];

/// What is tried, and how; by whichever pod is free.
type Job<'a> = (String, Box<dyn Fn(&Eye<'_>) -> Outcome + Sync + 'a>);

/// Each option alone and with others.
pub fn every_option(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let mut jobs: Vec<_> = options(lab.backend()).collect();
    let release = lab.node(&["uname", "-r"]).stdout;
    if lab.backend() == Backend::Userspace || has_seeds(&String::from_utf8_lossy(&release)) {
        jobs.push(("--seed".to_owned(), Box::new(a_seed_repeats_what_is_lost)));
    }
    do_all(&space, &jobs)
}

/// What is aimed at, beside what is not: whatever does the fault, the same gate lets it in.
pub fn every_target_and_partition(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let mut peers = service(&space.name, "peers", "peer", true);
    peers["spec"]["ports"] = Value::Null;
    apply(&peers)?;
    // Where processes start quickly.
    space.create("peer", &json!({"spec": {"nodeName": lab.node_name(Node::Native)}}))?;
    let peer = space.running("peer")?;
    wait_for("the peers' endpoint", PATIENCE, || endpoints(&space.name).contains(&peer.name))?;
    do_all(&space, &targets_and_partitions(&peer, lab.backend())?)
}

/// By several pods at once.
fn do_all(space: &Namespace, jobs: &[Job<'_>]) -> Result<(), Failed> {
    let names = ["one", "two", "three"];
    for name in names {
        space.create(name, &json!({}))?;
    }
    let pods: Vec<Pod> = names.iter().map(|name| space.running(name)).collect::<Outcome<_>>()?;
    let next = AtomicUsize::new(0);
    let mut failures = Vec::new();
    scope(|scope| {
        let threads = pods.iter().map(|pod| scope.spawn(|| work(space, pod, jobs, &next)));
        for thread in threads.collect::<Vec<_>>() {
            failures.extend(thread.join().unwrap_or_else(|_| vec!["a panic".to_owned()]));
        }
    });
    check!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn options<'a>(by: Backend) -> impl Iterator<Item = Job<'a>> {
    let options = ALONE.iter().chain(TOGETHER).filter(move |(flags, _)| is_possible(flags, by));
    options.map(|(flags, sees)| -> Job<'_> {
        (flags.join(" "), Box::new(move |eye| option(eye, flags, *sees)))
    })
}

fn targets_and_partitions(peer: &Pod, by: Backend) -> Outcome<Vec<Job<'_>>> {
    let addresses = peer.addresses()?;
    let of = |version: char| addresses.iter().find(|one| one.contains(version));
    let four = of('.').ok_or("the peer has no IPv4 address")?;
    let six = of(':').ok_or("the peer has no IPv6 address")?;
    let targets = TARGETS.iter().filter(|(flags, _)| is_possible(flags, by));
    let targets = targets.map(|(flags, want)| -> Job<'_> {
        let fill = |flag: &&str| flag.replace("{peer}", four).replace("{peer6}", six);
        let flags: Vec<_> = flags.iter().map(fill).collect();
        let name = format!("{} for {want}", flags.join(" "));
        (name, Box::new(move |eye| target(eye, peer, &flags, want)))
    });
    let partitions = PARTITIONS.iter().map(|(flags, open, new)| -> Job<'_> {
        (flags.join(" "), Box::new(move |eye| partition(eye, flags, (*open, *new))))
    });
    let share: Job<'_> = ("--connections".to_owned(), Box::new(a_share_of_connections));
    let names: Job<'_> = ("--spare-dns".to_owned(), Box::new(names_are_spared));
    Ok(targets.chain(partitions).chain([share, names]).collect())
}

/// Whether netem of this release of Linux has seeds.
fn has_seeds(release: &str) -> bool {
    let mut numbers = release.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(6))
}

/// In a queue of the interface itself there is only what leaves.
fn is_possible(flags: &[&str], by: Backend) -> bool {
    let comes_in = |flag: &&str| flag.starts_with("--from") || *flag == "--direction";
    by != Backend::Prio || !flags.iter().any(comes_in)
}

/// Does what is next to a pod until nothing is left, and finds it as before; what was wrong.
fn work(space: &Namespace, pod: &Pod, jobs: &[Job<'_>], next: &AtomicUsize) -> Vec<String> {
    let run = || -> Outcome<Vec<String>> {
        let (before, addresses) = (pod.network()?, pod.addresses()?);
        let of = |version| addresses.iter().find(|one| one.contains::<char>(version)).cloned();
        let four = of('.').ok_or("the pod has no IPv4 address")?;
        let six = of(':').ok_or("the pod has no IPv6 address")?;
        let eye = Eye { space, pod, four, six };
        let mut failures = Vec::new();
        while let Some((name, job)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let failure = job(&eye).err();
            failures.extend(failure.map(|error| format!("{name}: {}", words(&error))));
        }
        let after = pod.network()?;
        if after != before {
            failures.push(format!("left behind in {}: {after}", pod.name));
        }
        Ok(failures)
    };
    run().unwrap_or_else(|error| vec![words(&error)])
}

fn words(error: &Failed) -> String {
    error.message().unwrap_or_default().to_owned()
}

fn patiently<T>(mut look: impl FnMut() -> Outcome<T>) -> Outcome<T> {
    let mut seen = look();
    for _ in 1..MEASUREMENTS {
        if seen.is_ok() {
            break;
        }
        seen = look();
    }
    seen
}

fn option(eye: &Eye<'_>, flags: &[&str], look: Sees) -> Outcome {
    let fault = eye.start("disrupt", flags)?;
    let seen = patiently(|| look(eye));
    end(fault)?;
    seen.map(drop)
}

/// Interrupts a fault that is in force.
fn end(fault: Running) -> Outcome {
    fault.signal("INT")?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(130) && said.contains("clean: ended"), "{exit:?} {said}");
    Ok(())
}

/// A pod that is hit, and who looks at it from outside of pods.
struct Eye<'a> {
    space: &'a Namespace,
    pod: &'a Pod,
    four: String,
    six: String,
}

impl Eye<'_> {
    /// Puts a fault in force. What comes from the node is hit too: some that look are there.
    fn start(&self, command: &str, flags: &[&str]) -> Outcome<Running> {
        let common = [command, "-p", &self.pod.name, "--include-probes", "-r", "60"];
        // How many connections were killed comes before.
        let is_other = |line: &str| line.contains("connections ended");
        self.space.start_with(&[&common[..], flags].concat(), is_other)
    }

    /// So many pings, so many milliseconds apart.
    fn ping(&self, count: u32, apart: u32) -> Outcome<Echoes> {
        self.ping_with(count, apart, &[])
    }

    fn ping_with(&self, count: u32, apart: u32, more: &[&str]) -> Outcome<Echoes> {
        Echoes::of([&["-I", OBSERVER4], more, &[&self.four]].concat(), count, apart)
    }

    fn ping6(&self, count: u32, apart: u32) -> Outcome<Echoes> {
        Echoes::of(vec!["-I", OBSERVER6, &self.six], count, apart)
    }

    /// 24 frames of 1042 bytes, as good as at once. What answers pings has hardly room for more.
    fn burst(&self) -> Outcome<Echoes> {
        self.ping_with(24, 1, &["-s", "1000"])?.came(1.0, 1.0)
    }

    /// How many echo requests have reached the pod.
    fn echo_requests(&self) -> Outcome<f64> {
        let place = format!("{}/{}", self.pod.namespace, self.pod.name);
        let output = lab_command(&["pod", &place, "--", "nstat", "-asz", "IcmpInEchos"]);
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = lines.lines().find(|line| line.starts_with("IcmpInEchos"));
        let count = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
        Ok(count.ok_or_else(|| text(&output))?)
    }

    /// That each flag of the last of [`TOGETHER`] has arrived: what netem was told, as `tc` shows it, and the shape,
    /// which it does not give back, in the fault's label; where the agent does it, what its own table says.
    fn sees_all_told(&self) -> Outcome {
        let qdiscs = self.pod.look(&["tc", "-j", "qdisc"])?;
        let netem = qdiscs.as_array().and_then(|all| all.iter().find(|one| one["kind"] == "netem"));
        let rules = self.pod.run(&["nft", "list", "ruleset"])?;
        let (mut told, want) = if let Some(netem) = netem {
            (rounded(&netem["options"]), everything_to_tc())
        } else {
            // In pieces, as comments of rules that do nothing.
            let notes = rules.lines().skip_while(|line| !line.contains("chain parameters"));
            let notes = notes.skip(1).take_while(|line| line.trim() != "}");
            let notes: String = notes
                .filter_map(|line| line.trim().strip_prefix("comment \"")?.strip_suffix('"'))
                .collect();
            let told = serde_json::from_str(&notes).map_err(|error| format!("{error}: {rules}"))?;
            (told, everything_to_the_agent())
        };
        if let Some(told) = told.as_object_mut() {
            // Nobody has asked for one.
            told.remove("seed");
        }
        check!(told == want, "told: {told}, asked: {want}");
        check!(netem.is_none() || rules.contains(" mixed/even\""), "the shape is not in: {rules}");
        Ok(())
    }

    /// Who has to wait that many milliseconds for the pod, by the names of [`TARGETS`].
    fn late(&self, delay: f64, peer: &Pod) -> Outcome<String> {
        let times = [
            ("peer", round_trip(peer, &self.four)?),
            ("peer6", round_trip(peer, &self.six)?),
            ("observer", quantile(self.ping(3, 20)?.times(), 0.0)?),
            ("tcp", self.connect()?),
        ];
        let late = times.iter().filter(|(_, time)| *time >= delay).map(|(name, _)| *name);
        Ok(late.collect::<Vec<_>>().join(" "))
    }

    /// The shortest of some times that it takes to connect, in milliseconds.
    fn connect(&self) -> Outcome<f64> {
        let mut shortest = f64::MAX;
        for _ in 0..3 {
            let start = Instant::now();
            TcpStream::connect_timeout(&self.http(), PATIENCE)?;
            shortest = shortest.min(start.elapsed().as_secs_f64() * 1e3);
        }
        Ok(shortest)
    }

    fn http(&self) -> SocketAddr {
        SocketAddr::new(self.four.parse().expect("an address"), 80)
    }
}

/// The last of [`TOGETHER`] in the words of `tc -j`, all numbers as fractions.
fn everything_to_tc() -> Value {
    json!({
        "limit": 1000.0, "gap": 3.0, "ecn": true,
        "delay": {"delay": 0.1, "jitter": 0.01, "correlation": 0.25},
        "loss-gemodel": {"p": 0.2, "r": 0.5, "1-h": 1.0, "1-k": 0.0},
        "duplicate": {"duplicate": 0.2, "correlation": 0.0},
        "corrupt": {"corrupt": 0.1, "correlation": 0.0},
        "reorder": {"reorder": 0.5, "correlation": 0.5},
        "rate": {
            "rate": 1_250_000.0, "packetoverhead": 20.0, "cellsize": 48.0, "celloverhead": 5.0,
        },
        "slot": {"min-delay": 0.001, "max-delay": 0.001, "packets": 20.0, "bytes": 0.0},
    })
}

/// And in those of the agent.
fn everything_to_the_agent() -> Value {
    json!({
        "delay": "100ms", "jitter": "10ms", "correlation": "25%", "distribution": "paretonormal",
        "loss": "gemodel 20% 50% 100% 0%", "ecn": true, "duplicate": "20%", "corrupt": "10%",
        "reorder": "50% 50% gap 3", "rate": "10mbit 20 48 5", "slot": "1ms packets 20", "limit": 1000,
    })
}

/// With all numbers to the fourth place: `tc` makes shares of 32 bits of them.
fn rounded(value: &Value) -> Value {
    match value {
        Value::Number(number) => {
            json!(number.as_f64().map(|number| (number * 1e4).round() / 1e4))
        }
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), rounded(value))).collect()
        }
        other => other.clone(),
    }
}

/// A ping that came back.
struct Echo {
    number: u32,
    /// How long it took, and when it came, in milliseconds.
    took: f64,
    at: f64,
    again: bool,
}

/// What came back of some pings.
struct Echoes {
    sent: u32,
    list: Vec<Echo>,
}

impl Echoes {
    fn of(words: Vec<&str>, count: u32, apart: u32) -> Outcome<Self> {
        let (count, apart) = (count.to_string(), format!("0.{apart:03}"));
        // What is damaged may have it wait for ever.
        let mut command = Command::new("timeout");
        command.args(["-s", "INT", "20", "ping", "-D", "-n", "-W", "1"]);
        command.args(["-c", &count, "-i", &apart]).args(words);
        let output = command.output()?;
        let mut list: Vec<Echo> = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            // What has been damaged on its way does not count; ping says so below it.
            if line.starts_with("wrong data byte") {
                list.pop();
            }
            list.extend(echo(line));
        }
        check!(output.status.code() != Some(2), "{command:?}: {}", text(&output));
        Ok(Self { sent: count.parse()?, list })
    }

    fn within(self, what: &str, found: f64, low: f64, high: f64) -> Outcome<Self> {
        check!((low..=high).contains(&found), "{what}: {found:.3}, not within {low} and {high}");
        Ok(self)
    }

    /// The share of pings that came back, once or more.
    fn came(self, low: f64, high: f64) -> Outcome<Self> {
        let came = self.count(|echo| !echo.again) / f64::from(self.sent);
        self.within("share that came", came, low, high)
    }

    /// The share that came back once more.
    fn again(self, low: f64, high: f64) -> Outcome<Self> {
        let again = self.count(|echo| echo.again) / f64::from(self.sent);
        self.within("share that came twice", again, low, high)
    }

    /// Of those that came, the share that took less than so long.
    fn sooner(self, than: f64, low: f64, high: f64) -> Outcome<Self> {
        let sooner = self.count(|echo| echo.took < than) / self.count(|_| true).max(1.0);
        self.within(&format!("share that took less than {than} ms"), sooner, low, high)
    }

    fn count(&self, which: impl Fn(&&Echo) -> bool) -> f64 {
        f64::from(u32::try_from(self.list.iter().filter(which).count()).unwrap_or(u32::MAX))
    }

    fn fastest(self, low: f64, high: f64) -> Outcome<Self> {
        self.quantile(0.0, low, high)
    }

    fn slowest(self, least: f64) -> Outcome<Self> {
        self.quantile(1.0, least, f64::MAX)
    }

    /// The time that this part of them do not exceed.
    fn quantile(self, part: f64, low: f64, high: f64) -> Outcome<Self> {
        let found = quantile(self.times(), part)?;
        self.within(&format!("quantile {part} of times"), found, low, high)
    }

    fn times(&self) -> Vec<f64> {
        self.list.iter().map(|echo| echo.took).collect()
    }

    /// How far the time of one is from that of the next, in the median.
    fn steps(self, low: f64, high: f64) -> Outcome<Self> {
        let mut in_order: Vec<_> = self.list.iter().map(|echo| (echo.number, echo.took)).collect();
        in_order.sort_by_key(|(number, _)| *number);
        let steps = in_order.windows(2).map(|two| (two[1].1 - two[0].1).abs()).collect();
        self.within("step", quantile(steps, 0.5)?, low, high)
    }

    /// How many in a row did not come, in the mean.
    fn bursts(self, low: f64, high: f64) -> Outcome<Self> {
        let mut came: Vec<_> = self.list.iter().map(|echo| echo.number).collect();
        came.sort_unstable();
        let gaps: Vec<_> = came
            .windows(2)
            .map(|two| two[1].saturating_sub(two[0] + 1))
            .filter(|gap| *gap > 0)
            .collect();
        let count = f64::from(u32::try_from(gaps.len())?);
        self.within("length of a burst", f64::from(gaps.iter().sum::<u32>()) / count, low, high)
    }

    /// That at least so many came right behind another one.
    fn together(self, least: usize) -> Outcome<Self> {
        let mut at: Vec<_> = self.list.iter().map(|echo| echo.at).collect();
        at.sort_by(f64::total_cmp);
        let count = at.windows(2).filter(|two| two[1] - two[0] < 8.0).count();
        check!(count >= least, "{count} came right behind another one, not {least}");
        Ok(self)
    }

    /// From the first that came to the last, in milliseconds.
    fn lasts(self, low: f64, high: f64) -> Outcome<Self> {
        let at = || self.list.iter().map(|echo| echo.at);
        let took = at().fold(f64::MIN, f64::max) - at().fold(f64::MAX, f64::min);
        self.within("from the first to the last", took, low, high)
    }
}

/// The shortest of some round trips from a pod, in milliseconds.
fn round_trip(from: &Pod, to: &str) -> Outcome<f64> {
    let place = format!("{}/{}", from.namespace, from.name);
    let ping = ["ping", "-D", "-n", "-c", "3", "-i", "0.02", "-W", "2", to];
    let output = lab_command(&[&["pod", &place, "--"], &ping[..]].concat());
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let times: Vec<_> = lines.lines().filter_map(|line| Some(echo(line)?.took)).collect();
    check!(!times.is_empty(), "no answer: {}", text(&output));
    quantile(times, 0.0)
}

fn echo(line: &str) -> Option<Echo> {
    let (at, line) = line.strip_prefix('[')?.split_once(']')?;
    let after = |word: &str| line.split_once(word)?.1.split_whitespace().next();
    Some(Echo {
        number: after("icmp_seq=")?.parse().ok()?,
        took: after("time=")?.parse().ok()?,
        at: at.parse::<f64>().ok()? * 1e3,
        again: line.contains("DUP!"),
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn quantile(mut times: Vec<f64>, part: f64) -> Outcome<f64> {
    check!(!times.is_empty(), "nothing came");
    times.sort_by(f64::total_cmp);
    Ok(times[((times.len() - 1) as f64 * part) as usize])
}

/// The same seed loses the same packets, of those to one address.
fn a_seed_repeats_what_is_lost(eye: &Eye<'_>) -> Outcome {
    let lost = |seed: &str| -> Outcome<Vec<u32>> {
        let fault = eye.start("disrupt", &["--loss", "50%", "--seed", seed, "--to", OBSERVER4])?;
        let echoes = eye.ping(60, 5)?;
        end(fault)?;
        Ok(echoes.list.iter().map(|echo| echo.number).collect())
    };
    let (first, again, other) = (lost("7")?, lost("7")?, lost("8")?);
    check!(first == again && first != other, "{first:?}, {again:?}; another one: {other:?}");
    Ok(())
}

/// Only what was aimed at is late.
fn target(eye: &Eye<'_>, peer: &Pod, flags: &[String], want: &str) -> Outcome {
    let flags = ["-d", "150"].into_iter().chain(flags.iter().map(String::as_str));
    let fault = eye.start("disrupt", &flags.collect::<Vec<_>>())?;
    let seen = patiently(|| {
        let late = eye.late(150.0, peer)?;
        check!(late == want, "late are: {late}");
        Ok(())
    });
    end(fault)?;
    seen
}

/// What becomes of an open connection to port 80 and of a new one, while everything else passes.
fn partition(
    eye: &Eye<'_>,
    flags: &[&str],
    (open, new): (Option<ErrorKind>, Option<ErrorKind>),
) -> Outcome {
    let mut stream = TcpStream::connect_timeout(&eye.http(), PATIENCE)?;
    ask(&mut stream, PATIENCE).map_err(|error| format!("before: {error:?}"))?;
    let fault = eye.start("partition", &[flags, &["--local-port", "80"]].concat())?;
    let seen = (
        ask(&mut stream, IN_VAIN).err(),
        TcpStream::connect_timeout(&eye.http(), IN_VAIN).err().map(|error| error.kind()),
    );
    let others = eye.ping(5, 10).and_then(|echoes| echoes.came(1.0, 1.0));
    end(fault)?;
    check!(seen == (open, new), "open and new: {seen:?}");
    others?;
    TcpStream::connect_timeout(&eye.http(), PATIENCE)?;
    if open == Some(ErrorKind::TimedOut) {
        // What was not answered is, when one of the two sends it again.
        answer(&mut stream, PATIENCE).map_err(|error| format!("afterwards: {error:?}"))?;
    }
    Ok(())
}

/// Each is refused or is not, and then to its end.
fn a_share_of_connections(eye: &Eye<'_>) -> Outcome {
    let fault =
        eye.start("partition", &["--reject", "--connections", "50%", "--protocol", "tcp"])?;
    let mut passed = 0;
    for _ in 0..60 {
        match TcpStream::connect_timeout(&eye.http(), PATIENCE) {
            Ok(mut stream) => {
                ask(&mut stream, PATIENCE).map_err(|error| format!("half hit: {error:?}"))?;
                passed += 1;
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(error.into()),
        }
    }
    end(fault)?;
    // Four standard deviations.
    check!((15..=45).contains(&passed), "{passed} of 60 connections passed");
    Ok(())
}

/// Everything is refused, and so are questions to name servers unless they are spared.
fn names_are_spared(eye: &Eye<'_>) -> Outcome {
    let server =
        ["get", "service", "kube-dns", "-n", "kube-system", "-o", "jsonpath={.spec.clusterIP}"];
    let server = String::from_utf8_lossy(&kubectl(&server).stdout).into_owned();
    // RFC 1035: the start of authority of `cluster.local`; any answer will do.
    let question = r"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07cluster\x05local\0\0\x06\0\x01";
    let ask = format!(
        "exec 3<>/dev/udp/{server}/53; printf '{question}' >&3; head -c 12 <&3 | grep -q ."
    );
    for (flags, spared) in [(&["--spare-dns"][..], true), (&[], false)] {
        let fault = eye.start("partition", &[&["--reject"], flags].concat())?;
        let answered = eye.pod.run(&["timeout", "5", "bash", "-c", &ask]).is_ok();
        let connected = TcpStream::connect_timeout(&eye.http(), PATIENCE);
        end(fault)?;
        check!(answered == spared, "with {flags:?} the name server was heard: {answered}");
        let refused = connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        check!(refused, "with {flags:?} a connection passes");
    }
    Ok(())
}

/// Asks a web server for something, over a connection that stays open.
fn ask(stream: &mut TcpStream, patience: Duration) -> Result<(), ErrorKind> {
    let question = b"HEAD / HTTP/1.1\r\nHost: pod\r\n\r\n";
    stream.write_all(question).map_err(|error| error.kind())?;
    answer(stream, patience)
}

fn answer(stream: &mut TcpStream, patience: Duration) -> Result<(), ErrorKind> {
    stream.set_read_timeout(Some(patience)).map_err(|error| error.kind())?;
    let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof),
            Ok(count) => text.extend_from_slice(&buffer[..count]),
            // As Linux calls it.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut),
            Err(error) => return Err(error.kind()),
        }
    }
    Ok(())
}

/// The kubelet goes on to reach a pod that is cut off, unless its probes are to be hit too.
pub fn probes_of_the_kubelet_pass(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let probe = json!({
        "httpGet": {"port": 80, "path": "/"},
        "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 1,
    });
    let container = json!({
        "name": "nginx", "image": "localhost/nginx:lab", "imagePullPolicy": "IfNotPresent",
        "readinessProbe": probe,
    });
    let pod = space.pod("nginx", &json!({"spec": {"containers": [container]}}))?;
    let is_ready = || -> Outcome<bool> {
        let pod = pod.read()?;
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|one| one["type"] == "Ready");
        Ok(ready.is_some_and(|ready| ready["status"] == "True"))
    };
    let hit = space.start(&["partition", "-p", "nginx", "--include-probes", "-r", "60"])?;
    wait_for("probes that fail", PATIENCE, || is_ready().is_ok_and(|ready| !ready))?;
    end(hit)?;
    wait_for("probes that succeed", PATIENCE, || is_ready().is_ok_and(|ready| ready))?;
    let spared = space.start(&["partition", "-p", "nginx", "-r", "60"])?;
    let start = Instant::now();
    // Three probes, and what the kubelet takes to tell.
    while start.elapsed() < Duration::from_secs(4) {
        check!(is_ready()?, "a probe was hit");
        sleep(Duration::from_millis(200));
    }
    Echoes::of(vec!["-I", OBSERVER4, &pod.address()?], 3, 20)?.came(0.0, 0.0)?;
    end(spared)
}
