//! What the tests see and do: the lab, pods of their own, and independent eyes.

use std::{
    fmt,
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::{
        LazyLock, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use serde_json::{Value, json};

/// The result of a test or a step of it.
pub type Outcome<T = ()> = Result<T, Failed>;

/// Fails the test with that text unless it holds.
#[macro_export]
macro_rules! check {
    ($holds:expr, $($text:tt)+) => {
        let holds: bool = $holds;
        if !holds {
            return Err(libtest_mimic::Failed::from(format!($($text)+)));
        }
    };
}

/// The agent as it is shipped: `scripts/lab images` has made it.
pub fn agent_file() -> PathBuf {
    std::env::var_os("POD_CHAOS_AGENT").map_or_else(
        || {
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!(
                "target/{}-unknown-linux-musl/agent/pod-chaos-agent",
                std::env::consts::ARCH
            ))
        },
        PathBuf::from,
    )
}

/// Where a test runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// Linux with netem.
    Guest,
    /// This machine's own kernel.
    Native,
}

impl fmt::Display for Node {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Guest => "guest",
            Self::Native => "native",
        })
    }
}

/// What does a fault to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The kernel's netem, on links of the fault's own.
    Netem,
    /// The kernel's netem, in a queue of the interface itself.
    Prio,
    /// The agent.
    Userspace,
}

/// What `disrupt` is told to use, by a value of its hidden flag; the agent chooses when it is not set.
static FORCED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("POD_CHAOS_BACKEND").ok());

/// Where pings come from that look at a pod: from outside of pods, and from no node, which faults spare.
pub const OBSERVER4: &str = "10.77.2.1";
pub const OBSERVER6: &str = "fd77:2::1";

/// The lab that the tests were started in, as seen by tests of one node.
pub struct Lab {
    /// Where pods are made.
    home: Node,
    nodes: Vec<(String, String)>,
    shared: OnceLock<Namespace>,
    turn: Mutex<()>,
}

impl Lab {
    /// The lab of `scripts/lab run`, or why there is none.
    pub fn from_environment() -> Result<Self, String> {
        if std::env::var_os("POD_CHAOS_LAB").is_none() {
            return Err("no lab (start with `scripts/lab run --`)".to_owned());
        }
        let output = Command::new("kubectl")
            .args(["get", "nodes", "-o", "json"])
            .output()
            .map_err(|error| format!("running kubectl: {error}"))?;
        let nodes: Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| format!("listing nodes: {}", String::from_utf8_lossy(&output.stderr)))?;
        let name = |node: &Value| node["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
        // The lab calls the node on this machine's own kernel `lab` or `native`.
        let kind = |name: &str| if name == "guest" { "guest" } else { "native" }.to_owned();
        let nodes = nodes.iter().map(|node| (kind(&name(node)), name(node))).collect();
        Ok(Self { home: Node::Guest, nodes, shared: OnceLock::new(), turn: Mutex::new(()) })
    }

    /// The same for tests of that node.
    pub fn on(&self, home: Node) -> Self {
        Self { home, nodes: self.nodes.clone(), shared: OnceLock::new(), turn: Mutex::new(()) }
    }

    /// A command as root on the tests' node.
    pub fn node(&self, command: &[&str]) -> Output {
        let home = self.home.to_string();
        lab(&[&["node", &home, "--"], command].concat())
    }

    /// `ctr` on the tests' node, for its kubelet's images.
    pub fn containerd(&self, args: &[&str]) -> Output {
        let socket = match self.home {
            Node::Guest => "/run/lab/containerd.sock",
            Node::Native => "/var/lib/pod-chaos-lab/containerd.sock",
        };
        self.node(&[&["ctr", "--address", socket, "-n", "k8s.io"], args].concat())
    }

    /// Whether its tests run on that node.
    pub fn is(&self, node: Node) -> bool {
        self.home == node
    }

