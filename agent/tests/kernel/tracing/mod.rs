//! System calls that fail, are late or are followed by a signal, compared with what `strace` does to the same
//! program.

mod role;

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

pub use self::role::{NAME as ROLE, play};
use crate::{pod::until, requirement::tests};

tests! {
    Strace:
        errors_are_those_of_strace,
        invocations_are_those_of_strace,
        paths_are_those_of_strace,
        signals_are_those_of_strace,
        delays_are_those_of_strace,
        threads_and_children_are_those_of_strace;
    Python:
        descriptors_that_are_named_are_hit,
        files_that_another_user_has_open_are_found_by_path,
        calls_about_files_that_cannot_be_told_are_counted,
        the_same_seed_hits_the_same_calls_of_a_program,
        a_delay_holds_up_one_thread_and_no_other,
        calls_are_counted,
        a_program_with_a_filter_of_its_own_sees_the_error,
        nothing_is_left_of_a_fault_that_ends,
        nothing_is_left_of_a_killed_tracer,
        it_ends_at_its_deadline,
        what_waits_is_not_interrupted_by_the_end,
        a_stopped_program_stays_stopped,
        signals_get_through,
        a_program_ends_as_it_would,
        what_is_traced_already_is_refused;
}

/// A program that waits for its turn.
struct Target {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Target {
    /// Runs these lines of Python, and returns once they wait.
    fn new(lines: &str) -> Self {
        Self::by(Command::new("/usr/bin/python3"), lines)
    }

    /// The same with these options of setpriv(1).
    fn with_less(options: &[&str], lines: &str) -> Self {
        let mut command = Command::new("setpriv");
        command.args(options).arg("/usr/bin/python3");
        Self::by(command, lines)
    }

