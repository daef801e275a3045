//! A container for tests: a control group with an id for a name, and namespaces of processes, network and IPC.
//! The app in it is this test binary again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use pod_chaos_protocol::{Event, ProcessStatus};
use serde_json::{Value, json};

use crate::pod::{Agent, agent_path, disturb, until};

/// Tells this binary to be an app, with so many threads.
const APP: &str = "POD_CHAOS_TEST_APP";

/// Becomes the app, if this process is to be one: threads that sleep and wake up, all the time.
pub fn be_app() {
    let Ok(threads) = std::env::var(APP) else { return };
    let threads: u64 = threads.parse().unwrap();
    for _ in 1..threads {
        thread::spawn(|| {
            loop {
                thread::sleep(Duration::from_millis(200));
            }
        });
    }
    loop {
        // One that is only made while others are being stopped is not to be missed.
        thread::spawn(|| thread::sleep(Duration::from_millis(5)));
        thread::sleep(Duration::from_millis(1));
    }
}

/// A container with an app.
pub struct Container {
    outer: Child,
    /// The app's process id, outside of its namespace.
    pub pid: Pid,
    pub id: String,
    pub groups: Vec<PathBuf>,
}

impl Container {
    /// With an app of so many threads.
    pub fn new(threads: u32) -> Self {
        Self::with(&app(threads)).ready(threads)
    }

    /// Another container of its pod, in the process namespace that they share, with an app of so many threads.
    pub fn sharing(&self, threads: u32) -> Self {
        self.sharing_with(&app(threads)).ready(threads)
    }

    /// The same with an app that a shell starts by these words.
    pub fn sharing_with(&self, script: &str) -> Self {
        let namespaces = format!("nsenter --target={} --pid --mount --net --ipc", self.pid);
        Self::begin(&namespaces, script)
    }

    fn ready(self, threads: u32) -> Self {
        until("threads", || (self.threads("State").len() >= threads as usize).then_some(()));
        self
    }

    /// With an app that a shell starts by these words.
    pub fn with(script: &str) -> Self {
        Self::begin("unshare --pid --net --ipc --fork --kill-child --mount-proc", script)
    }

