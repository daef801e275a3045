//! Faults on processes: `/proc` of the node, `curl` and container statuses say what becomes of them.

use std::{
    net::TcpListener,
    process::{Command, Output},
    thread::sleep,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    check,
    deadline::{kill_serving, restarts},
    lab::{self, Lab, Namespace, Outcome, Pod, text, wait_for},
};

/// CAP_SYS_PTRACE is bit 19 (linux/capability.h).
const SYS_PTRACE: &str = "0000000000080000";
const NONE: &str = "0000000000000000";

/// A field of `/proc/PID/status` on the pod's node, of each thread of a process.
fn threads(lab: &Lab, pid: &str, field: &str) -> Outcome<Vec<String>> {
    let script = format!("cat /proc/{pid}/task/*/status");
    let output = lab.node(&["sh", "-c", &script]);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let found: Vec<_> = stdout
        .lines()
        .filter_map(|line| Some(line.strip_prefix(field)?.strip_prefix(':')?.trim().to_owned()))
        .collect();
    check!(!found.is_empty(), "process {pid} has no {field}: {}", text(&output));
    Ok(found)
}

pub fn stands_still(lab: &Lab, pid: &str) -> Outcome<bool> {
    Ok(threads(lab, pid, "State")?.iter().all(|state| state.starts_with('t')))
}

pub fn is_free(lab: &Lab, pid: &str) -> Outcome<bool> {
    Ok(threads(lab, pid, "TracerPid")?.iter().all(|tracer| tracer == "0"))
}

/// Whether nginx answers within a second.
fn answers(pod: &Pod) -> Outcome<bool> {
    let url = format!("http://{}/", pod.address()?);
    Ok(Command::new("curl").args(["-sf", "-m", "1", "-o", "/dev/null", &url]).status()?.success())
}

/// What the plugin says became of a container.
fn fate(output: &Output) -> Outcome<Value> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = said.lines().find(|line| line.contains(r#""event":"fate""#));
    Ok(serde_json::from_str(line.ok_or_else(|| text(output))?)?)
}

/// The newest agent for processes, by its container.
fn agent(pod: &Pod) -> Outcome<String> {
    let ours = pod.ephemeral()?.into_iter().find(|name| name.starts_with("pod-chaos-proc-"));
    Ok(ours.ok_or("the pod has no agent for processes")?)
}

/// The effective capabilities of that agent.
fn capabilities(lab: &Lab, pod: &Pod) -> Outcome<String> {
    let pid = pod.pid(&agent(pod)?)?;
    Ok(threads(lab, &pid, "CapEff")?.remove(0))
}

pub fn a_pause_lasts_until_its_deadline(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let bystander = space.nginx("bystander")?;
    let main = pod.pid("nginx")?;
    check!(answers(&pod)?, "nginx does not answer");
    let fault = space.start(&["pause", "-p", "nginx", "-r", "4"])?;
    let in_force = Instant::now();
    check!(stands_still(lab, &main)?, "{:?}", threads(lab, &main, "State")?);
    check!(!answers(&pod)?, "nginx answers");
    check!(answers(&bystander)?, "the other pod does not answer");
    let caps = capabilities(lab, &pod)?;
    check!(caps == SYS_PTRACE, "the agent has {caps}");
    let output = space.plugin(&["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&output.stdout)?;
    let one = &status["faults"][0];
    check!(one["doing"] == "pause" && one["target"]["container"] == "nginx", "{status}");
    let (exit, said) = fault.finish()?;
    let took = in_force.elapsed();
    check!(exit == Some(0) && said.contains("clean: ended by its deadline"), "{exit:?} {said}");
    check!(took > Duration::from_millis(3900), "it lasted {took:?}");
    check!(is_free(lab, &main)? && answers(&pod)?, "nginx does not go on");
    check!(restarts(&pod.read()?) == Some(0), "nginx was restarted");
    Ok(())
}

/// Whose death ends it is shown twice: of the agent's process, and of the container's.
pub fn a_pause_ends_with_its_agent_and_with_its_container(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let main = pod.pid("nginx")?;
    let fault = space.start(&["pause", "-p", "nginx", "-r", "60"])?;
    check!(stands_still(lab, &main)?, "{:?}", threads(lab, &main, "State")?);
    kill_serving(lab, &main)?;
    wait_for("nginx to go on", Duration::from_secs(5), || {
        is_free(lab, &main).unwrap_or(false) && answers(&pod).unwrap_or(false)
    })?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0) && said.contains("clean: read back"), "{exit:?} {said}");

    let fault = space.start(&["pause", "-p", "nginx", "-r", "60"])?;
    check!(pod.ephemeral()?.len() == 1, "the agent was not used again");
    let output = lab.node(&["kill", "-9", &main]);
    check!(output.status.success(), "{}", text(&output));
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0) && said.contains("container nginx has ended"), "{exit:?} {said}");
    wait_for("nginx to be started again", Duration::from_secs(15), || {
        pod.read().is_ok_and(|now| restarts(&now) == Some(1)) && answers(&pod).unwrap_or(false)
    })
}