    /// What `disrupt` uses there.
    pub fn backend(&self) -> Backend {
        match (FORCED.as_deref(), self.home) {
            (Some("prio"), _) => Backend::Prio,
            (Some("userspace"), _) | (None, Node::Native) => Backend::Userspace,
            (Some("netem"), _) | (None, Node::Guest) => Backend::Netem,
            (Some(other), _) => {
                panic!("POD_CHAOS_BACKEND is netem, prio or userspace, not {other}")
            }
        }
    }

    /// Whether it has such a node.
    pub fn has(&self, node: Node) -> bool {
        self.node_name(node).is_some()
    }

    /// The Kubernetes name of that node.
    pub fn node_name(&self, node: Node) -> Option<&str> {
        let kind = node.to_string();
        self.nodes.iter().find(|(found, _)| *found == kind).map(|(_, name)| name.as_str())
    }

    /// The IPv4 address of the tests' node.
    pub fn address(&self) -> Option<String> {
        let path = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
        let output = kubectl(&["get", "node", self.node_name(self.home)?, "-o", path]);
        let addresses = String::from_utf8_lossy(&output.stdout).into_owned();
        addresses.split_whitespace().find(|ip| ip.contains('.')).map(str::to_owned)
    }

    /// The pod `nginx` of a namespace that tests share, one after another: it is the next one's when the last
    /// value is dropped.
    pub fn shared(&self) -> Outcome<(&Namespace, Pod, MutexGuard<'_, ()>)> {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.get().is_none() {
            let space = self.namespace(&json!({}))?;
            space.nginx("nginx")?;
            self.shared.get_or_init(|| space);
        }
        let space = self.shared.get().ok_or("no shared namespace")?;
        Ok((space, Pod { namespace: space.name.clone(), name: "nginx".to_owned() }, turn))
    }

    /// Gives back what tests shared.
    pub fn finish(&self) {
        if let Some(space) = self.shared.get() {
            space.delete();
        }
    }

    /// A namespace for one test; it goes with the value.
    pub fn namespace(&self, labels: &Value) -> Outcome<Namespace> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("e2e-{}-{count}", std::process::id());
        let node = self.node_name(self.home).map(str::to_owned);
        let namespace = Namespace { node, name: name.clone() };
        apply(&json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels},
        }))?;
        // Pods are refused until the controller has made the account.
        wait_for("the namespace's service account", Duration::from_secs(20), || {
            kubectl(&["get", "serviceaccount", "default", "-n", &name]).status.success()
        })?;
        Ok(namespace)
    }
}

/// A namespace of the test's own.
pub struct Namespace {
    /// The node of its pods.
    pub node: Option<String>,
    pub name: String,
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.delete();
    }
}

impl Namespace {
    fn delete(&self) {
        kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }

    /// A pod that serves HTTP with nginx, running.
    pub fn nginx(&self, name: &str) -> Outcome<Pod> {
        self.pod(name, &json!({}))
    }

    /// The same with `change` merged into it.
    pub fn pod(&self, name: &str, change: &Value) -> Outcome<Pod> {
        self.create(name, change)?;
        self.running(name)
    }

