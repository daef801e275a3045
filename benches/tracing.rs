//! How much slower nginx serves while its system calls are traced, by the agent and by strace, in the same run and
//! in a network namespace of its own. Needs root, cgroups, nginx, wrk and strace, and no lab.

mod running;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode},
    thread::sleep,
    time::{Duration, Instant},
};

use running::{Agent, ID, Outcome, Running, median};

use serde_json::{Value, json};

/// Says that this process is in a network namespace of its own.
const INSIDE: &str = "POD_CHAOS_BENCH_INSIDE";
const ROUNDS: usize = 9;

/// What is traced, and how strace is told the same.
struct Case {
    figure: &'static str,
    ours: Value,
    strace: &'static [&'static str],
    reach: &'static str,
}

fn cases() -> [Case; 3] {
    [
        Case {
            figure: "no call of nginx is chosen",
            ours: json!({ "calls": ["swapon"], "error": "EPERM" }),
            strace: &["-e", "inject=swapon:error=EPERM"],
            reach: "≤ 0.7 ×",
        },
        Case {
            figure: "its opening of other files",
            ours: json!({ "calls": ["open"], "error": "EPERM", "paths": ["/nonexistent"] }),
            strace: &["-P", "/nonexistent", "-e", "inject=open,openat,openat2,creat:error=EPERM"],
            reach: "< 1 ×",
        },
        Case {
            figure: "all its calls about descriptors, none of them in turn",
            ours: json!({ "calls": ["%desc"], "error": "EPERM", "when": "60000.." }),
            strace: &["-e", "trace=%desc", "-e", "inject=%desc:error=EPERM:when=60000+"],
            reach: "< 1 ×",
        },
    ]
}

fn main() -> ExitCode {
    if std::env::var_os(INSIDE).is_none() {
        let own = std::env::current_exe().expect("a path of its own");
        let line = format!("ip link set lo up && exec {}", own.display());
        let status =
            Command::new("unshare").args(["--net", "sh", "-c", &line]).env(INSIDE, "1").status();
        return if status.is_ok_and(|status| status.success()) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Outcome {
    let agent = std::env::var("POD_CHAOS_AGENT")?;
    let nginx = Nginx::start()?;
    println!("| figure | measured | reference, same run | to reach |\n|---|---|---|---|");
    for case in cases() {
        // Each round for itself: what else the machine does changes from one to the next.
        let mut rounds = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            let clean = requests_per_second()?;
            let mut tracing = Agent::start(&agent)?;
            tracing.ask(&json!({ "syscall": case.ours }))?;
            let ours = requests_per_second()?;
            tracing.end()?;
            let tracing = nginx.traced_by_strace(case.strace)?;
            let strace = requests_per_second()?;
            tracing.end()?;
            for (samples, one) in
                rounds.iter_mut().zip([clean, clean / ours, clean / strace, strace / ours])
            {
                samples.push(one);
            }
        }
        let [clean, slower, reference, ratio] = rounds.map(median);
        println!(
            "| nginx traced, {} | {slower:.2} × slower, {ratio:.2} × | `strace -f`: {reference:.2} × slower \
             ({clean:.0} requests/s untraced) | {} |",
            case.figure, case.reach
        );
    }
    Ok(())
}

fn requests_per_second() -> Outcome<f64> {
    let output =
        Command::new("wrk").args(["-t1", "-c4", "-d1s", "http://127.0.0.1:8080/"]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    Ok(rate.ok_or_else(|| format!("wrk: {text}"))?.trim().parse()?)
}

/// nginx with one worker, in a control group of its own.
struct Nginx {
    child: Child,
    folder: PathBuf,
    group: PathBuf,
}

impl Nginx {
    fn start() -> Outcome<Self> {
        let folder = std::env::temp_dir().join(format!("pod-chaos-bench-{}", std::process::id()));
        fs::create_dir_all(folder.join("html"))?;
        fs::write(folder.join("html/index.html"), "x".repeat(600))?;
        let path = folder.display();
        let configuration = format!(
            "daemon off; worker_processes 1; pid {path}/pid; error_log {path}/error;\n\
             events {{}} http {{ access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
             fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n\
             server {{ listen 127.0.0.1:8080; root {path}/html; }} }}"
        );
        fs::write(folder.join("nginx.conf"), configuration)?;
        let root = Path::new("/sys/fs/cgroup");
        let unified = root.join("cgroup.procs").exists();
        let group = if unified { root.join(ID) } else { root.join("cpu").join(ID) };
        fs::create_dir_all(&group)?;
        let line = format!(
            "echo $$ >{}/cgroup.procs; exec nginx -e {path}/error -c {path}/nginx.conf",
            group.display()
        );
        let child = Command::new("sh").args(["-c", &line]).spawn()?;
        let nginx = Self { child, folder, group };
        let begun = Instant::now();
        while !requests_per_second().is_ok_and(|rate| rate > 0.0) {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err("nginx does not answer".into());
            }
        }
        Ok(nginx)
    }

    /// Its processes.
    fn pids(&self) -> Outcome<Vec<String>> {
        let pids = fs::read_to_string(self.group.join("cgroup.procs"))?;
        Ok(pids.lines().map(str::to_owned).collect())
    }

    fn traced_by_strace(&self, options: &[&str]) -> Outcome<Running> {
        let pids = self.pids()?;
        let each = pids.iter().flat_map(|pid| ["-p", pid]);
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null"]).args(options).args(each);
        let tracer = Running(command.spawn()?);
        let begun = Instant::now();
        let is_traced = |pid: &String| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        };
        while !pids.iter().all(is_traced) {
            if begun.elapsed() > Duration::from_secs(10) {
                return Err("strace does not trace".into());
            }
            sleep(Duration::from_millis(1));
        }
        Ok(tracer)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-s", "TERM", &pid]).status();
        let _ = self.child.wait();
        let _ = fs::remove_dir(&self.group);
        let _ = fs::remove_dir_all(&self.folder);
    }
}