/// A pod whose container runs as this user, and says so.
fn unprivileged(space: &Namespace, resources: &Value) -> Outcome<Pod> {
    hardened(space, &["sleep", "3600"], resources, &json!([]), &json!([]))
}

/// The same with another command, and volumes.
fn hardened(
    space: &Namespace,
    command: &[&str],
    resources: &Value,
    mounts: &Value,
    volumes: &Value,
) -> Outcome<Pod> {
    space.pod(
        "hardened",
        &json!({"spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000},
            "volumes": volumes,
            "containers": [{
                "name": "app",
                "image": "localhost/shell:lab",
                "imagePullPolicy": "IfNotPresent",
                "command": command,
                "resources": resources,
                "volumeMounts": mounts,
                "securityContext": {
                    "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
                    "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
                },
            }],
        }}),
    )
}

/// The strictest namespace that there is admits an agent that needs no capability.
pub fn the_same_user_needs_no_capability(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({"pod-security.kubernetes.io/enforce": "restricted"}))?;
    let pod = unprivileged(&space, &json!({}))?;
    let main = pod.pid("app")?;
    let fault = space.start(&["pause", "-p", "hardened", "-r", "60"])?;
    check!(stands_still(lab, &main)?, "{:?}", threads(lab, &main, "State")?);
    let caps = capabilities(lab, &pod)?;
    check!(caps == NONE, "the agent has {caps}");
    fault.signal("INT")?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(130) && said.contains("clean: ended by request"), "{exit:?} {said}");
    check!(is_free(lab, &main)?, "the app does not go on");
    let output = space.plugin(&["uninstall", "-p", "hardened"]);
    check!(output.status.success() && text(&output).contains("exits"), "{}", text(&output));
    Ok(())
}

/// Ids of the processes that this one has started.
fn children(lab: &Lab, pid: &str) -> Outcome<Vec<String>> {
    let output = lab.node(&["cat", &format!("/proc/{pid}/task/{pid}/children")]);
    check!(output.status.success(), "{}", text(&output));
    Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().map(str::to_owned).collect())
}

/// How the container's earlier run ended, as the kubelet has it.
fn last_exit_code(pod: &Pod) -> Outcome<Option<i64>> {
    let pod = pod.read()?;
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    Ok(last["exitCode"].as_i64())
}

/// nginx handles SIGTERM, and ends with 0; SIGHUP, and starts new workers; and replaces those that die.
pub fn a_signal_does_what_the_app_makes_of_it(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let main = pod.pid("nginx")?;
    let workers = children(lab, &main)?;
    let output = space.plugin(&["signal", "HUP", "-p", "nginx"]);
    check!(
        output.status.success() && text(&output).contains("SIGHUP to process 1"),
        "{}",
        text(&output)
    );
    wait_for("new workers", Duration::from_secs(10), || {
        children(lab, &main)
            .is_ok_and(|now| !now.is_empty() && now.iter().all(|pid| !workers.contains(pid)))
    })?;
    // The agent that has KILL alone stays; this takes one with SYS_PTRACE as well.
    let output = space.plugin(&[
        "kill",
        "-p",
        "nginx",
        "--process",
        "worker",
        "--times",
        "2",
        "--every",
        "1",
    ]);
    check!(output.status.success(), "{}", text(&output));
    check!(text(&output).matches("SIGTERM to process").count() == 2, "{}", text(&output));
    check!(answers(&pod)? && restarts(&pod.read()?) == Some(0), "nginx was restarted");
    let output = space.plugin(&["kill", "-p", "nginx", "-o", "json"]);
    check!(output.status.success(), "{}", text(&output));
    let fate = fate(&output)?;
    check!(fate["exit-code"] == 0 && fate["restarts-after"] == 1, "{fate}");
    check!(fate["ready-after-ms"].is_u64(), "{fate}");
    check!(last_exit_code(&pod)? == Some(0) && answers(&pod)?, "{}", pod.read()?);
    Ok(())
}

