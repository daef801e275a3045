//! A pod for tests: a network namespace with `eth0`, and one with the other end of the wire.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::fd::AsRawFd,
    process::{Child, ChildStdin, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::{
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pod_chaos_protocol::{Backend, Ending, Event, Failure, FaultStatus};
use serde_json::Value;

use crate::requirement::LACKS;

/// Addresses of the pod and of its peer.
pub const POD4: &str = "10.9.0.1";
pub const PEER4: &str = "10.9.0.2";
pub const PEER6: &str = "fd00:9::2";

/// How long anything may take that should be there at once.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A network namespace. Programs that are started in it are started by threads that are in it: that takes
/// no program of its own, which counts where the kernel is itself one.
pub struct Namespace(fs::File);

impl Namespace {
    fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            fs::File::open("/proc/thread-self/ns/net").unwrap()
        });
        Self(made.join().unwrap())
    }

    /// Where the kernel shows it.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs this in it. A thread may change its namespace; its sockets stay there.
    pub fn spawn<T: Send + 'static>(
        &self,
        run: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let namespace = self.0.try_clone().unwrap();
        thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            run()
        })
    }

    /// Starts a command in it.
    pub fn start(&self, mut command: Command) -> Child {
        self.spawn(move || command.spawn().unwrap()).join().unwrap()
    }

    /// Has `ip` do these things in it, one on each line.
    fn ip(&self, lines: &str) {
        self.run(&format!("exec ip -batch - <<'END'\n{lines}\nEND"));
    }

    /// Runs a command in it that must succeed, and returns what it prints.
    pub fn run(&self, line: &str) -> String {
        let output = self.try_run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command in it.
    pub fn try_run(&self, line: &str) -> Output {
        let line = line.to_owned();
        self.spawn(move || Command::new("sh").args(["-c", &line]).output().unwrap()).join().unwrap()
    }

    /// What a command in it prints as JSON; nothing is an empty array.
    pub fn json(&self, line: &str) -> Value {
        let text = self.run(line);
        if text.trim().is_empty() {
            Value::Array(vec![])
        } else {
            serde_json::from_str(&text).unwrap()
        }
    }
}

/// A pod and what it is connected to.
pub struct Pod {
    pub inside: Namespace,
    pub outside: Namespace,
}

