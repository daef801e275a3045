//! Who may die while an agent holds a fault on processes: it goes on to its deadline without the plugin, ends with its
//! agent and with the container, and nothing is left of it.

use std::{
    fs::{self, File},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::{Signal, kill},
    statvfs::fstatvfs,
};
use pod_chaos_protocol::{Ending, Event};
use serde_json::{Value, json};

use crate::{
    burn,
    container::{Container, kill_agent, pid_of},
    disk, memory,
    pod::{Agent, clean_end, disturb, revert, until},
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
    OwnClock alone:
        a_clock_that_jumps_ends_nothing_early_or_late;
}

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// By SIGKILL.
    Agent,
    /// By the kernel, for lack of memory.
    Shortage,
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

/// A fault on processes.
#[derive(Clone)]
struct Case {
    fault: Value,
    /// Whether it is in force.
    is_on: fn(&Place) -> bool,
    /// What processor time it takes at least, in seconds, when it is left to itself.
    work: f64,
}

impl Case {
    fn new(fault: Value, is_on: fn(&Place) -> bool) -> Self {
        Self { fault, is_on, work: 0.0 }
    }

    fn processors() -> Self {
        let load = json!({ "share": { "percent": "30%", "of": "core" } });
        // Of 0.24 s; on a busy machine it gets less.
        Self { work: 0.06, ..Self::new(json!({ "burn-cpu": { "load": load } }), Place::has_agent) }
    }

    fn memory() -> Self {
        let burn = json!({ "load": { "size": "16Mi" }, "allow-node-pressure": true });
        let holds = |place: &Place| memory::used(&place.container) > 12 << 20;
        Self::new(json!({ "burn-memory": burn }), holds)
    }

    fn busy_disk() -> Self {
        let burn = json!({ "path": "/mnt", "write": "2Mi", "block": "16Ki", "size": "1Mi" });
        Self::new(json!({ "burn-io": burn }), |place| place.filled() > 0)
    }

    fn full_disk() -> Self {
        let fill = json!({ "path": "/mnt", "load": { "to": "75%" } });
        Self::new(json!({ "fill-disk": fill }), |place| place.filled() > 0)
    }

    fn pause() -> Self {
        let stands = |place: &Place| {
            let states = place.container.threads("State");
            states.iter().any(|state| state.starts_with('t'))
        };
        Self::new(json!("pause"), stands)
    }

    fn calls() -> Self {
        let traced =
            |place: &Place| place.container.threads("TracerPid").iter().any(|one| one != "0");
        Self::new(json!({ "syscall": { "calls": ["open"], "error": "EIO" } }), traced)
    }

    /// An agent that has it in force for so long.
    fn begin(&self, place: &Place, time: Duration) -> Agent {
        let plan = json!({
            "id": "00000001", "running-time": format!("{}ms", time.as_millis()),
            "target": place.container.target(), "fault": self.fault,
        });
        assert!(!(self.is_on)(place), "{plan}: in force before");
        let mut agent = place.container.agent_in_its_group();
        let start = Instant::now();
        agent.send(&disturb(&plan));
        loop {
            match agent.next() {
                Some(Event::ProcessInForce { .. }) => break,
                Some(Event::Failed { failure }) => panic!("{plan}: {failure}"),
                Some(_) => {}
                None => panic!("{plan}: no answer"),
            }
        }
        assert!((self.is_on)(place) || start.elapsed() >= time, "{plan}: not in force");
        agent
    }
}

fn deaths_while_processors_are_burnt() {
    assert_each_ends(&Case::processors());
}

fn deaths_while_memory_is_held() {
    assert_each_ends(&Case::memory());
}

fn deaths_while_a_disk_is_kept_busy() {
    // What writes waits for memory in the kernel: how it ends for lack of that is not looked at.
    let case = Case::busy_disk();
    thread::scope(|scope| {
        for death in [Death::Agent, Death::Plugin, Death::Container] {
            let case = &case;
            scope.spawn(move || assert_ends(case, death));
        }
    });
}

fn deaths_while_a_disk_is_full() {
    assert_each_ends(&Case::full_disk());
}

fn deaths_during_a_pause() {
    assert_each_ends(&Case::pause());
}

fn deaths_while_calls_fail() {
    assert_each_ends(&Case::calls());
}

/// Each death, with a container of its own.
fn assert_each_ends(case: &Case) {
    thread::scope(|scope| {
        for death in [Death::Agent, Death::Shortage, Death::Plugin, Death::Container] {
            scope.spawn(move || assert_ends(case, death));
        }
    });
}

fn assert_ends(case: &Case, death: Death) {
    let place = Place::new();
    let container = &place.container;
    let time = if death == Death::Plugin { RUNNING_TIME } else { Duration::from_secs(60) };
    let before = burn::used(container);
    // In force later than this, so that it ends later as well.
    let start = Instant::now();
    let mut agent = case.begin(&place, time);
    match death {
        Death::Agent => kill_agent(&mut agent),
        Death::Shortage => run_short(container, &mut agent),
        Death::Plugin => agent.hang_up(),
        Death::Container => {
            kill(container.pid, Signal::SIGKILL).unwrap();
            agent.child.wait().unwrap();
        }
    }
    until("its end", || (!(case.is_on)(&place)).then_some(()));
    if death == Death::Plugin {
        assert!(start.elapsed() >= time, "{death:?}: over after {:?}", start.elapsed());
        assert!(agent.child.wait().unwrap().success(), "{death:?}");
        let worked = burn::used(container) - before;
        assert!(worked >= case.work, "{death:?}: {worked} s of processor time");
    }
    if death != Death::Container {
        assert!(!container.threads("State").is_empty(), "{death:?}: the app has ended");
        assert_eq!(container.ask(&revert()).len(), 1, "{death:?}: an agent holds it");
    }
}

/// Has another process use up the memory of a container, until the kernel has killed the agent.
fn run_short(container: &Container, agent: &mut Agent) {
    // Whom it kills first.
    fs::write(format!("/proc/{}/oom_score_adj", pid_of(agent)), "1000").unwrap();
    let limit = memory::used(container) + (2 << 20);
    container.set(&["memory.limit_in_bytes", "memory.max"], &limit.to_string());
    let mut other = memory::app(container, 6);
    agent.child.wait().unwrap();
    drop(other.stdin.take());
    other.wait().unwrap();
}

/// Each jump comes right after a fault has begun. System calls have a thread that keeps the time of its own, and all others
/// are held by what holds these.
fn a_clock_that_jumps_ends_nothing_early_or_late() {
    for jump in ["+1 day", "-1 day"] {
        thread::scope(|scope| {
            for case in [Case::processors, Case::calls] {
                scope.spawn(move || assert_ends_in_time(&case(), jump));
            }
        });
    }
}

fn assert_ends_in_time(case: &Case, jump: &str) {
    let place = Place::new();
    let start = Instant::now();
    let agent = case.begin(&place, RUNNING_TIME);
    let set = Command::new("date").args(["--set", jump]).stdout(Stdio::null()).status().unwrap();
    assert!(set.success(), "{jump}");
    let mut events = agent.rest();
    let told = format!("{jump}, {events:?}");
    assert!(start.elapsed() >= RUNNING_TIME, "{told}: over after {:?}", start.elapsed());
    assert_eq!(clean_end(events.pop()).0, Ending::Deadline, "{told}");
    assert!(!(case.is_on)(&place), "{told}: in force");
}
