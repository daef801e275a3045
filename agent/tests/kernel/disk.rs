//! Disks that are filled or kept busy, by `df`, `ls` and `/proc/PID/io`.

use std::{fs, process::Command};

use pod_chaos_protocol::{Ending, Event, FailureKind, Phase};
use serde_json::{Value, json};

use crate::{
    container::{Container, kill_agent, pid_of},
    pod::{Agent, clean_end, disturb, failure, revert, until},
    requirement::tests,
};

tests! {
    Namespaces:
        a_disk_is_full_until_who_fills_it_ends,
        a_disk_is_kept_busy_at_the_pace_asked_for,
        what_has_no_room_is_refused;
}

/// With a file system of 32 MiB in `/mnt`.
pub fn container() -> Container {
    let container = Container::with("mount -t tmpfs -o size=32m none /mnt && exec sleep 1234");
    until("the file system", || (df(&container).1 == 32 << 20).then_some(()));
    container
}

fn request(container: &Container, fault: &Value) -> Value {
    let plan = json!({ "id": "00000001", "running-time": "60s", "target": container.target(),
                       "fault": fault });
    disturb(&plan)
}

fn fill(load: &Value) -> Value {
    json!({ "fill-disk": { "path": "/mnt", "load": load } })
}

/// Where this machine sees the folder.
pub fn folder(container: &Container) -> String {
    format!("/proc/{}/root/mnt", container.pid)
}

/// Bytes used and in all.
fn df(container: &Container) -> (u64, u64) {
    let target = format!("--target={}", container.pid);
    let df = ["df", "-B1", "--output=used,size", "/mnt"];
    let output =
        Command::new("nsenter").args([target.as_str(), "--mount"]).args(df).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = text.lines().last().unwrap_or_default().split_whitespace();
    let mut next = || numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    (next(), next())
}

fn in_force(container: &Container, fault: &Value) -> Agent {
    let mut agent = container.agent_in_its_group();
    agent.send(&request(container, fault));
    loop {
        match agent.next() {
            Some(Event::DiskUsed { phase: Phase::Before, .. }) => {}
            Some(Event::ProcessInForce { .. }) => return agent,
            other => panic!("{other:?}"),
        }
    }
}

fn a_disk_is_full_until_who_fills_it_ends() {
    let container = container();
    let mut agent = in_force(&container, &fill(&json!({ "to": "75%" })));
    assert_eq!(df(&container).0 >> 20, 24);
    let named = fs::read_dir(folder(&container)).unwrap().count();
    assert_eq!(named, 0, "there is a file to be found");
    agent.send(&revert());
    let during = agent.next();
    let Some(Event::DiskUsed { phase: Phase::During, usage }) = during else {
        panic!("{during:?}")
    };
    assert_eq!((usage.used >> 20, usage.available >> 20, usage.held >> 20), (24, 8, 24));
    assert!(matches!(agent.next(), Some(Event::DiskUsed { phase: Phase::After, .. })));
    assert_eq!(clean_end(agent.next()).0, Ending::Request);
    assert_eq!(df(&container).0, 0);
    // All of it, and the one that holds it is killed.
    let mut agent = in_force(&container, &fill(&json!({ "to": "100%" })));
    assert!(fs::write(format!("{}/more", folder(&container)), [0; 9]).is_err(), "it is not full");
    kill_agent(&mut agent);
    until("room", || (df(&container).0 < 1 << 20).then_some(()));
}

fn a_disk_is_kept_busy_at_the_pace_asked_for() {
    let container = container();
    let burn = json!({ "path": "/mnt", "read": "8Mi", "write": "2Mi", "sync": true,
                       "block": "16Ki", "size": "1Mi" });
    let mut agent = in_force(&container, &json!({ "burn-io": burn }));
    // Characters that its system calls have read and written; not every kernel counts them.
    let pid = pid_of(&agent);
    let io = || {
        let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
        Some(["rchar: ", "wchar: "].map(|name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().parse::<u64>().unwrap()
        }))
    };
    if let Some(before) = io() {
        until("reads and writes", || {
            let now = io().unwrap();
            (now[0] - before[0] > 512 << 10 && now[1] - before[1] > 128 << 10).then_some(())
        });
    }
    assert_eq!(df(&container).0, 1 << 20);
    assert_eq!(fs::read_dir(folder(&container)).unwrap().count(), 0, "there is a file to be found");
    agent.send(&revert());
    let told = agent.next();
    let Some(Event::IoUsed { usage, .. }) = told else { panic!("{told:?}") };
    // No faster than asked for, whatever the machine does.
    let most = |per_second: u64| per_second * (usage.span_ms + 20) / 1000 + (16 << 10);
    assert!(usage.read > 0 && usage.read <= most(8 << 20), "{usage:?}");
    assert!(usage.written > 0 && usage.written <= most(2 << 20), "{usage:?}");
    assert_eq!(usage.failed, 0, "{usage:?}");
    assert_eq!(clean_end(agent.next()).0, Ending::Request);
    until("room", || (df(&container).0 == 0).then_some(()));
}

fn what_has_no_room_is_refused() {
    let container = container();
    container.set(&["memory.limit_in_bytes", "memory.max"], &(24 << 20).to_string());
    for (load, path, why) in [
        (json!({ "size": "33Mi" }), "/mnt", "no room for that much"),
        (json!({ "size": "1Mi" }), "/nonexistent", "No such file"),
        (json!({ "to": "90%" }), "/mnt", "is in memory"),
    ] {
        let mut agent = container.agent_in_its_group();
        let fault = json!({ "fill-disk": { "path": path, "load": load } });
        agent.send(&request(&container, &fault));
        let mut events = agent.rest();
        events.retain(|event| !matches!(event, Event::DiskUsed { .. }));
        let failure = failure(&events);
        assert_eq!(failure.kind, FailureKind::Unsupported);
        assert!(failure.message.contains(why), "{failure}");
        assert_eq!(df(&container).0, 0);
    }
}
