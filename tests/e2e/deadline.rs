//! It ends: by the packets, whoever has died.

use std::{
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    check,
    lab::{Backend, Lab, Namespace, Node, Outcome, Pod, Running, slow_for, text, wait_for},
    processes::{inside, is_free, stands_still},
};

/// How far the end may be from the deadline, in seconds.
const TOLERANCE: f64 = 0.020;
/// Pings are sent this far apart, and both ends of the fault fall between two.
const GRAIN: f64 = 0.005;

/// Runs a fault of 4 s, does something one second in, and measures how long packets were slow.
fn survives(
    lab: &Lab,
    meanwhile: impl Fn(&Pod, &mut Running) -> Result<(), Failed>,
    exit: Option<i32>,
) -> Result<(), Failed> {
    lasts(lab, meanwhile, exit, false)
}

/// The same; where the agent does what netem would, the fault ends with it.
fn survives_its_agent(
    lab: &Lab,
    kill: impl Fn(&Pod, &mut Running) -> Result<(), Failed>,
) -> Result<(), Failed> {
    lasts(lab, kill, Some(0), lab.backend() == Backend::Userspace)
}

/// A machine may stall at the very moment; not each time.
fn lasts(
    lab: &Lab,
    meanwhile: impl Fn(&Pod, &mut Running) -> Result<(), Failed>,
    exit: Option<i32>,
    only_until_then: bool,
) -> Result<(), Failed> {
    let mut off = None;
    for _ in 0..3 {
        off = lasts_once(lab, &meanwhile, exit, only_until_then)?;
        let Some(off) = &off else { return Ok(()) };
        eprintln!("measured again: {off}");
    }
    Err(off.unwrap_or_default().into())
}

/// By how much it was off, if it was.
fn lasts_once(
    lab: &Lab,
    meanwhile: &impl Fn(&Pod, &mut Running) -> Result<(), Failed>,
    exit: Option<i32>,
    only_until_then: bool,
) -> Result<Option<String>, Failed> {
    let (space, pod, _turn) = lab.shared()?;
    let before = pod.network()?;
    let output = space.plugin(&["install", "-p", "nginx"]);
    check!(output.status.success(), "{}", text(&output));
    let pings = pod.trace()?;
    sleep(Duration::from_millis(500));
    let mut fault = space.start(&["disrupt", "-p", "nginx", "-d", "100", "-r", "4"])?;
    let in_force = Instant::now();
    sleep(Duration::from_secs(1));
    meanwhile(&pod, &mut fault)?;
    let then = in_force.elapsed().as_secs_f64();
    let (ended, said) = fault.finish()?;
    // A plugin that was killed ends before the fault does.
    sleep(Duration::from_secs(5).saturating_sub(in_force.elapsed()));
    let slow = slow_for(&pings.finish()?, 100.0)?;
    println!("slow for {slow:.4} s of 4 s");
    let (least, most) = if only_until_then { (1.0, then) } else { (4.0, 4.0) };
    let slack = TOLERANCE + GRAIN;
    let lasted = slow >= least - slack && slow <= most + slack;
    let told = said.contains("the fault has ended before its time");
    check!(told == only_until_then, "what it said is not what was:\n{said}");
    check!(ended == exit, "exit {ended:?} instead of {exit:?}\n{said}");
    let mut left = String::new();
    wait_for("the leftovers to be cleared", Duration::from_secs(10), || {
        left = pod.network().unwrap_or_default();
        left == before
    })
    .map_err(|_| Failed::from(format!("left behind: {left}\n{said}")))?;
    Ok((!lasted).then(|| format!("slow for {slow} s instead of {least} to {most} s\n{said}")))
}

pub fn holds_when_all_live(lab: &Lab) -> Result<(), Failed> {
    survives(lab, |_, _| Ok(()), Some(0))
}

pub fn holds_when_the_plugin_is_killed(lab: &Lab) -> Result<(), Failed> {
    survives(lab, |_, fault| fault.signal("KILL"), None)
}

/// Only the process that applied the fault: the waiting one clears up after it.
pub fn holds_when_the_agent_is_killed(lab: &Lab) -> Result<(), Failed> {
    survives_its_agent(lab, |pod, _| kill_serving(lab, &pod.pid(&pod.agent()?)?))
}