    /// Creates it and does not wait.
    pub fn create(&self, name: &str, change: &Value) -> Outcome {
        let mut pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": self.name, "labels": {"app": name}},
            "spec": {
                "nodeName": self.node,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "nginx",
                    "image": "localhost/nginx:lab",
                    "imagePullPolicy": "IfNotPresent",
                }],
            },
        });
        merge(&mut pod, change);
        apply(&pod)
    }

    /// Waits until that pod runs and answers.
    pub fn running(&self, name: &str) -> Outcome<Pod> {
        let pod = format!("pod/{name}");
        let ready = ["wait", "--for=condition=Ready", &pod, "-n", &self.name, "--timeout=60s"];
        let output = kubectl(&ready);
        check!(output.status.success(), "{name} is not ready: {}", text(&output));
        let pod = Pod { namespace: self.name.clone(), name: name.to_owned() };
        let address = pod.address()?;
        wait_for("the pod to answer pings", Duration::from_secs(10), || {
            run("ping", &["-c1", "-W1", &address]).status.success()
        })?;
        Ok(pod)
    }

    /// The plugin, in this namespace.
    pub fn plugin(&self, args: &[&str]) -> Output {
        plugin(&self.with_namespace(args)).output().expect("kubectl pod-chaos runs")
    }

    /// The plugin, running on; ready once it has said that the fault is in force.
    pub fn start(&self, args: &[&str]) -> Outcome<Running> {
        self.start_with(args, |_| false)
    }

    /// The same, after lines that are passed over.
    pub fn start_with(&self, args: &[&str], passed_over: fn(&str) -> bool) -> Outcome<Running> {
        let mut running = self.spawn(args)?;
        let mut line = running.line()?;
        while passed_over(&line) {
            line = running.line()?;
        }
        if line.contains("in force") {
            return Ok(running);
        }
        let (exit, rest) = running.finish()?;
        Err(format!("not in force, exit {exit:?}: {line}{rest}").into())
    }

    /// The plugin, running on; whatever it has got to.
    pub fn spawn(&self, args: &[&str]) -> Outcome<Running> {
        let mut child = plugin(&self.with_namespace(args))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().map(BufReader::new).ok_or("no stdout")?;
        Ok(Running { child, stdout })
    }

    fn with_namespace<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        [args, &["-n", &self.name]].concat()
    }
}

