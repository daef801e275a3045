//! Who may die while an agent holds a fault on processes: it goes on to its deadline without the plugin, ends with its
//! agent and with the container, and nothing is left of it.

use std::{
    fs::{self, File},
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::{Signal, kill},
    statvfs::fstatvfs,
};
use pod_chaos_protocol::Event;
use serde_json::{Value, json};

use crate::{
    burn,
    container::{Container, kill_agent},
    disk, memory,
    pod::{disturb, revert, until},
    requirement::tests,
};

tests! {
    Namespaces:
        deaths_while_processors_are_burnt,
        deaths_while_memory_is_held,
        deaths_while_a_disk_is_kept_busy,
        deaths_while_a_disk_is_full,
        deaths_during_a_pause,
        deaths_while_calls_fail;
}

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// By SIGKILL.
    Agent,
    /// Or the way to it: nobody speaks to the agent any more, nor hears it.
    Plugin,
    /// By the SIGKILL of its first process.
    Container,
}

/// Without the plugin.
const RUNNING_TIME: Duration = Duration::from_millis(800);

/// A container whose disk can be looked at when it has ended.
struct Place {
    container: Container,
    disk: File,
}

impl Place {
    fn new() -> Self {
        let container = disk::container();
        let disk = File::open(disk::folder(&container)).unwrap();
        Self { container, disk }
    }

    /// Bytes of the file system that are used.
    fn filled(&self) -> u64 {
        let now = fstatvfs(&self.disk).unwrap();
        (now.blocks() - now.blocks_free()) * now.fragment_size()
    }

    /// Whether a process of the agent's is in the container's control group.
    fn has_agent(&self) -> bool {
        let name = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let pids = self.container.read(&["cgroup.procs"]);
        pids.lines().any(|pid| name(pid).trim() == "pod-chaos-agent")
    }
}

fn deaths_while_processors_are_burnt() {
    let load = json!({ "share": { "percent": "30%", "of": "core" } });
    // Of 0.24 s; on a busy machine it gets less.
    assert_each_ends(&json!({ "burn-cpu": { "load": load } }), Place::has_agent, 0.06);
}

fn deaths_while_memory_is_held() {
    let burn = json!({ "load": { "size": "16Mi" }, "allow-node-pressure": true });
    let holds = |place: &Place| memory::used(&place.container) > 12 << 20;
    assert_each_ends(&json!({ "burn-memory": burn }), holds, 0.0);
}

fn deaths_while_a_disk_is_kept_busy() {
    let burn = json!({ "path": "/mnt", "write": "2Mi", "block": "16Ki", "size": "1Mi" });
    assert_each_ends(&json!({ "burn-io": burn }), |place| place.filled() > 0, 0.0);
}

fn deaths_while_a_disk_is_full() {
    let fill = json!({ "path": "/mnt", "load": { "to": "75%" } });
    assert_each_ends(&json!({ "fill-disk": fill }), |place| place.filled() > 0, 0.0);
}

fn deaths_during_a_pause() {
    let stands = |place: &Place| {
        let states = place.container.threads("State");
        states.iter().any(|state| state.starts_with('t'))
    };
    assert_each_ends(&json!("pause"), stands, 0.0);
}

fn deaths_while_calls_fail() {
    let traced = |place: &Place| place.container.threads("TracerPid").iter().any(|one| one != "0");
    let fault = json!({ "syscall": { "calls": ["open"], "error": "EIO" } });
    assert_each_ends(&fault, traced, 0.0);
}

/// Each death, with a container of its own: how to tell that the fault is in force, and what processor time it takes at
/// least, in seconds, when it is left to itself.
fn assert_each_ends(fault: &Value, is_on: fn(&Place) -> bool, work: f64) {
    thread::scope(|scope| {
        for death in [Death::Agent, Death::Plugin, Death::Container] {
            scope.spawn(move || assert_ends(fault, death, is_on, work));
        }
    });
}

fn assert_ends(fault: &Value, death: Death, is_on: fn(&Place) -> bool, work: f64) {
    let place = Place::new();
    let container = &place.container;
    let time = if death == Death::Plugin { RUNNING_TIME } else { Duration::from_secs(60) };
    let plan = json!({
        "id": "00000001", "running-time": format!("{}ms", time.as_millis()),
        "target": container.target(), "fault": fault,
    });
    assert!(!is_on(&place), "{death:?}: in force before");
    let mut agent = container.agent_in_its_group();
    let before = burn::used(container);
    // In force later than this, so that it ends later as well.
    let start = Instant::now();
    agent.send(&disturb(&plan));
    loop {
        match agent.next() {
            Some(Event::ProcessInForce { .. }) => break,
            Some(Event::Failed { failure }) => panic!("{death:?}: {failure}"),
            Some(_) => {}
            None => panic!("{death:?}: no answer"),
        }
    }
    assert!(is_on(&place) || start.elapsed() >= time, "{death:?}: not in force");
    match death {
        Death::Agent => kill_agent(&mut agent),
        Death::Plugin => agent.hang_up(),
        Death::Container => {
            kill(container.pid, Signal::SIGKILL).unwrap();
            agent.child.wait().unwrap();
        }
    }
    until("its end", || (!is_on(&place)).then_some(()));
    if death == Death::Plugin {
        assert!(start.elapsed() >= time, "{death:?}: over after {:?}", start.elapsed());
        assert!(agent.child.wait().unwrap().success(), "{death:?}");
        let worked = burn::used(container) - before;
        assert!(worked >= work, "{death:?}: {worked} s of processor time");
    }
    if death != Death::Container {
        assert!(!container.threads("State").is_empty(), "{death:?}: the app has ended");
        assert_eq!(container.ask(&revert()).len(), 1, "{death:?}: an agent holds it");
    }
}