pub fn holds_when_all_processes_of_ours_are_killed(lab: &Lab) -> Result<(), Failed> {
    // The end of a container's first process is the end of them all.
    let kill = |pod: &Pod, _: &mut Running| {
        let pid = pod.pid(&pod.agent()?)?;
        let output = lab.node(&["kill", "-9", &pid]);
        check!(output.status.success(), "{}", text(&output));
        Ok(())
    };
    survives_its_agent(lab, kill)
}

pub fn holds_when_the_app_container_is_killed(lab: &Lab) -> Result<(), Failed> {
    let kill = |pod: &Pod, _: &mut Running| {
        let before = pod.read()?;
        let output = lab.node(&["kill", "-9", &pod.pid("nginx")?]);
        check!(output.status.success(), "{}", text(&output));
        wait_for("nginx to be started again", Duration::from_secs(15), || {
            pod.read().is_ok_and(|now| restarts(&now) > restarts(&before))
        })
    };
    survives(lab, kill, Some(0))
}

pub fn restarts(pod: &Value) -> Option<u64> {
    pod["status"]["containerStatuses"][0]["restartCount"].as_u64()
}

/// The lab's API server, and the kubelet of the tests' node: they stand still until the value is dropped.
struct Standstill<'a>(&'a Lab);

impl<'a> Standstill<'a> {
    fn begin(lab: &'a Lab) -> Outcome<Self> {
        let still = Self(lab);
        still.signal("STOP")?;
        Ok(still)
    }

    fn signal(&self, signal: &str) -> Outcome {
        let own = |name| format!("read pid _ <$POD_CHAOS_LAB/pid/{name} && kill -{signal} $pid");
        let guest = format!("kill -{signal} $(pidof kubelet)");
        let kubelet = if self.0.is(Node::Native) { own("kubelet") } else { guest };
        let api_server = Command::new("sh").args(["-c", &own("apiserver")]).output()?;
        for output in [self.0.node(&["sh", "-c", &kubelet]), api_server] {
            check!(output.status.success(), "SIG{signal}: {}", text(&output));
        }
        Ok(())
    }
}

impl Drop for Standstill<'_> {
    fn drop(&mut self) {
        let _ = self.signal("CONT");
    }
}

/// Of faults that a process of ours holds, and one that the kernel does.
pub fn holds_while_kubelet_and_api_server_stand_still(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let (one, other) = (space.nginx("one")?, space.nginx("other")?);
    let (paused, busy) = (one.pid("nginx")?, other.pid("nginx")?);
    let before = one.links()?;
    let burns = || !inside(lab, &busy, "true").stdout.is_empty();
    // A busy machine may have one of them in force when another is over; the next time the agents are there.
    for _ in 0..3 {
        let mut faults = [
            space.spawn(&["disrupt", "-p", "one", "-d", "100", "-r", "5"])?,
            space.spawn(&["pause", "-p", "one", "-r", "5"])?,
            space.spawn(&["burn", "cpu", "-p", "other", "--workers", "1", "-r", "5"])?,
        ];
        for fault in &mut faults {
            let mut line = fault.line()?;
            while !line.contains("in force") {
                check!(!line.is_empty(), "it has ended");
                line = fault.line()?;
            }
        }
        let still = Standstill::begin(lab)?;
        let in_force = stands_still(lab, &paused)? && burns() && one.links()? != before;
        wait_for("the ends", Duration::from_secs(20), || {
            is_free(lab, &paused).unwrap_or(false)
                && !burns()
                && one.links().is_ok_and(|now| now == before)
        })?;
        drop(still);
        for fault in faults {
            let (exit, said) = fault.finish()?;
            check!(exit == Some(0) && said.contains("clean: "), "{exit:?} {said}");
        }
        if in_force {
            return Ok(());
        }
    }
    Err("they were never in force at the same time".into())
}

/// SIGKILLs `pod-chaos-agent serve` in the process namespace of that process and nothing else.
pub fn kill_serving(lab: &Lab, main: &str) -> Result<(), Failed> {
    let script = format!(
        "for p in $(pgrep -f 'pod-chaos-agent serve'); do \
           [ \"$(readlink /proc/$p/ns/pid)\" = \"$(readlink /proc/{main}/ns/pid)\" ] && kill -9 $p && echo $p; \
         done"
    );
    let output = lab.node(&["sh", "-c", &script]);
    check!(!output.stdout.is_empty(), "no serving agent was found: {}", text(&output));
    Ok(())
}