/// `sleep` as process 1 handles nothing: only the end of who traces it kills it.
pub fn what_handles_nothing_is_killed_without_a_capability(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({"pod-security.kubernetes.io/enforce": "restricted"}))?;
    let pod = unprivileged(&space, &json!({}))?;
    let output = space.plugin(&["signal", "USR1", "-p", "hardened"]);
    check!(output.status.code() == Some(3), "{}", text(&output));
    check!(text(&output).contains("does not handle SIGUSR1"), "{}", text(&output));
    let output = space.plugin(&["kill", "-p", "hardened"]);
    check!(output.status.success(), "{}", text(&output));
    let said = text(&output);
    check!(said.contains("SIGKILL to process 1") && said.contains("restarts 0 → 1"), "{said}");
    check!(last_exit_code(&pod)? == Some(137), "{}", pod.read()?);
    check!(pod.ephemeral()?.len() == 1, "more than one agent: {:?}", pod.ephemeral()?);
    Ok(())
}

/// Processor time, in seconds, that the control group of a process has used, as its node has it.
fn processor_time(lab: &Lab, pid: &str) -> Outcome<f64> {
    // Version 1 counts nanoseconds, version 2 microseconds.
    let script = format!(
        "path() {{ grep -E \"$1\" /proc/{pid}/cgroup | cut -d: -f3; }}; cd /sys/fs/cgroup; \
         cat \"cpuacct$(path '[:,]cpuacct[:,]')/cpuacct.usage\" 2>/dev/null && exit; \
         sed -n 's/usage_usec \\(.*\\)/\\1000/p' \".$(path '^0:')/cpu.stat\""
    );
    let output = lab.node(&["sh", "-c", &script]);
    let nanos: f64 =
        String::from_utf8_lossy(&output.stdout).trim().parse().map_err(|_| text(&output))?;
    Ok(nanos / 1e9)
}

/// The container pays, root's or not, and is throttled at its limit; the agent has no capability.
pub fn processor_time_is_burnt_by_the_container(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({"pod-security.kubernetes.io/enforce": "baseline"}))?;
    let root = space.nginx("nginx")?;
    let limited = unprivileged(&space, &json!({"limits": {"cpu": "200m"}}))?;
    for (pod, container, share, expected) in [
        (&root, "nginx", &["--percent", "30%", "--of", "core"][..], 0.3),
        (&limited, "app", &["--percent", "90%"], 0.18),
    ] {
        let main = pod.pid(container)?;
        let args = [&["burn", "cpu", "-p", &pod.name, "-r", "60"], share].concat();
        let fault = space.start_with(&args, |line| line.contains("before:"))?;
        let (start, before) = (Instant::now(), processor_time(lab, &main)?);
        sleep(Duration::from_millis(1500));
        let burnt = processor_time(lab, &main)? - before;
        let used = burnt / start.elapsed().as_secs_f64();
        let caps = capabilities(lab, pod)?;
        check!(caps == NONE, "the agent has {caps}");
        fault.signal("INT")?;
        let (exit, said) = fault.finish()?;
        check!(exit == Some(130) && said.contains("clean: ended by request"), "{exit:?} {said}");
        // Never more than asked for; less on a busy machine.
        check!(
            (expected * 0.4..expected * 1.15).contains(&used),
            "{used} used, {expected} asked for\n{said}"
        );
        let after = processor_time(lab, &main)?;
        sleep(Duration::from_millis(300));
        check!(processor_time(lab, &main)? - after < 0.1, "it burns on");
    }
    let output = space.plugin(&["burn", "cpu", "-p", "hardened", "--workers", "1", "-r", "1"]);
    check!(output.status.success(), "{}", text(&output));
    check!(text(&output).contains("throttled for"), "{}", text(&output));

    // It goes on without the plugin, to its deadline.
    let main = limited.pid("app")?;
    let args = ["burn", "cpu", "-p", "hardened", "--workers", "1", "-r", "3"];
    let fault = space.start_with(&args, |line| line.contains("before:"))?;
    let start = Instant::now();
    fault.signal("KILL")?;
    fault.finish()?;
    wait_for("its end", Duration::from_secs(10), || inside(lab, &main, "true").stdout.is_empty())?;
    // It had been in force for a moment when that was read.
    check!(start.elapsed() >= Duration::from_secs(2), "over after {:?}", start.elapsed());
    Ok(())
}

