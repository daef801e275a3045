//! System calls that are made to fail by an agent beside a container; what its app makes of it is in a file.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sys::signal::{Signal, kill};
use pod_chaos_protocol::{CallCounts, Ending, Event, FailureKind, ProcessStatus};
use serde_json::{Value, json};

use crate::{
    container::{Container, kill_agent},
    pod::{Agent, clean_end, disturb, failure, revert, status, until},
    requirement::tests,
};

tests! {
    Namespaces:
        calls_fail_until_the_deadline,
        calls_go_well_as_soon_as_the_agent_is_killed,
        another_agent_sees_the_counts_and_ends_it,
        a_held_thread_goes_on_at_the_deadline,
        the_end_of_a_traced_app_ends_it,
        the_sandbox_and_other_containers_are_not_traced,
        calls_of_a_traced_process_are_refused,
        calls_of_no_sense_are_refused;
}

/// An app that opens a file all the time, and says how the last time went.
struct App {
    container: Container,
    said: PathBuf,
}

impl App {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "pod-chaos-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let said = std::env::temp_dir().join(name);
        let path = said.display();
        let container = Container::with(&format!(
            "exec 3>{path} 2>/dev/null; while :; do \
             if read line </etc/passwd; then echo well >&3; else echo badly >&3; fi; sleep 0.02; done"
        ));
        let app = Self { container, said };
        app.until("well");
        app
    }

    /// Waits until the file was opened so, after now.
    fn until(&self, how: &str) {
        let said = || fs::read_to_string(&self.said).unwrap_or_default();
        let before = said().lines().count();
        // The first may have begun before now.
        until(how, || (said().lines().skip(before + 1).last()? == how).then_some(()));
    }

    fn plan(&self, time: &str, fault: &Value) -> Value {
        let mut fault = fault.clone();
        fault["calls"] = json!(["open"]);
        fault["paths"] = json!(["/etc/passwd"]);
        json!({
            "id": "00000001", "running-time": time, "target": self.container.target(),
            "fault": { "syscall": fault },
        })
    }

    fn disturb(&self, time: &str) -> (Agent, ProcessStatus) {
        self.container.disturb(&self.plan(time, &json!({ "error": "EACCES" })))
    }

    fn tracers(&self) -> Vec<String> {
        self.container.threads("TracerPid")
    }

    fn assert_free(&self) {
        assert_eq!(self.tracers(), ["0"]);
        self.until("well");
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = kill(self.container.pid, Signal::SIGKILL);
        let _ = fs::remove_file(&self.said);
    }
}

/// The events up to the end, and that.
fn end(agent: &mut Agent) -> (Ending, CallCounts) {
    loop {
        match agent.next() {
            Some(Event::Calls { .. }) => {}
            Some(event @ Event::Ended { .. }) => {
                let Event::Ended { calls: Some(calls), .. } = event.clone() else {
                    panic!("{event:?}")
                };
                return (clean_end(Some(event)).0, calls);
            }
            other => panic!("{other:?}"),
        }
    }
}

fn calls_fail_until_the_deadline() {
    let app = App::new();
    let (mut agent, status) = app.disturb("1s");
    // It may have a child just then.
    assert!((1..=2).contains(&status.processes), "{status:?}");
    let (by, counts) = end(&mut agent);
    assert_eq!(by, Ending::Deadline);
    let [openat] = &counts.calls[..] else { panic!("{counts:?}") };
    // Others than that file were opened too.
    assert!(openat.call == "openat" && openat.hit > 0 && openat.seen > openat.hit, "{counts:?}");
    app.assert_free();
}

fn calls_go_well_as_soon_as_the_agent_is_killed() {
    let app = App::new();
    let (mut agent, _) = app.disturb("60s");
    app.until("badly");
    kill_agent(&mut agent);
    app.assert_free();
    let nothing = [Event::Status { faults: vec![], processes: vec![] }];
    assert_eq!(app.container.ask(&status()), nothing);
}

