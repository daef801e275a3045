//! How exactly processor time and memory are used up, and how fast a thousand threads stand still, by the files of
//! control groups and /proc, with stress-ng and SIGSTOP doing the same in the same run. Needs root, cgroups and
//! stress-ng, and no lab.

mod running;

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, ExitCode},
    thread::sleep,
    time::{Duration, Instant},
};

use running::{Agent, ID, Outcome, Running, median, signal};
use serde_json::{Value, json};

/// Says that this process is the one with many threads.
const THREADED: &str = "POD_CHAOS_BENCH_THREADED";
const THREADS: usize = 1000;
const ROUNDS: usize = 5;
/// How long processor time is looked at.
const WINDOW: Duration = Duration::from_secs(2);
const LIMIT: u64 = 256 << 20;
/// What an app of the container's keeps meanwhile.
const KEPT: u64 = 40 << 20;

fn main() -> ExitCode {
    if std::env::var_os(THREADED).is_some() {
        stand_by();
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Many threads, and a line when all of them are there; until it is killed.
fn stand_by() -> ! {
    for _ in 1..THREADS {
        std::thread::spawn(|| {
            loop {
                sleep(Duration::from_secs(1));
            }
        });
    }
    println!("ready");
    loop {
        sleep(Duration::from_secs(1));
    }
}

fn measure() -> Outcome {
    let agent = std::env::var("POD_CHAOS_AGENT")?;
    println!("| figure | measured | reference, same run | to reach |\n|---|---|---|---|");
    for percent in [10, 50, 90] {
        processor(&agent, percent)?;
    }
    for percent in [50, 80, 95] {
        memory(&agent, percent)?;
    }
    pause(&agent)
}

fn processor(agent: &str, percent: u32) -> Outcome {
    let mut rounds = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        let group = Group::new()?;
        // What else the machine does is not what is measured: the most that there is (cgroups(7)).
        for (file, most) in [("cpu.shares", "262144"), ("cpu.weight", "10000")] {
            let _ = group.write(&[file], most);
        }
        let load = json!({ "share": { "percent": format!("{percent}%"), "of": "core" } });
        let burner = group.burden(agent, &json!({ "burn-cpu": { "load": load } }))?;
        rounds[0].push(off(group.cores_used()?, percent));
        burner.end()?;
        let load = percent.to_string();
        let stress = group.start("stress-ng", &["-q", "--cpu", "1", "--cpu-load", &load])?;
        // It calibrates itself first.
        sleep(Duration::from_millis(500));
        rounds[1].push(off(group.cores_used()?, percent));
        stress.end()?;
    }
    let [ours, reference] = rounds.map(median);
    println!(
        "| `burn cpu --percent {percent}% --of core`, off by | {ours:.2} % of what was asked | `stress-ng --cpu-load`: \
         {reference:.2} % | ± 3 % |"
    );
    Ok(())
}

/// By how many percent of what was asked a number of processors is off.
fn off(cores: f64, percent: u32) -> f64 {
    (cores * 100.0 / f64::from(percent) - 1.0).abs() * 100.0
}

fn memory(agent: &str, percent: u64) -> Outcome {
    let mut rounds = [const { Vec::new() }; 2];
    let asked = LIMIT * percent / 100;
    for _ in 0..ROUNDS {
        let group = Group::new()?;
        group.write(&["memory.limit_in_bytes", "memory.max"], &LIMIT.to_string())?;
        let keep = format!("(head -c {KEPT} /dev/zero; cat) | tail -c {KEPT} >/dev/null");
        let app = group.start("sh", &["-c", &keep])?;
        settle(&group)?;
        let load = json!({ "to": format!("{percent}%") });
        let burn = json!({ "burn-memory": { "load": load, "allow-node-pressure": true } });
        let holder = group.burden(agent, &burn)?;
        rounds[0].push(off_limit(group.memory_used()?, asked));
        holder.end()?;
        let bytes = asked.saturating_sub(group.memory_used()?).to_string();
        let stress =
            group.start("stress-ng", &["-q", "--vm", "1", "--vm-keep", "--vm-bytes", &bytes])?;
        settle(&group)?;
        rounds[1].push(off_limit(group.memory_used()?, asked));
        stress.end()?;
        app.end()?;
    }
    let [ours, reference] = rounds.map(median);
    println!(
        "| `burn memory --to {percent}%` of 256 MiB beside an app, off by | {ours:.2} % of the limit | `stress-ng \
         --vm-bytes`, told what is left: {reference:.2} % | ± 2 % |"
    );
    Ok(())
}

fn off_limit(used: u64, asked: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let share = |bytes: u64| bytes as f64 * 100.0 / LIMIT as f64;
    (share(used) - share(asked)).abs()
}

/// Waits until what is used has stopped to grow.
fn settle(group: &Group) -> Outcome {
    let mut before = 0;
    for _ in 0..100 {
        sleep(Duration::from_millis(200));
        let now = group.memory_used()?;
        if now.abs_diff(before) < LIMIT / 1000 && now > LIMIT / 100 {
            return Ok(());
        }
        before = now;
    }
    Err("what is used does not settle".into())
}

fn pause(agent: &str) -> Outcome {
    let mut rounds = [const { Vec::new() }; 2];
    let group = Group::new()?;
    let own = std::env::current_exe()?;
    let mut threaded = group.start(own.to_str().ok_or("no path")?, &[])?;
    let mut line = String::new();
    BufReader::new(threaded.0.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
    let pid = threaded.0.id();
    for _ in 0..ROUNDS {
        let mut pausing = Agent::start(agent)?;
        let begun = Instant::now();
        pausing.ask(&json!("pause"))?;
        rounds[0].push(begun.elapsed().as_secs_f64() * 1000.0);
        if states(pid)?.iter().any(|state| state != "t") {
            return Err("a thread runs".into());
        }
        pausing.end()?;
        let begun = Instant::now();
        signal("STOP", pid)?;
        while states(pid)?.iter().any(|state| state != "T") {}
        rounds[1].push(begun.elapsed().as_secs_f64() * 1000.0);
        signal("CONT", pid)?;
        while states(pid)?.iter().any(|state| state == "T") {}
    }
    threaded.end()?;
    let [ours, reference] = rounds.map(median);
    println!(
        "| `pause` of {THREADS} threads, until all stand still and are read back | {ours:.1} ms | SIGSTOP, until /proc \
         says so of all: {reference:.1} ms | |"
    );
    Ok(())
}

/// The state of each thread, as a letter (proc_pid_stat(5)).
fn states(pid: u32) -> Outcome<Vec<String>> {
    let mut states = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(thread?.path().join("stat"))?;
        let (_, rest) = stat.rsplit_once(") ").ok_or("no state")?;
        states.push(rest[..1].to_owned());
    }
    Ok(states)
}

/// A control group, of version 2 or of each controller of version 1.
struct Group(Vec<PathBuf>);

impl Group {
    fn new() -> Outcome<Self> {
        let root = PathBuf::from("/sys/fs/cgroup");
        let folders = if root.join("cgroup.procs").exists() {
            // Of the root itself, which may have processes all the same.
            let _ = fs::write(root.join("cgroup.subtree_control"), "+cpu +memory");
            vec![root.join(ID)]
        } else {
            ["cpu", "cpuacct", "memory"].map(|one| root.join(one).join(ID)).to_vec()
        };
        for folder in &folders {
            fs::create_dir_all(folder)?;
        }
        Ok(Self(folders))
    }

    /// Starts a program in it.
    fn start(&self, program: &str, args: &[&str]) -> Outcome<Running> {
        let join =
            self.0.iter().map(|folder| format!("echo $$ >{}/cgroup.procs; ", folder.display()));
        let line = format!("{}exec \"$0\" \"$@\"", join.collect::<String>());
        let mut command = Command::new("sh");
        Running::start(command.args(["-c", &line, program]).args(args).env(THREADED, "1"))
    }

    /// Starts an agent in it, with a fault in force.
    fn burden(&self, agent: &str, fault: &Value) -> Outcome<Agent> {
        let mut agent = Agent::of(self.start(agent, &["serve"])?)?;
        agent.ask(fault)?;
        Ok(agent)
    }

    fn write(&self, files: &[&str], text: &str) -> Outcome {
        for file in self.0.iter().flat_map(|folder| files.iter().map(|name| folder.join(name))) {
            if file.exists() {
                return Ok(fs::write(file, text)?);
            }
        }
        Err(format!("no {files:?}").into())
    }

    fn read(&self, file: &str) -> Option<String> {
        self.0.iter().find_map(|folder| fs::read_to_string(folder.join(file)).ok())
    }

    /// Processors that it uses, over a while.
    fn cores_used(&self) -> Outcome<f64> {
        let (start, before) = (Instant::now(), self.cpu_seconds()?);
        sleep(WINDOW);
        Ok((self.cpu_seconds()? - before) / start.elapsed().as_secs_f64())
    }

    fn cpu_seconds(&self) -> Outcome<f64> {
        if let Some(nanos) = self.read("cpuacct.usage") {
            return Ok(nanos.trim().parse::<f64>()? / 1e9);
        }
        let stat = self.read("cpu.stat").ok_or("no cpu.stat")?;
        let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
        Ok(micros.ok_or("no usage")?.parse::<f64>()? / 1e6)
    }

    /// Memory that it uses, but for files that can be dropped, in bytes.
    fn memory_used(&self) -> Outcome<u64> {
        let all = self.read("memory.usage_in_bytes").or_else(|| self.read("memory.current"));
        let stat = self.read("memory.stat").ok_or("no memory.stat")?;
        let files = stat.lines().find_map(|line| {
            line.strip_prefix("total_inactive_file ").or(line.strip_prefix("inactive_file "))
        });
        let all: u64 = all.ok_or("no usage")?.trim().parse()?;
        Ok(all.saturating_sub(files.ok_or("no files")?.parse()?))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in &self.0 {
            let pids = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for pid in pids.lines() {
                let _ = Command::new("kill").args(["-s", "KILL", pid]).status();
            }
            let begun = Instant::now();
            while fs::remove_dir(folder).is_err() && begun.elapsed() < Duration::from_secs(5) {
                sleep(Duration::from_millis(10));
            }
        }
    }
}