/// The status that the pod's nginx answers with.
fn http_status(pod: &Pod) -> Outcome<String> {
    let url = format!("http://{}/", pod.address()?);
    let args = ["-s", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}", &url];
    Ok(String::from_utf8_lossy(&Command::new("curl").args(args).output()?.stdout).into_owned())
}

/// What nginx may not open it answers with 403, for as long as that lasts.
pub fn calls_of_one_container_fail(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let bystander = space.nginx("bystander")?;
    let main = pod.pid("nginx")?;
    let fail =
        ["syscall", "-p", "nginx", "--call", "open", "--error", "EACCES", "--path", "*.html"];
    let output = space.plugin(&fail);
    check!(output.status.code() == Some(2), "{}", text(&output));
    let fail = [&fail[..8], &["/usr/*", "-r", "60"]].concat();
    check!(http_status(&pod)? == "200", "nginx does not serve its page");
    let fault = space.start(&fail)?;
    let during = [http_status(&pod)?, http_status(&bystander)?];
    check!(during == ["403", "200"], "{during:?}");
    let caps = capabilities(lab, &pod)?;
    check!(caps == SYS_PTRACE, "the agent has {caps}");
    let output = space.plugin(&["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&output.stdout)?;
    let counts = &status["faults"][0]["calls"]["calls"];
    check!(
        counts.as_array().is_some_and(|all| all.iter().any(|one| one["hit"].as_u64() >= Some(1))),
        "{status}"
    );
    fault.signal("INT")?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(130) && said.contains("clean: ended by request"), "{exit:?} {said}");
    check!(said.contains("calls hit"), "{said}");
    check!(http_status(&pod)? == "200" && is_free(lab, &main)?, "something is left");

    let fault = space.start(&fail)?;
    check!(http_status(&pod)? == "403", "not hit again");
    kill_serving(lab, &main)?;
    wait_for("nginx to serve its page", Duration::from_secs(5), || {
        http_status(&pod).is_ok_and(|status| status == "200")
    })?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0) && said.contains("clean: read back"), "{exit:?} {said}");
    Ok(())
}

/// Under the seccomp profile of the runtime, with an agent that may do no more than the app.
pub fn calls_of_an_unprivileged_container_fail(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({"pod-security.kubernetes.io/enforce": "restricted"}))?;
    let script = "while :; do if read line </etc/passwd; then echo well; else echo badly; fi; sleep 0.1; done";
    let pod = hardened(&space, &["sh", "-c", script], &json!({}), &json!([]), &json!([]))?;
    let last = || {
        let logs =
            lab::kubectl(&["logs", &pod.name, "-n", &space.name, "-c", "app", "--tail", "1"]);
        String::from_utf8_lossy(&logs.stdout).trim().to_owned()
    };
    let patience = Duration::from_secs(5);
    wait_for("the app", patience, || last() == "well")?;
    let fail = ["--call", "open", "--error", "EACCES", "--path", "/etc/pass*", "-r", "60"];
    let fault = space.start(&[&["syscall", "-p", "hardened"], &fail[..]].concat())?;
    wait_for("the app to fail", patience, || last() == "badly")?;
    let caps = capabilities(lab, &pod)?;
    check!(caps == NONE, "the agent has {caps}");
    fault.signal("INT")?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(130) && said.contains("clean: ended by request"), "{exit:?} {said}");
    wait_for("the app to go on", patience, || last() == "well")
}

/// A figure of nginx as Prometheus gets it.
fn scraped(address: &str, figure: &str) -> Outcome<f64> {
    let output = Command::new("curl").args(["-sf", "-m", "5", address]).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.starts_with(&format!("{figure}{{")));
    let value = line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok());
    Ok(value.ok_or_else(|| format!("no {figure} at {address}: {text}"))?)
}