fn another_agent_sees_the_counts_and_ends_it() {
    let app = App::new();
    let (mut agent, _) = app.disturb("60s");
    app.until("badly");
    assert!(app.tracers().iter().all(|tracer| tracer != "0"));
    assert!(matches!(agent.next(), Some(Event::Calls { .. })), "no counts meanwhile");
    let seen = app.container.ask(&status());
    let [Event::Status { processes, .. }] = &seen[..] else { panic!("{seen:?}") };
    let (seen, hit) = processes[0].calls.as_ref().unwrap().total();
    assert!(seen > hit && hit > 0, "{processes:?}");
    let mut answers = app.container.ask(&revert()).into_iter();
    assert_eq!(clean_end(answers.next()).0, Ending::Request);
    assert_eq!(end(&mut agent).0, Ending::Request);
    app.assert_free();
    // Once more is harmless.
    assert_eq!(app.container.ask(&revert()).len(), 1);
}

fn a_held_thread_goes_on_at_the_deadline() {
    let app = App::new();
    let (mut agent, _) = app.container.disturb(&app.plan("1s", &json!({ "delay-exit": "4m" })));
    let (by, counts) = end(&mut agent);
    assert_eq!((by, counts.total().1), (Ending::Deadline, 1));
    app.assert_free();
}

fn the_end_of_a_traced_app_ends_it() {
    let container = Container::with("sleep 1234 & wait; sleep 4321");
    let child = container.child("sleep");
    let mut target = container.target();
    target["matching"] = "^sleep 1234".into();
    let plan = json!({
        "id": "00000001", "running-time": "60s", "target": target,
        "fault": { "syscall": { "calls": ["open"], "error": "EIO" } },
    });
    let (mut agent, _) = container.disturb(&plan);
    kill(child, Signal::SIGKILL).unwrap();
    assert_eq!(end(&mut agent).0, Ending::Gone);
}

/// With a process namespace that a pod's containers share, its first process is the sandbox's.
fn the_sandbox_and_other_containers_are_not_traced() {
    let sandbox = Container::with("exec sleep 1234");
    let [app, other] =
        ["1111", "2222"].map(|time| sandbox.sharing_with(&format!("exec sleep {time}")));
    let plan = json!({
        "id": "00000001", "running-time": "60s", "target": app.target(),
        "fault": { "syscall": { "calls": ["open"], "error": "EIO" } },
    });
    let (mut agent, status) = app.disturb(&plan);
    assert_eq!(status.processes, 1, "{status:?}");
    let tracers = || [&app, &other, &sandbox].map(|one| one.threads("TracerPid").concat());
    let [of_app, rest @ ..] = tracers();
    assert_ne!(of_app, "0");
    assert_eq!(rest, ["0", "0"]);
    agent.send(&revert());
    assert_eq!(end(&mut agent).0, Ending::Request);
    assert_eq!(tracers(), ["0", "0", "0"]);
}

fn calls_of_a_traced_process_are_refused() {
    let app = App::new();
    let (_agent, _) = app.disturb("60s");
    let mut second = app.plan("60s", &json!({ "error": "EIO" }));
    second["id"] = "00000002".into();
    let mut pause = second.clone();
    pause["fault"] = "pause".into();
    for plan in [second, pause] {
        let events = app.container.ask(&disturb(&plan));
        let failure = failure(&events);
        assert_eq!(failure.kind, FailureKind::Conflict, "{failure}");
        assert!(failure.message.contains("is traced by process"), "{failure}");
    }
    app.until("badly");
}

fn calls_of_no_sense_are_refused() {
    let app = App::new();
    for (fault, why) in
        [(json!({}), "nothing would be done"), (json!({ "error": "EWHAT" }), "not an error")]
    {
        let events = app.container.ask(&disturb(&app.plan("60s", &fault)));
        let failure = failure(&events);
        assert_eq!(failure.kind, FailureKind::BadRequest);
        assert!(failure.message.contains(why), "{failure}");
    }
    app.assert_free();
}