/// `kubectl pod-chaos …`, found by kubectl on the PATH as a user's would be.
pub fn plugin(args: &[&str]) -> Command {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_kubectl-pod_chaos"));
    let folder = binary.parent().expect("a binary is in a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("kubectl");
    command.arg("pod-chaos").args(args).env("PATH", format!("{}:{path}", folder.display()));
    if let (Some(backend), Some(&"disrupt")) = (FORCED.as_deref(), args.first()) {
        command.args(["--backend", backend]);
    }
    command
}

/// A plugin that follows a fault. Killed with the test, if it still runs.
pub struct Running {
    pub child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// The next line of its stdout.
    pub fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line)
    }

    /// Sends it that signal.
    pub fn signal(&self, signal: &str) -> Outcome {
        let output = run("kill", &[&format!("-{signal}"), &self.child.id().to_string()]);
        check!(output.status.success(), "sending SIG{signal}: {}", text(&output));
        Ok(())
    }

    /// Waits for its end; exit code and the rest of what it said.
    pub fn finish(mut self) -> Outcome<(Option<i32>, String)> {
        let mut rest = String::new();
        while self.stdout.read_line(&mut rest)? > 0 {}
        let mut errors = String::new();
        if let Some(stderr) = &mut self.child.stderr {
            stderr.read_to_string(&mut errors)?;
        }
        let status = self.child.wait()?;
        Ok((status.code(), rest + &errors))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A pod that runs.
pub struct Pod {
    pub namespace: String,
    pub name: String,
}

impl Pod {
    /// The pod as the API server has it.
    pub fn read(&self) -> Outcome<Value> {
        let output = kubectl(&["get", "pod", &self.name, "-n", &self.namespace, "-o", "json"]);
        check!(output.status.success(), "reading {}: {}", self.name, text(&output));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Its first address.
    pub fn address(&self) -> Outcome<String> {
        let pod = self.read()?;
        Ok(pod["status"]["podIP"].as_str().ok_or("the pod has no address")?.to_owned())
    }

    /// Its addresses, of both families.
    pub fn addresses(&self) -> Outcome<Vec<String>> {
        let pod = self.read()?;
        let addresses = pod["status"]["podIPs"].as_array().cloned().unwrap_or_default();
        Ok(addresses.iter().filter_map(|ip| ip["ip"].as_str().map(str::to_owned)).collect())
    }

    /// Names of its ephemeral containers.
    pub fn ephemeral(&self) -> Outcome<Vec<String>> {
        let pod = self.read()?;
        let list = pod["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or_default();
        Ok(list.iter().filter_map(|one| one["name"].as_str().map(str::to_owned)).collect())
    }

    /// The newest of our agents.
    pub fn agent(&self) -> Outcome<String> {
        // The API server puts what a PATCH adds at the head of the list.
        let ours = self.ephemeral()?.into_iter().find(|name| name.starts_with("pod-chaos-net-"));
        Ok(ours.ok_or("the pod has no agent")?)
    }

    /// What a command says in the pod's network, with the node's own binaries.
    pub fn run(&self, command: &[&str]) -> Outcome<String> {
        let place = format!("{}/{}", self.namespace, self.name);
        let output = lab(&[&["pod", &place, "--"], command].concat());
        check!(output.status.success(), "{command:?} in {place}: {}", text(&output));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same of one that says JSON.
    pub fn look(&self, command: &[&str]) -> Outcome<Value> {
        let said = self.run(command)?;
        if said.trim().is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&said)?) }
    }

    /// Links of the pod's network.
    pub fn links(&self) -> Outcome<Value> {
        Ok(brief(self.look(&["ip", "-j", "link"])?))
    }

    /// Links, qdiscs and tables of the pod's network.
    pub fn network(&self) -> Outcome<String> {
        let script = "ip -j link; tc -j qdisc; nft -j list ruleset";
        let place = format!("{}/{}", self.namespace, self.name);
        let output = lab(&["pod", &place, "--", "sh", "-ec", script]);
        check!(output.status.success(), "{script} in {place}: {}", text(&output));
        let parts = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
        let [links, qdiscs, rules] = parts
            .collect::<Result<Vec<_>, _>>()?
            .try_into()
            .map_err(|_| format!("{script} in {place}: {}", text(&output)))?;
        let rules = rules["nftables"].as_array().cloned().unwrap_or_default();
        let rules: Vec<_> = rules.iter().filter(|item| item.get("metainfo").is_none()).collect();
        Ok(format!("{}\n{qdiscs}\n{}", brief(links), json!(rules)))
    }

    /// Process id, on its node, of the main process of a container.
    pub fn pid(&self, container: &str) -> Outcome<String> {
        let output = lab(&["pid", &format!("{}/{}", self.namespace, self.name), container]);
        check!(output.status.success(), "pid of {container}: {}", text(&output));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Round trips to the pod, sent every 5 ms until [`Pings::finish`].
    pub fn trace(&self) -> Outcome<Pings> {
        let address = self.address()?;
        // Not a pipe: that would fill up and hold ping back.
        let output = tempfile::tempfile()?;
        let child = Command::new("ping")
            .args(["-D", "-n", "-I", observer(&address), "-i", "0.005", "-w", "60", &address])
            .stdout(output.try_clone()?)
            .spawn()?;
        Ok(Pings { child, output })
    }

    /// The median of ten round trips, in milliseconds.
    pub fn ping(&self) -> Outcome<f64> {
        ping(&self.address()?)
    }
}

/// What does not change of links by itself.
fn brief(mut links: Value) -> Value {
    for link in links.as_array_mut().into_iter().flatten() {
        *link = json!([link["ifname"], link["operstate"], link["qdisc"], link["mtu"]]);
    }
    links
}

/// The median of ten round trips to an address, in milliseconds.
pub fn ping(address: &str) -> Outcome<f64> {
    let from = observer(address);
    let output = run("ping", &["-n", "-I", from, "-i", "0.02", "-c", "10", "-w", "8", address]);
    let mut times: Vec<f64> =
        String::from_utf8_lossy(&output.stdout).lines().filter_map(round_trip).collect();
    check!(times.len() >= 8, "{address} answered {} of 10 pings", times.len());
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// The observer of an address, of the same version.
fn observer(address: &str) -> &'static str {
    if address.contains(':') { OBSERVER6 } else { OBSERVER4 }
}

fn round_trip(line: &str) -> Option<f64> {
    line.split_once("time=")?.1.split_whitespace().next()?.parse().ok()
}

/// A running `ping`.
pub struct Pings {
    child: Child,
    output: File,
}

/// One round trip: when it was sent, in seconds, and how long it took, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct RoundTrip {
    pub sent: f64,
    pub took: f64,
}

impl Pings {
    /// Stops; the round trips in the order they were sent.
    pub fn finish(mut self) -> Outcome<Vec<RoundTrip>> {
        run("kill", &["-INT", &self.child.id().to_string()]);
        self.child.wait()?;
        let mut stdout = String::new();
        self.output.rewind()?;
        self.output.read_to_string(&mut stdout)?;
        let mut trips: Vec<_> = stdout
            .lines()
            .filter_map(|line| {
                let received: f64 = line.strip_prefix('[')?.split_once(']')?.0.parse().ok()?;
                let took = round_trip(line)?;
                Some(RoundTrip { sent: received - took / 1000.0, took })
            })
            .collect();
        trips.sort_by(|a, b| a.sent.total_cmp(&b.sent));
        check!(trips.len() > 100, "only {} pings were answered", trips.len());
        Ok(trips)
    }
}

/// For how long packets took at least `delay` milliseconds, in seconds, by the times they were sent:
/// the longest run of such packets, up to the first that was quicker.
///
/// A busy machine can make a packet slow, but none quicker than netem lets it go.
pub fn slow_for(trips: &[RoundTrip], delay: f64) -> Outcome<f64> {
    let mut longest = 0.0_f64;
    let mut since = None;
    for trip in trips {
        if trip.took >= delay {
            since.get_or_insert(trip.sent);
        } else if let Some(since) = since.take() {
            longest = longest.max(trip.sent - since);
        }
    }
    let last = trips[trips.len() - 1];
    let unended = since.map_or(0.0, |since| last.sent - since);
    check!(
        longest > unended,
        "slow for {longest} s, and for {unended} s up to the last of {} packets, which took {} ms",
        trips.len(),
        last.took
    );
    Ok(longest)
}

/// Since when packets took at least `delay` milliseconds, by the time the first of them was sent: most of those right
/// after it did so too.
pub fn slow_from(trips: &[RoundTrip], delay: f64) -> Option<f64> {
    let mut windows = trips.windows(20);
    let begins = windows.find(|window| {
        let slow = window.iter().filter(|trip| trip.took >= delay).count();
        window[0].took >= delay && slow >= 15
    });
    begins.map(|window| window[0].sent)
}

/// Milliseconds a request, as `ab -n 10 -k` sees it from that pod.
pub fn ab(from: &Pod, url: &str) -> Outcome<f64> {
    let output = kubectl(&[
        "exec",
        &from.name,
        "-n",
        &from.namespace,
        "--",
        "ab",
        "-q",
        "-n",
        "10",
        "-k",
        url,
    ]);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    check!(stdout.contains("Failed requests:        0"), "ab {url}: {}", text(&output));
    let line = stdout.lines().find(|line| line.starts_with("Time per request"));
    let time = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    Ok(time.ok_or("ab printed no time")?)
}

/// A command on the lab's tool, `scripts/lab`.
pub fn lab(args: &[&str]) -> Output {
    run(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab"), args)
}

/// kubectl, as the lab's administrator.
pub fn kubectl(args: &[&str]) -> Output {
    run("kubectl", args)
}

/// `kubectl apply` of one object.
pub fn apply(object: &Value) -> Outcome {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("object.json");
    std::fs::write(&path, object.to_string())?;
    let output = kubectl(&["apply", "-f", &path.to_string_lossy()]);
    check!(output.status.success(), "applying {object}: {}", text(&output));
    Ok(())
}

pub fn run(program: &str, args: &[&str]) -> Output {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("running {program}: {error}"))
}

/// Both streams of a command, for messages.
pub fn text(output: &Output) -> String {
    format!(
        "exit {:?}\n{}{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Asks every 100 ms until it holds.
pub fn wait_for(what: &str, longest: Duration, mut holds: impl FnMut() -> bool) -> Outcome {
    let start = Instant::now();
    while !holds() {
        check!(start.elapsed() < longest, "waited {longest:?} in vain for {what}");
        sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}