impl Pod {
    /// With IPv4 and IPv6 on `eth0`, and a default route over it.
    pub fn new() -> Self {
        let pod = Self { inside: Namespace::new(), outside: Namespace::new() };
        for end in [&pod.inside, &pod.outside] {
            // Nobody else can have their addresses; to look for that takes a second or two.
            end.run("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
        }
        let route = format!("route add default via {PEER4}\nroute add default via {PEER6}\n");
        pod.wire("eth0", ["10.9.0", "fd00:9:"], ["link set lo up\n", &route]);
        pod
    }

    /// Adds an interface, its address ending in 1 and its peer's in 2.
    pub fn connect(&self, name: &str, prefix4: &str, prefix6: &str) {
        self.wire(name, [prefix4, prefix6], [""; 2]);
    }

    /// The same; `before` at both ends and `after` in the pod. In few processes: they take a kernel that runs as
    /// a program long.
    fn wire(&self, name: &str, [prefix4, prefix6]: [&str; 2], [before, after]: [&str; 2]) {
        let addresses = |number: u8| {
            format!(
                "addr add {prefix4}.{number}/24 dev {name}
                 addr add {prefix6}:{number}/64 dev {name} nodad
                 link set {name} up"
            )
        };
        let other = self.outside.path();
        self.inside.ip(&format!(
            "{before}link add {name} type veth peer name {name} netns {other}\n{}\n{after}",
            addresses(1)
        ));
        self.outside.ip(&format!("{before}{}", addresses(2)));
        // The kernel notices in a thread of its own that the first of them has got its wire, and drops what is
        // sent before.
        until("a carrier", || {
            let link = self.inside.run(&format!("ip -o link show dev {name}"));
            link.contains("state UP").then_some(())
        });
    }

    /// Waits until IPv6 works on this interface: on a new link it takes a second of its own.
    pub fn settle_ipv6(&self, name: &str, peer: &str) {
        self.inside.run(&format!("ping -n -q -c 1 -W 5 {peer}"));
        until("settled addresses", || {
            let addresses = self.inside.run(&format!("ip -o -6 addr show dev {name}"));
            (addresses.contains("fe80:") && !addresses.contains("tentative")).then_some(())
        });
    }

    /// Starts an agent in it.
    pub fn agent(&self, subcommand: &str) -> Agent {
        self.start(&[&agent_path(), subcommand])
    }

    /// Starts an agent in it by these words.
    pub fn start(&self, words: &[&str]) -> Agent {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Agent::new(self.inside.start(command))
    }

    /// Starts `serve` and asks for a fault; returns once it is in force.
    pub fn disrupt(&self, plan: &Value) -> (Agent, FaultStatus) {
        let mut agent = self.serve(&apply(plan));
        let status = agent.in_force();
        (agent, status)
    }

    /// Starts `serve` and sends one request.
    pub fn serve(&self, request: &Value) -> Agent {
        let mut agent = self.agent("serve");
        agent.hello();
        agent.send(request);
        agent
    }

    /// Sends one request and returns all that is answered.
    pub fn ask(&self, request: &Value) -> Vec<Event> {
        self.serve(request).rest()
    }

    /// Round trips to an address, in milliseconds, one after the other at this interval.
    pub fn ping(&self, address: &str, count: u32, interval: &str) -> Vec<f64> {
        let output =
            self.inside.try_run(&format!("ping -n -c {count} -i {interval} -W 3 {address}"));
        round_trips(&String::from_utf8_lossy(&output.stdout))
    }

    /// The shortest of some round trips, in milliseconds: none is shorter than a delay that is in force,
    /// and one that is not delayed is always among them.
    pub fn round_trip(&self) -> f64 {
        self.ping(PEER4, 3, "0.02").into_iter().reduce(f64::min).expect("an answer")
    }

    /// Links and tables that faults have left, or seem to, by name.
    pub fn leftovers(&self) -> Vec<String> {
        let links = self.inside.json("ip -j link");
        // Not as JSON: nft 1.0.6 prints some that cannot be read for a table with an owner.
        let tables = self.inside.run("nft list tables");
        let all = links.as_array().into_iter().flatten();
        let mut names: Vec<_> =
            all.filter_map(|one| one["ifname"].as_str().map(str::to_owned)).collect();
        names.retain(|name| name.starts_with("pc-"));
        names.sort();
        names.extend(tables.lines().filter_map(|line| Some(line.rsplit_once(' ')?.1.to_owned())));
        names
    }

    /// Fails unless nothing is left of any fault.
    pub fn assert_clean(&self) {
        assert_eq!(self.leftovers(), Vec::<String>::new());
    }
}

/// The `time=` of each line that `ping` prints.
pub fn round_trips(text: &str) -> Vec<f64> {
    let times = text.lines().filter_map(|line| line.split_once("time=")?.1.split(' ').next());
    times.map(|time| time.parse().unwrap()).collect()
}

/// The agent under test.
pub fn agent_path() -> String {
    std::env::var("POD_CHAOS_AGENT")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_pod-chaos-agent").to_owned())
}

/// The backend under test: that of `POD_CHAOS_BACKEND`, else the one that the agent is to choose here.
pub fn backend() -> Backend {
    match std::env::var("POD_CHAOS_BACKEND") {
        Ok(name) => serde_json::from_value(name.into()).expect("the name of a backend"),
        Err(_) if LACKS.is_some() => Backend::Userspace,
        Err(_) => Backend::NetdevEgress,
    }
}

/// A plan with a delay.
pub fn plan(id: &str, running_time: &str, delay: &str) -> Value {
    plan_of(id, running_time, &serde_json::json!({ "delay": delay }))
}

/// A plan with these parameters.
pub fn plan_of(id: &str, running_time: &str, netem: &Value) -> Value {
    let mut fault = serde_json::json!({ "netem": netem });
    // Without being asked, the agent chooses.
    if std::env::var("POD_CHAOS_BACKEND").is_ok() {
        fault["backend"] = serde_json::to_value(backend()).unwrap();
    }
    serde_json::json!({ "id": id, "running-time": running_time, "fault": { "netem": fault } })
}

/// The same plan by this backend.
pub fn by(mut plan: Value, backend: Backend) -> Value {
    plan["fault"]["netem"]["backend"] = serde_json::to_value(backend).unwrap();
    plan
}

/// The same plan on another interface.
pub fn on(plan: Value, interface: &str) -> Value {
    with(plan, &serde_json::json!({ "interfaces": [interface] }))
}

/// A plan with a partition.
pub fn partition(id: &str, running_time: &str, mode: &str) -> Value {
    serde_json::json!({
        "id": id, "running-time": running_time, "fault": { "partition": { "mode": mode } },
    })
}

/// The same plan on this traffic.
pub fn with(mut plan: Value, traffic: &Value) -> Value {
    plan["traffic"] = traffic.clone();
    plan
}

/// Targets as a plan names them.
pub fn targets(endpoints: &[&str]) -> Value {
    endpoints.iter().map(|text| serde_json::json!({ "name": text, "endpoints": [text] })).collect()
}

/// What [`Pod::leftovers`] shows of a fault with this id.
pub fn parts(id: &str) -> Vec<String> {
    let mut parts = parts_without_agent(id);
    if backend() == Backend::Userspace {
        parts.insert(2, format!("pod-chaos-{id}-emulator"));
    }
    parts
}

/// The same when its agent has died.
pub fn parts_without_agent(id: &str) -> Vec<String> {
    if backend() == Backend::Prio {
        return vec![format!("pod-chaos-{id}")];
    }
    vec![format!("pc-{id}"), format!("pc-{id}x"), format!("pod-chaos-{id}")]
}

/// The request for it.
pub fn apply(plan: &Value) -> Value {
    serde_json::json!({ "request": "apply", "plan": plan })
}

/// The request to end everything.
pub fn revert() -> Value {
    serde_json::json!({ "request": "revert" })
}

/// The request to read what is in force.
pub fn status() -> Value {
    serde_json::json!({ "request": "status" })
}

/// The request to disturb processes.
pub fn disturb(plan: &Value) -> Value {
    serde_json::json!({ "request": "disturb", "plan": plan })
}

/// A running agent.
pub struct Agent {
    pub child: Child,
    pub input: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Agent {
    /// One that has been started with pipes for stdin and stdout.
    pub fn new(mut child: Child) -> Self {
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Self { input: child.stdin.take(), child, lines }
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Kills it as the kernel does, and waits until it is gone.
    pub fn sigkill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn send(&mut self, request: &Value) {
        self.send_text(&request.to_string());
    }

    pub fn send_text(&mut self, line: &str) {
        let mut input = self.input.as_ref().unwrap();
        // It may stop reading before the end of a line that is too long.
        let _ = input.write_all(format!("{line}\n").as_bytes());
    }

    /// The next event; `None` when it has exited without one.
    pub fn next(&mut self) -> Option<Event> {
        let line = self.lines.recv_timeout(PATIENCE).ok()?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}")))
    }

    /// Speaks to it no more, and does not hear it.
    pub fn hang_up(&mut self) {
        drop(self.input.take());
        // Who reads it ends at its next line, and closes the pipe.
        self.lines = channel().1;
    }

    pub fn hello(&mut self) {
        let hello = self.next();
        assert!(matches!(hello, Some(Event::Hello { protocol: 1, .. })), "{hello:?}");
    }

    pub fn in_force(&mut self) -> FaultStatus {
        let probed = self.next();
        assert!(matches!(probed, Some(Event::Probed { .. })), "{probed:?}");
        match self.next() {
            Some(Event::InForce { status }) => *status,
            other => panic!("{other:?} instead of in-force"),
        }
    }

    /// The end of the fault; fails unless it is a clean one.
    pub fn ended(&mut self) -> (Ending, u64, u64) {
        clean_end(self.next())
    }

    /// All that is still to come, once it has been told that no more requests will.
    pub fn rest(mut self) -> Vec<Event> {
        drop(self.input.take());
        let events = std::iter::from_fn(|| self.next()).collect();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        events
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What ended it, how long it ran in milliseconds, and how many packets it hit.
pub fn clean_end(event: Option<Event>) -> (Ending, u64, u64) {
    match event {
        Some(Event::Ended { by, ran_ms, packets, left, errors, .. }) => {
            assert_eq!((left, errors), (vec![], vec![]));
            (by, ran_ms, packets.unwrap_or_default())
        }
        other => panic!("{other:?} instead of ended"),
    }
}

/// Packets that a fault has hit, delayed and dropped.
pub type Figures = (u64, Option<u64>, Option<u64>);

/// Those of the one fault in force, as another agent tells.
pub fn figures(pod: &Pod) -> Figures {
    match pod.ask(&status()).pop() {
        Some(Event::Status { faults, .. }) => {
            let [FaultStatus { packets, delayed, dropped, .. }] = faults[..] else {
                panic!("{faults:?}")
            };
            (packets, delayed, dropped)
        }
        other => panic!("{other:?} instead of status"),
    }
}

/// Those that are said at its end; fails unless it is a clean one.
pub fn figures_at_the_end(agent: &mut Agent) -> Figures {
    match agent.next() {
        Some(Event::Ended { packets, delayed, dropped, left, errors, .. }) => {
            assert_eq!((left, errors), (vec![], vec![]));
            (packets.unwrap_or_default(), delayed, dropped)
        }
        other => panic!("{other:?} instead of ended"),
    }
}

/// The failure that is the last of these events.
pub fn failure(events: &[Event]) -> &Failure {
    match events.last() {
        Some(Event::Failed { failure }) => failure,
        other => panic!("{other:?} instead of failed"),
    }
}

/// Waits for something that should be there soon.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "no {what} after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