    fn by(mut command: Command, lines: &str) -> Self {
        let program = format!("{}\n{lines}", include_str!("target.py"));
        let mut child = command
            .args(["-I", "-c", &program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut target = Self { child, input, output };
        assert_eq!(target.line(), "ready");
        target
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Has it go on.
    fn go(&mut self) {
        self.input.write_all(b"\n").unwrap();
    }

    /// Has it go on, and returns what it says next.
    fn next(&mut self) -> String {
        self.go();
        self.line()
    }

    /// Who traces each of its threads.
    fn tracers(&self) -> BTreeSet<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let of = |task: fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let line = status.lines().find(|line| line.starts_with("TracerPid:"))?.to_owned();
            line.split_whitespace().nth(1)?.parse().ok()
        };
        tasks.flatten().filter_map(of).collect()
    }

    /// Its state, as `ps` prints it.
    fn state(&self) -> char {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }

    fn assert_untraced(&self) {
        assert_eq!(self.tracers(), BTreeSet::from([0]));
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Something that traces a target: the agent's tracer in a process of its own, or strace.
struct Tracer {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Tracer {
    /// The agent's, for this long.
    fn ours(target: &Target, fault: &Value, time: &str) -> Self {
        Self::by(Command::new(std::env::current_exe().unwrap()), target, fault, time)
    }

    /// The same with no capabilities but these.
    fn with_little(capabilities: &str, target: &Target, fault: &Value, time: &str) -> Self {
        let mut command = Command::new("setpriv");
        command
            .arg(format!("--bounding-set=-all{capabilities}"))
            .arg(std::env::current_exe().unwrap());
        Self::by(command, target, fault, time)
    }

    fn by(mut command: Command, target: &Target, fault: &Value, time: &str) -> Self {
        let mut child = command
            .args([role::NAME, &target.pid().to_string(), &fault.to_string(), time])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut tracer = Self { child, output: Some(output) };
        assert_eq!(tracer.line(), "in force");
        tracer
    }

    fn strace(target: &Target, options: &[&str]) -> Self {
        let pid = target.pid().to_string();
        let child = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null"])
            .args(options)
            .args(["-p", &pid])
            .spawn()
            .unwrap();
        until("strace", || (!target.tracers().contains(&0)).then_some(()));
        // It has seized the last thread, and lets it go on presently.
        until("a thread that waits for its turn", || (target.state() == 'S').then_some(()));
        Self { child, output: None }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.as_mut().unwrap().read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Ends it, and returns what it reports.
    fn end(mut self) -> Value {
        drop(self.child.stdin.take());
        self.report()
    }

    /// What it reports when it has ended.
    fn report(mut self) -> Value {
        let report: Value = serde_json::from_str(&self.line()).unwrap();
        assert_eq!(report["left"], json!([]), "{report}");
        report
    }

    fn sigkill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // strace lets go of its tracees on this; ours has ended, or a test has failed.
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// What a program says in its turn under the agent's tracer, which must be something else than it says
/// without, and what it says under strace.
fn compare(lines: &str, fault: &Value, strace: &[&str]) -> [String; 2] {
    let program = format!("turn()\n{lines}");
    let mut target = Target::new(&program);
    let tracer = Tracer::ours(&target, fault, "1m");
    let ours = target.next();
    tracer.end();
    let mut target = Target::new(&program);
    let _tracer = Tracer::strace(&target, strace);
    let theirs = target.next();
    assert_ne!(theirs, Target::new(&program).next(), "strace hits nothing");
    [ours, theirs]
}

fn assert_same(lines: &str, fault: &Value, strace: &[&str]) {
    let [ours, theirs] = compare(lines, fault, strace);
    assert_eq!(ours, theirs, "{fault}, {strace:?}");
}

const OPEN: &str = "say(tries(10, opening(FILE)))";

fn errors_are_those_of_strace() {
    for (call, error, lines) in [
        ("openat", "EACCES", OPEN),
        ("openat", "ENOSYS", OPEN),
        ("rename,renameat", "EIO", "say(result(lambda: os.rename('/nonexistent', '/x')))"),
        ("%network", "ENETDOWN", "import socket; say(result(socket.socket))"),
        ("pipe2", "EMFILE", "say(result(os.pipe))"),
    ] {
        let names: Vec<&str> = call.split(',').collect();
        let inject = format!("inject={call}:error={error}");
        assert_same(lines, &json!({ "calls": names, "error": error }), &["-e", &inject]);
    }
    // One name for all the calls that the C library may make of it.
    let inject = "inject=open,openat,openat2,creat:error=EPERM";
    assert_same(OPEN, &json!({ "calls": ["open"], "error": "EPERM" }), &["-e", inject]);
}

fn invocations_are_those_of_strace() {
    for (ours, theirs) in
        [("3", "3"), ("3..", "3+"), ("3..7", "3..7"), ("3..+2", "3+2"), ("3..8+2", "3..8+2")]
    {
        let fault = json!({ "calls": ["openat"], "error": "EACCES", "when": ours });
        let inject = format!("inject=openat:error=EACCES:when={theirs}");
        assert_same(OPEN, &fault, &["-e", &inject]);
    }
    // Each thread, and each child, counts for itself.
    let lines = "say(in_threads(3, lambda: tries(5, opening(FILE))) + in_child(lambda: tries(5, opening(FILE))))";
    let fault = json!({ "calls": ["openat"], "error": "EACCES", "when": "2..3" });
    assert_same(lines, &fault, &["-e", "inject=openat:error=EACCES:when=2..3"]);
}

fn paths_are_those_of_strace() {
    let lines = "
other = os.open('/etc/passwd', os.O_RDONLY)
os.chdir('/etc')
directory = os.open('/etc', os.O_RDONLY)
say(' '.join([result(opening('/etc/hosts')), result(opening('/etc/passwd')), result(opening('hosts', dir_fd=directory)),
    result(lambda: os.stat('/etc/hosts')), result(lambda: os.stat('/etc/passwd'))]))";
    let fault = json!({ "calls": ["%file"], "error": "EIO", "paths": ["/etc/hosts"] });
    // strace compares the words of an *at call that are not absolute with its own directory.
    let [ours, theirs] =
        compare(lines, &fault, &["-P", "/etc/hosts", "-e", "inject=%file:error=EIO"]);
    assert_eq!(ours, "EIO ok EIO EIO ok");
    assert!(theirs.starts_with("EIO ok ") && theirs.ends_with(" EIO ok"), "{theirs}");
    let lines = "
one, other = os.open('/etc/hosts', os.O_RDONLY), os.open('/etc/passwd', os.O_RDONLY)
say(result(lambda: os.read(one, 1)) + result(lambda: os.read(other, 1)))";
    let fault = json!({ "calls": ["read"], "error": "EIO", "paths": ["/etc/hosts"] });
    assert_same(lines, &fault, &["-P", "/etc/hosts", "-e", "inject=read:error=EIO"]);
    let mut target = Target::new(
        "os.chdir('/etc')\nturn()\nsay(' '.join(result(opening(p)) for p in ['./apt/../hosts', 'passwd', '/etc//hosts', '/etc/hostname']))",
    );
    let fault = json!({ "calls": ["open"], "error": "EIO", "paths": ["/etc/*sts"] });
    let tracer = Tracer::ours(&target, &fault, "1m");
    assert_eq!(target.next(), "EIO ok EIO ok");
    tracer.end();
}

fn signals_are_those_of_strace() {
    let lines = "
count = 0
def handle(*_):
    global count
    count += 1
signal.signal(signal.SIGUSR1, handle)
opened = tries(10, opening(FILE))
say(f'{opened} {count}')";
    let fault = json!({ "calls": ["openat"], "signal": "SIGUSR1", "when": "3..5" });
    assert_same(lines, &fault, &["-e", "inject=openat:signal=USR1:when=3..5"]);
}

/// A thread writes three bytes into a pipe, and the second call is late: before the byte is there, or after it.
fn delays_are_those_of_strace() {
    let lines = "
reader, writer = os.pipe()
took_each = []
def run():
    for _ in range(3):
        took_each.append(took(lambda: os.writev(writer, [b'x'])))
thread = threading.Thread(target=run)
turn()
begun = time.monotonic()
thread.start()
for _ in range(2):
    os.read(reader, 1)
say((time.monotonic() - begun) * 1000)
thread.join()
say(took_each[1])";
    let number = |target: &mut Target| target.line().parse::<f64>().unwrap();
    // The longer one is not waited for.
    for (kind, delay_ms) in [("enter", 250), ("exit", 20_000)] {
        let least = f64::from(delay_ms);
        let run = |mut target: Target, end: &mut dyn FnMut() -> u64| {
            target.go();
            let came = number(&mut target);
            let is_late = match kind {
                "enter" => came >= least && number(&mut target) >= least,
                _ => came < least,
            };
            assert!(is_late, "{kind}: the byte came after {came} ms");
            assert_eq!(end(), 1, "{kind}: calls that were late");
        };

        let target = Target::new(lines);
        let key = format!("delay-{kind}");
        let fault = json!({ "calls": ["writev"], key: format!("{delay_ms}ms"), "when": "2" });
        let mut tracer = Some(Tracer::ours(&target, &fault, "1m"));
        run(target, &mut || {
            tracer.take().unwrap().end()["counts"]["calls"][0]["hit"].as_u64().unwrap()
        });

        let target = Target::new(lines);
        let name = format!("pod-chaos-test-{}-{kind}", std::process::id());
        let log = std::env::temp_dir().join(name);
        let inject = format!("inject=writev:delay_{kind}={delay_ms}000:when=2");
        let options = ["-e", "trace=writev", "-e", &inject, "-o", log.to_str().unwrap()];
        let mut tracer = Some(Tracer::strace(&target, &options));
        run(target, &mut || {
            drop(tracer.take());
            let logged = fs::read_to_string(&log).unwrap();
            fs::remove_file(&log).unwrap();
            logged.matches("(DELAYED)").count() as u64
        });
    }
}

fn threads_and_children_are_those_of_strace() {
    let fault = json!({ "calls": ["openat"], "error": "EACCES", "paths": ["/etc/hosts"] });
    let strace = ["-P", "/etc/hosts", "-e", "inject=openat:error=EACCES"];
    for lines in [
        // New threads; a child by fork, and its child; by vfork, with another program in it.
        "say(in_threads(8, lambda: tries(5, opening(FILE))))",
        "say(in_child(lambda: in_child(lambda: tries(5, opening(FILE)))))",
        "say(subprocess.run(['cat', FILE], stderr=subprocess.DEVNULL).returncode)",
        // Another program in its stead, from its first thread and from another.
        "os.execv('/bin/sh', ['sh', '-c', 'cat /etc/hosts >/dev/null 2>&1; echo $?'])",
        "threading.Thread(target=lambda: os.execv('/bin/sh', ['sh', '-c', 'cat /etc/hosts >/dev/null 2>&1; echo $?'])).start(); time.sleep(60)",
    ] {
        assert_same(lines, &fault, &strace);
    }
    // Threads that were there before.
    let lines = "
go, done = threading.Event(), []
def run():
    go.wait()
    done.append(tries(5, opening(FILE)))
threads = [threading.Thread(target=run) for _ in range(8)]
for one in threads: one.start()
turn()
go.set()
for one in threads: one.join()
say('|'.join(done))";
    let mut target = Target::new(lines);
    let tracer = Tracer::ours(&target, &fault, "1m");
    assert_eq!(target.next(), ["EACCES EACCES EACCES EACCES EACCES"; 8].join("|"));
    tracer.end();
}

fn descriptors_that_are_named_are_hit() {
    let lines = "
one, other = os.open(FILE, os.O_RDONLY), os.open(FILE, os.O_RDONLY)
os.dup2(one, 100); os.dup2(other, 101)
turn()
say(result(lambda: os.read(100, 1)) + ' ' + result(lambda: os.read(101, 1)))";
    let mut target = Target::new(lines);
    let fault = json!({ "calls": ["%desc"], "error": "EIO", "descriptors": [100] });
    let tracer = Tracer::ours(&target, &fault, "1m");
    assert_eq!(target.next(), "EIO ok");
    tracer.end();
}

fn files_that_another_user_has_open_are_found_by_path() {
    // By another thread than the first, whose id is none of a process.
    let lines = "
one, other = os.open('/etc/hosts', os.O_RDONLY), os.open('/etc/passwd', os.O_RDONLY)
directory = os.open('/etc', os.O_RDONLY)
def reads():
    return ' '.join([result(lambda: os.read(one, 1)), result(lambda: os.read(other, 1)),
        result(opening('hosts', dir_fd=directory))])
turn()
say(in_threads(1, reads) + ' ' + reads())";
    let other = ["--reuid=1234", "--regid=4321", "--clear-groups"];
    let mut target = Target::with_less(&other, lines);
    let fault = json!({ "calls": ["read", "openat"], "error": "EIO", "paths": ["/etc/hosts"] });
    let tracer = Tracer::with_little(",+sys_ptrace", &target, &fault, "1m");
    assert_eq!(target.next(), "EIO ok EIO EIO ok EIO");
    assert_eq!(tracer.end()["counts"].get("unresolved"), None);
}

fn calls_about_files_that_cannot_be_told_are_counted() {
    // By the same user without a capability (Yama lets it trace who says so), until it may be dumped no longer
    // (PR_SET_PTRACER, PR_SET_DUMPABLE).
    let lines = "
one = os.open(FILE, os.O_RDONLY)
libc = ctypes.CDLL(None)
libc.prctl(0x59616d61, ctypes.c_ulong(-1))
def reads():
    return ' '.join([result(opening(FILE)), result(lambda: os.pread(one, 1, 0)), result(lambda: os.pread(99, 1, 0))])
turn()
before = reads()
libc.prctl(4, 0)
say(before + ' then ' + reads())";
    let mut target = Target::with_less(&["--bounding-set=-all"], lines);
    let fault = json!({ "calls": ["pread64", "openat"], "error": "EIO", "paths": ["/etc/hosts"] });
    let tracer = Tracer::with_little("", &target, &fault, "1m");
    assert_eq!(target.next(), "EIO EIO EBADF then ok ok EBADF");
    let counts = &tracer.end()["counts"];
    assert_eq!(counts["unresolved"], 2, "{counts}");
}

fn the_same_seed_hits_the_same_calls_of_a_program() {
    let run = |seed: u32| {
        let mut target = Target::new("turn()\nsay(tries(60, opening(FILE)))");
        let fault =
            json!({ "calls": ["open"], "error": "EIO", "probability": "50%", "seed": seed });
        let tracer = Tracer::ours(&target, &fault, "1m");
        let said = target.next();
        tracer.end();
        said
    };
    let first = run(7);
    assert!(first.contains("ok") && first.contains("EIO"), "{first}");
    assert_eq!(first, run(7));
    assert_ne!(first, run(8));
}

fn a_delay_holds_up_one_thread_and_no_other() {
    for kind in ["delay-enter", "delay-exit"] {
        let lines = "
path = '/tmp/none-of-this-name'
slow = []
thread = threading.Thread(target=lambda: slow.append(took(lambda: result(opening(path)))))
turn()
thread.start()
quick = 0
while thread.is_alive():
    os.stat('/')
    quick += 1
thread.join()
say(f'{slow[0]} {quick}')";
        let mut target = Target::new(lines);
        let fault = json!({ "calls": ["open"], "paths": ["/tmp/none*"], kind: "400ms" });
        let tracer = Tracer::ours(&target, &fault, "1m");
        let said = target.next();
        let (slow, quick) = said.split_once(' ').unwrap();
        let (slow, quick): (f64, u32) = (slow.parse().unwrap(), quick.parse().unwrap());
        assert!(slow >= 400.0, "{kind}: {slow} ms");
        assert!(quick > 20, "{kind}: {quick} calls of another thread meanwhile");
        tracer.end();
    }
}

fn calls_are_counted() {
    let mut target = Target::new("turn()\nsay(tries(10, opening(FILE)))\nturn()");
    let fault = json!({ "calls": ["open", "statx"], "error": "EIO", "when": "3..+2" });
    let tracer = Tracer::ours(&target, &fault, "1m");
    assert_eq!(target.next(), "ok ok EIO ok EIO ok EIO ok EIO ok");
    assert_eq!(target.line(), "ready");
    let report = tracer.end();
    let call = &report["counts"]["calls"][0];
    assert!(call["took-us"].as_u64().is_some_and(|took| took > 0), "{report}");
    let counted =
        json!({ "call": "openat", "seen": 10, "hit": 4, "ended": 10, "took-us": call["took-us"] });
    assert_eq!(report["counts"], json!({ "calls": [counted] }));
    assert_eq!(report["end"], "Stopped");
}

fn a_program_with_a_filter_of_its_own_sees_the_error() {
    let mut target = Target::new("filter_calls()\nturn()\nsay(tries(10, opening(FILE)))");
    let fault = json!({ "calls": ["open"], "error": "EACCES", "when": "2.." });
    let tracer = Tracer::ours(&target, &fault, "1m");
    assert_eq!(target.next(), format!("ok{}", " EACCES".repeat(9)));
    tracer.end();
}

/// A program that does nothing but what is to fail, in threads. It goes on once it has failed, and then says
/// with which results, and with which ones after the fault.
const BUSY: &str = "
seen, over, stop = [set(), set()], False, False
def run():
    while not stop:
        seen[over].add(result(opening(FILE)))
threads = [threading.Thread(target=run) for _ in range(3)]
for one in threads: one.start()
while not seen[0]: time.sleep(0.001)
turn()
while 'EACCES' not in seen[0]: time.sleep(0.001)
turn()
over = True
while not seen[1]: time.sleep(0.001)
stop = True
for one in threads: one.join()
say(' '.join(sorted(seen[0])) + ' then ' + ' '.join(sorted(seen[1])))
";

fn nothing_is_left_of_a_fault_that_ends() {
    for round in 0..5 {
        let filter = if round % 2 == 0 { "filter_calls()\n" } else { "" };
        let mut target = Target::new(&format!("{filter}{BUSY}"));
        let fault = json!({ "calls": ["open"], "error": "EACCES" });
        let tracer = Tracer::ours(&target, &fault, "1m");
        assert_eq!(target.next(), "ready");
        tracer.end();
        target.assert_untraced();
        // The first of them were before the fault.
        assert_eq!(target.next(), "EACCES ok then ok", "round {round}");
    }
}

fn nothing_is_left_of_a_killed_tracer() {
    // Without a filter of the program's own: with one the call that was just being taken from it may come
    // back as ENOSYS, once.
    for round in 0..5 {
        let mut target = Target::new(BUSY);
        let fault = json!({ "calls": ["open"], "error": "EACCES" });
        let tracer = Tracer::ours(&target, &fault, "1m");
        assert_eq!(target.next(), "ready");
        tracer.sigkill();
        until("the kernel to let go", || (target.tracers() == BTreeSet::from([0])).then_some(()));
        // The first of them were before the fault.
        assert_eq!(target.next(), "EACCES ok then ok", "round {round}");
    }
}

fn it_ends_at_its_deadline() {
    let target = Target::new("turn()\nsay(tries(1, opening(FILE)))");
    let begun = Instant::now();
    let fault = json!({ "calls": ["open"], "delay-enter": "4m" });
    let tracer = Tracer::ours(&target, &fault, "500ms");
    let mut target = target;
    // Held for minutes, and let go at the deadline.
    assert_eq!(target.next(), "ok");
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert!(begun.elapsed() < Duration::from_secs(10));
    let report = tracer.report();
    assert_eq!(report["end"], "Deadline");
    // The deadline of a tracer that waits for nothing else.
    let late = report["late-ms"].as_f64().unwrap();
    assert!(late < 1000.0, "{late} ms late");
}

fn what_waits_is_not_interrupted_by_the_end() {
    let lines = "
waiting = select.epoll()
reader, writer = os.pipe()
waiting.register(reader, select.EPOLLIN)
libc = ctypes.CDLL(None, use_errno=True)
events = ctypes.create_string_buffer(64)
turn()
say('waits')
first = libc.epoll_wait(waiting.fileno(), events, 4, 1000)
say(f'{first} {ctypes.get_errno()}')";
    let mut target = Target::new(lines);
    let tracer = Tracer::ours(&target, &json!({ "calls": ["open"], "error": "EIO" }), "1m");
    assert_eq!(target.next(), "waits");
    until("it to wait", || (target.state() == 'S').then_some(()));
    tracer.end();
    target.assert_untraced();
    // Neither an event nor EINTR.
    assert_eq!(target.line(), "0 0");
}

fn a_stopped_program_stays_stopped() {
    let mut target = Target::new("turn()\nsay(tries(3, opening(FILE)))");
    let fault = json!({ "calls": ["open"], "error": "EIO" });
    let tracer = Tracer::ours(&target, &fault, "1m");
    kill(target.pid(), Signal::SIGSTOP).unwrap();
    until("it to stop", || (target.state() == 't').then_some(()));
    target.go();
    sleep(Duration::from_millis(50));
    assert_eq!(target.state(), 't');
    kill(target.pid(), Signal::SIGCONT).unwrap();
    assert_eq!(target.line(), "EIO EIO EIO");
    tracer.end();
    // One that is stopped as the fault ends stays so, and is stopped as ever.
    let mut target = Target::new("turn()\nsay(tries(3, opening(FILE)))");
    let tracer = Tracer::ours(&target, &fault, "1m");
    kill(target.pid(), Signal::SIGSTOP).unwrap();
    until("it to stop", || (target.state() == 't').then_some(()));
    tracer.end();
    until("it to be stopped as ever", || (target.state() == 'T').then_some(()));
    kill(target.pid(), Signal::SIGCONT).unwrap();
    assert_eq!(target.next(), "ok ok ok");
}

fn signals_get_through() {
    let lines = "
got = []
for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN + 3):
    signal.signal(number, lambda number, _: got.append(number))
turn()
say('waits')
while len(got) < 3: time.sleep(0.01)
say(sorted(got) == [signal.SIGUSR1, signal.SIGTERM, signal.SIGRTMIN + 3])";
    let mut target = Target::new(lines);
    let tracer = Tracer::ours(&target, &json!({ "calls": ["open"], "error": "EIO" }), "1m");
    assert_eq!(target.next(), "waits");
    let pid = target.pid().to_string();
    for signal in ["USR1", "TERM", "RTMIN+3"] {
        let sent = Command::new("bash").args(["-c", &format!("kill -s {signal} {pid}")]).status();
        assert!(sent.unwrap().success());
    }
    assert_eq!(target.line(), "True");
    tracer.end();
}

fn a_program_ends_as_it_would() {
    for (lines, code, signal) in [
        ("turn()\nsys.exit(7)", Some(7), None),
        ("turn()\nos.kill(os.getpid(), signal.SIGKILL)", None, Some(9)),
        (
            "turn()\nthreading.Thread(target=lambda: os._exit(3)).start()\ntime.sleep(60)",
            Some(3),
            None,
        ),
    ] {
        use std::os::unix::process::ExitStatusExt as _;
        let mut target = Target::new(lines);
        let tracer =
            Tracer::ours(&target, &json!({ "calls": ["open"], "delay-exit": "1ms" }), "1m");
        target.go();
        let status = target.child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (code, signal), "{lines}");
        assert_eq!(tracer.report()["end"], "Gone");
    }
}

fn what_is_traced_already_is_refused() {
    let mut target = Target::new("turn()\nsay(tries(1, opening(FILE)))");
    let fault = json!({ "calls": ["open"], "error": "EIO" });
    let first = Tracer::ours(&target, &fault, "1m");
    let own = std::env::current_exe().unwrap();
    let second = Command::new(own)
        .args([role::NAME, &target.pid().to_string(), &fault.to_string(), "1m"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stdout);
    let want = format!(
        "thread {} is traced by process {}",
        target.pid(),
        target.tracers().first().unwrap()
    );
    assert!(said.contains(&want), "{said}");
    assert_eq!(target.next(), "EIO");
    first.end();
}