/// A fault on a pod that has no agent yet, up to the moment when the API server has taken one.
fn until_the_agent_is_put_in(space: &Namespace, pod: &Pod, time: &str) -> Result<Running, Failed> {
    let fault = space.spawn(&["disrupt", "-p", &pod.name, "-d", "100", "-r", time])?;
    let start = Instant::now();
    while pod.ephemeral()?.is_empty() {
        check!(start.elapsed() < Duration::from_secs(10), "no agent was put in");
    }
    Ok(fault)
}

/// The plan goes in with the agent: it is in force without the plugin, and ends without it.
pub fn holds_when_the_plugin_is_killed_before_the_agent_starts(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let before = pod.network()?;
    let pings = pod.trace()?;
    sleep(Duration::from_millis(300));
    let fault = until_the_agent_is_put_in(&space, &pod, "2")?;
    fault.signal("KILL")?;
    let (exit, said) = fault.finish()?;
    check!(exit.is_none() && !said.contains("in force on"), "too late: {said}");
    sleep(Duration::from_secs(7));
    let slow = slow_for(&pings.finish()?, 100.0)?;
    check!((slow - 2.0).abs() <= TOLERANCE + GRAIN, "slow for {slow} s instead of 2 s");
    wait_for("the fault to be cleared", Duration::from_secs(12), || {
        pod.network().is_ok_and(|now| now == before)
    })
}

pub fn ctrl_c_while_the_agent_starts_leaves_nothing_in_force(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let before = pod.network()?;
    let fault = until_the_agent_is_put_in(&space, &pod, "60")?;
    fault.signal("INT")?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(130), "exit {exit:?}\n{said}");
    check!(said.contains("interrupted: reverting as soon as the agent answers"), "{said}");
    for _ in 0..5 {
        check!(pod.ping()? < 50.0, "in force after all\n{said}");
        check!(pod.network()? == before, "left behind: {}", pod.network()?);
        sleep(Duration::from_millis(500));
    }
    Ok(())
}

fn interrupted(lab: &Lab, signal: &str) -> Result<(), Failed> {
    let (space, pod, _turn) = lab.shared()?;
    let before = pod.network()?;
    let fault = space.start(&["disrupt", "-p", "nginx", "-d", "100", "-r", "60"])?;
    check!(pod.ping()? > 99.0, "not in force");
    let start = Instant::now();
    fault.signal(signal)?;
    let (exit, said) = fault.finish()?;
    let took = start.elapsed();
    check!(exit == Some(130), "exit {exit:?}\n{said}");
    check!(said.contains("clean: ended"), "{said}");
    check!(took < Duration::from_secs(5), "the revert took {took:?}");
    check!(pod.ping()? < 50.0, "still in force");
    check!(pod.network()? == before, "left behind: {}", pod.network()?);
    Ok(())
}

pub fn ctrl_c_reverts_at_once(lab: &Lab) -> Result<(), Failed> {
    interrupted(lab, "INT")
}

pub fn sigterm_reverts_at_once(lab: &Lab) -> Result<(), Failed> {
    interrupted(lab, "TERM")
}

pub fn detached_faults_end_and_are_cleared(lab: &Lab) -> Result<(), Failed> {
    let (space, pod, _turn) = lab.shared()?;
    let (before, unhit) = (pod.network()?, pod.read()?);
    let detached = ["disrupt", "-p", "nginx", "-d", "100", "-r", "4", "--detach"];
    let output = space.plugin(&detached);
    check!(output.status.success(), "{}", text(&output));
    check!(pod.ping()? > 99.0, "not in force: {}", text(&output));
    wait_for("the fault to be cleared", Duration::from_secs(12), || {
        pod.network().is_ok_and(|now| now == before)
    })?;
    check!(pod.ping()? < 50.0, "still in force");
    // The app never noticed.
    let now = pod.read()?;
    check!(restarts(&now) == restarts(&unhit), "the app was restarted");
    Ok(())
}