/// Before a container restarts, and after.
pub fn a_container_is_observed(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({"pod-security.kubernetes.io/enforce": "baseline"}))?;
    let pod = space.nginx("nginx")?;
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let mut seen = space.spawn(&["observe", "-p", "nginx", "-o", "csv", "--listen", &free])?;
    let line = seen.line()?;
    check!(line.starts_with("time,"), "{line}");
    let head: Vec<_> = line.split(',').map(str::to_owned).collect();
    let column = |name: &str| head.iter().position(|one| one.trim() == name).unwrap_or(0);
    let figure = |line: &str, name: &str| -> Outcome<u64> {
        let cell = line.split(',').nth(column(name)).unwrap_or_default().trim().to_owned();
        Ok(cell.parse().map_err(|_| format!("{name}: {line}"))?)
    };
    seen.line()?;
    check!(answers(&pod)?, "nginx does not answer");
    let mut received = 0;
    for _ in 0..2 {
        let line = seen.line()?;
        received += figure(&line, "received_packets")?;
        check!(figure(&line, "processes")? == 2, "{line}");
        check!(figure(&line, "memory_bytes")? > 1 << 19, "{line}");
    }
    check!(received >= 4, "{received} packets");
    let address = format!("http://{free}/metrics");
    check!(scraped(&address, "pod_chaos_processes")? > 1.5, "no two processes");
    check!(scraped(&address, "pod_chaos_received_packets_total")? >= 4.0, "no packets");
    let caps = capabilities(lab, &pod)?;
    check!(caps == NONE, "the agent has {caps}");
    let output = lab.node(&["kill", "-9", &pod.pid("nginx")?]);
    check!(output.status.success(), "{}", text(&output));
    wait_for("nginx to be started again", Duration::from_secs(15), || {
        pod.read().is_ok_and(|now| restarts(&now) == Some(1))
    })?;
    let line = seen.line()?;
    check!(figure(&line, "processes")? <= 2, "{line}");
    seen.signal("INT")?;
    let (exit, said) = seen.finish()?;
    check!(exit == Some(0) && said.contains("lost sight of container nginx"), "{exit:?} {said}");
    Ok(())
}

/// Memory, in bytes, that the control group of a process uses, as its node has it, without what can be dropped.
fn memory(lab: &Lab, pid: &str) -> Outcome<u64> {
    let script = format!(
        "path() {{ grep -E \"$1\" /proc/{pid}/cgroup | cut -d: -f3; }}; cd /sys/fs/cgroup; \
         cd \"memory$(path ':memory:')\" 2>/dev/null || cd \".$(path '^0:')\"; \
         cat memory.usage_in_bytes memory.current 2>/dev/null; \
         sed -n 's/^total_inactive_file //p' memory.stat; sed -n 's/^inactive_file //p' memory.stat"
    );
    let output = lab.node(&["sh", "-c", &script]);
    let numbers = String::from_utf8_lossy(&output.stdout).into_owned();
    // Version 1 has the second one twice: first with those below.
    let mut numbers = numbers.lines().map_while(|line| line.parse::<u64>().ok());
    let (Some(all), Some(files)) = (numbers.next(), numbers.next()) else {
        return Err(text(&output).into());
    };
    Ok(all.saturating_sub(files))
}

/// Does something to the process of ours that is in the container of another, `$p`, and says which it was.
pub fn inside(lab: &Lab, main: &str, action: &str) -> Output {
    let script = format!(
        "for p in $(pgrep -x pod-chaos-agent); do \
           cmp -s /proc/$p/cgroup /proc/{main}/cgroup && {action} && echo $p; \
         done"
    );
    lab.node(&["sh", "-c", &script])
}

fn kill_inside(lab: &Lab, main: &str) -> Result<(), Failed> {
    let output = inside(lab, main, "kill -9 $p");
    check!(!output.stdout.is_empty(), "no process was found: {}", text(&output));
    Ok(())
}