    fn begin(namespaces: &str, script: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:08x}{count:08x}0badc0de", std::process::id());
        let groups = make_groups(&id);
        let join = join(&groups);
        let line = format!("{join} exec {namespaces} sh -c '{script}'");
        let outer = Command::new("sh").args(["-c", &line]).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let pid = until("the app", || {
            let pid = fs::read_to_string(&children).ok()?.trim().parse().ok()?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            let entered = !["unshare", "nsenter"].contains(&name.trim());
            entered.then_some(Pid::from_raw(pid))
        });
        Self { outer, pid, id, groups }
    }

    /// Who is meant, for a plan.
    pub fn target(&self) -> Value {
        json!({ "container": "app", "id": self.id })
    }

    /// The app's only child, once it runs this program.
    pub fn child(&self, program: &str) -> Pid {
        let path = format!("/proc/{0}/task/{0}/children", self.pid);
        until("the child", || {
            let pid = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            (name.trim() == program).then_some(Pid::from_raw(pid))
        })
    }

    /// Writes to the first file of its control groups that there is.
    pub fn set(&self, files: &[&str], text: &str) {
        let mut paths =
            self.groups.iter().flat_map(|group| files.iter().map(|file| group.join(file)));
        let path = paths.find(|path| path.exists()).expect("a control group with that file");
        fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Reads the first file of its control groups that there is.
    pub fn read(&self, files: &[&str]) -> String {
        let mut paths =
            self.groups.iter().flat_map(|group| files.iter().map(|file| group.join(file)));
        paths
            .find_map(|path| fs::read_to_string(path).ok())
            .expect("a control group with that file")
    }

    /// Starts a shell with these words as another process of the container; it ends with the value's owner.
    pub fn start_beside(&self, script: &str) -> Child {
        let namespaces = format!("nsenter --target={} --pid --mount --net --ipc", self.pid);
        let line = format!("{} exec {namespaces} sh -c '{script}'", join(&self.groups));
        Command::new("sh").args(["-c", &line]).stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Starts `serve` beside the app, as in a container of its own.
    pub fn agent(&self) -> Agent {
        self.start("")
    }

    /// Starts `serve` as in the app's own container.
    pub fn agent_in_its_group(&self) -> Agent {
        self.start(&join(&self.groups))
    }

    fn start(&self, first: &str) -> Agent {
        let namespaces = format!("nsenter --target={} --pid --mount --net --ipc", self.pid);
        let line = format!("{first} exec {namespaces} {} serve", agent_path());
        let mut command = Command::new("sh");
        command.args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut agent = Agent::new(command.spawn().unwrap());
        agent.hello();
        agent
    }

    /// Starts `serve` and asks for a fault; returns once it is in force.
    pub fn disturb(&self, plan: &Value) -> (Agent, ProcessStatus) {
        let mut agent = self.agent();
        agent.send(&disturb(plan));
        let found = agent.next();
        assert!(matches!(found, Some(Event::Found { .. })), "{found:?}");
        match agent.next() {
            Some(Event::ProcessInForce { status }) => (agent, status),
            other => panic!("{other:?} instead of in force"),
        }
    }

    /// Sends one request and returns all that is answered.
    pub fn ask(&self, request: &Value) -> Vec<Event> {
        let mut agent = self.agent();
        agent.send(request);
        agent.rest()
    }

    /// A field of `/proc/PID/status` for each thread of the app.
    pub fn threads(&self, field: &str) -> Vec<String> {
        let tasks =
            fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let read = |task: fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let line =
                status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
            Some(line.trim().to_owned())
        };
        tasks.filter_map(read).collect()
    }

    /// How often threads of the app have given up the processor so far.
    pub fn switches(&self) -> u64 {
        self.threads("voluntary_ctxt_switches")
            .iter()
            .map(|count| count.parse::<u64>().unwrap())
            .sum()
    }

    /// Whether any thread of the app ran within some time.
    pub fn runs(&self) -> bool {
        let before = self.switches();
        thread::sleep(Duration::from_millis(300));
        self.switches() != before
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = self.outer.wait();
        for group in &self.groups {
            for _ in 0..100 {
                match fs::remove_dir(group) {
                    Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                        thread::sleep(Duration::from_millis(10));
                    }
                    _ => break,
                }
            }
        }
    }
}

/// What a shell does to become an app.
fn app(threads: u32) -> String {
    format!("{APP}={threads} exec {}", std::env::current_exe().unwrap().display())
}

/// The process of an agent of a container's, and not that of the command that entered its namespaces.
pub fn pid_of(agent: &Agent) -> Pid {
    let path = format!("/proc/{0}/task/{0}/children", agent.child.id());
    Pid::from_raw(fs::read_to_string(path).unwrap().trim().parse().unwrap())
}

/// Kills it.
pub fn kill_agent(agent: &mut Agent) {
    kill(pid_of(agent), Signal::SIGKILL).unwrap();
    agent.child.wait().unwrap();
}

/// What a shell does to join control groups.
fn join(groups: &[PathBuf]) -> String {
    let join = |group: &PathBuf| format!("echo $$ >{}/cgroup.procs; ", group.display());
    groups.iter().map(join).collect::<Vec<_>>().concat()
}

/// Control groups with that name, of version 2 or else of each hierarchy that a runtime uses.
fn make_groups(id: &str) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let roots: Vec<_> = if root.join("cgroup.procs").exists() {
        let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu +memory +pids");
        vec![root.to_owned()]
    } else {
        ["pids", "cpu", "cpuacct", "memory"].map(|name| root.join(name)).to_vec()
    };
    let groups: Vec<_> = roots.iter().map(|root| root.join(id)).collect();
    for group in &groups {
        fs::create_dir(group).unwrap_or_else(|error| panic!("{}: {error}", group.display()));
    }
    groups
}