/// The container is charged, and gets it back when who holds it is killed.
pub fn memory_is_held_by_the_container(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({"pod-security.kubernetes.io/enforce": "restricted"}))?;
    let pod = unprivileged(&space, &json!({"limits": {"memory": "64Mi"}}))?;
    let main = pod.pid("app")?;
    let before = memory(lab, &main)?;
    let args = ["burn", "memory", "-p", "hardened", "--to", "75%", "-r", "60"];
    let fault = space.start_with(&args, |line| line.contains("before:"))?;
    let used = memory(lab, &main)?;
    // 2 % of the limit.
    check!(used.abs_diff(48 << 20) < (64 << 20) / 50, "{used} bytes used");
    check!(capabilities(lab, &pod)? == NONE, "the agent has {}", capabilities(lab, &pod)?);
    kill_inside(lab, &main)?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0) && said.contains("clean: read back"), "{exit:?} {said}");
    let after = memory(lab, &main)?;
    check!(after < before + (4 << 20), "{before} before, {after} after");
    check!(restarts(&pod.read()?) == Some(0), "the app was restarted");
    let output = space.plugin(&["burn", "memory", "-p", "hardened", "--size", "63Mi"]);
    check!(output.status.code() == Some(3), "{}", text(&output));
    check!(text(&output).contains("would be killed for that much more"), "{}", text(&output));
    Ok(())
}

/// The kernel kills the app, and the container statuses say so.
pub fn who_lacks_memory_is_killed_and_comes_back(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let container = json!({
        "name": "app", "image": "localhost/shell:lab", "imagePullPolicy": "IfNotPresent",
        // It keeps 8 MiB.
        "command": ["sh", "-c", "mkfifo /tmp/f; (head -c 8388608 /dev/zero; exec sleep 3600) >/tmp/f & \
                                 exec tail -c 8388608 /tmp/f >/dev/null"],
        "resources": {"limits": {"memory": "64Mi"}},
    });
    let pod = space.pod("app", &json!({"spec": {"containers": [container]}}))?;
    let output = space.plugin(&["burn", "memory", "-p", "app", "--oom", "-r", "30", "-o", "json"]);
    check!(output.status.success(), "{}", text(&output));
    let fate = fate(&output)?;
    check!(fate["reason"] == "OOMKilled" && fate["restarts-after"] == 1, "{}", text(&output));
    let pod = pod.read()?;
    let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
    check!(last["reason"] == "OOMKilled" && last["exitCode"] == 137, "{last}");
    Ok(())
}

/// Of a read-only container without a capability, in a volume of its own; by its own `df`.
pub fn a_disk_is_full_and_busy(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({"pod-security.kubernetes.io/enforce": "restricted"}))?;
    let data = json!({"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}});
    let mount = json!([{"name": "data", "mountPath": "/data"}]);
    let pod = hardened(
        &space,
        &["sleep", "3600"],
        &json!({"limits": {"memory": "128Mi"}}),
        &mount,
        &json!([data]),
    )?;
    let df = || -> Outcome<String> {
        let exec = ["exec", &pod.name, "-n", &space.name, "-c", "app", "--", "df", "-m", "/data"];
        let output = lab::kubectl(&exec);
        check!(output.status.success(), "{}", text(&output));
        let last = String::from_utf8_lossy(&output.stdout).lines().last().map(str::to_owned);
        // File system, size, used, available, percent, folder.
        Ok(last
            .and_then(|line| line.split_whitespace().nth(2).map(str::to_owned))
            .unwrap_or_default())
    };
    let args = ["fill", "disk", "-p", "hardened", "--path", "/data", "--to", "75%", "-r", "60"];
    let fault = space.start_with(&args, |line| line.contains("before:"))?;
    check!(df()? == "48", "{} MiB used", df()?);
    kill_inside(lab, &pod.pid("app")?)?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0) && said.contains("clean: read back"), "{exit:?} {said}");
    check!(df()? == "0", "{} MiB used", df()?);
    let burn = ["burn", "io", "-p", "hardened", "--path", "/data", "--write", "4Mi"];
    let output = space.plugin(&[&burn[..], &["--size", "8Mi", "-r", "1"]].concat());
    check!(output.status.success() && text(&output).contains(" written ("), "{}", text(&output));
    let args = ["fill", "disk", "-p", "hardened", "--path", "/none", "--size", "1Mi"];
    let output = space.plugin(&args);
    check!(output.status.code() == Some(3), "{}", text(&output));
    check!(text(&output).contains("No such file"), "{}", text(&output));
    Ok(())
}
