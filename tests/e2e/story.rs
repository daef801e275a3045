//! The main job: one pod gets slow, the others do not, and then it is over.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::json;

use crate::{
    check,
    lab::{
        Backend, Lab, Node, Pod, ab, apply, lab as lab_command, ping, plugin, slow_from, text,
        wait_for,
    },
};

/// The story of the README, with a shorter running time.
pub fn delays_one_pod_and_not_the_other(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    for name in ["nginx", "nginx-2", "ab"] {
        let image = if name == "ab" { "localhost/ab:lab" } else { "localhost/nginx:lab" };
        let command = (name == "ab").then(|| json!(["sleep", "3600"]));
        let mut container =
            json!({"name": name, "image": image, "imagePullPolicy": "IfNotPresent"});
        if let Some(command) = command {
            container["command"] = command;
        } else {
            apply(&json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name, "namespace": space.name},
                "spec": {"selector": {"app": name}, "ports": [{"port": 80}]},
            }))?;
        }
        space.create(name, &json!({"spec": {"containers": [container]}}))?;
    }
    let (nginx, other, load) =
        (space.running("nginx")?, space.running("nginx-2")?, space.running("ab")?);
    wait_for("the Services to answer", Duration::from_secs(30), || {
        ab(&load, "http://nginx/").is_ok() && ab(&load, "http://nginx-2/").is_ok()
    })?;
    let (untouched, untouched_other) = (nginx.network()?, other.network()?);
    let before = ab(&load, "http://nginx/")?;
    check!(before < 60.0, "the machine is too busy to tell a delay: {before} ms before");
    let output = space.plugin(&["install", "-p", "nginx"]);
    check!(output.status.success(), "install: {}", text(&output));
    let fault = space.start(&["disrupt", "-p", "nginx", "-d", "100", "-r", "8"])?;
    let during = ab(&load, "http://nginx/")?;
    let other_during = ab(&load, "http://nginx-2/")?;
    check!(other.network()? == untouched_other, "the other pod's network was changed");
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0) && said.contains("clean: ended"), "disrupt: {exit:?} {said}");
    let after = ab(&load, "http://nginx/")?;
    // A request costs one delay, and the first one another for its connection: 110 ms. A busy machine
    // may add to that, and cannot take away.
    check!((109.0..200.0).contains(&during), "before {before} ms, during {during} ms");
    check!(
        other_during < before + 60.0,
        "the other pod: {other_during} ms during, {before} before"
    );
    check!(after < before + 60.0, "before {before} ms, after {after} ms");
    check!(nginx.network()? == untouched, "left behind: {}", nginx.network()?);
    Ok(())
}

pub fn variation_spreads_the_delay(lab: &Lab) -> Result<(), Failed> {
    let (space, pod, _turn) = lab.shared()?;
    let fault = space.start(&["disrupt", "-p", "nginx", "-d", "100", "-v", "40", "-r", "60"])?;
    let pings = pod.trace()?;
    std::thread::sleep(Duration::from_secs(2));
    let trips = pings.finish()?;
    fault.signal("INT")?;
    fault.finish()?;
    let took: Vec<f64> = trips.iter().map(|trip| trip.took).collect();
    let (least, most) = took.iter().fold((f64::MAX, 0.0_f64), |(a, b), &t| (a.min(t), b.max(t)));
    check!(least > 55.0 && least < 75.0, "the quickest of {} took {least} ms", took.len());
    check!(most > 125.0, "the slowest of {} took {most} ms", took.len());
    Ok(())
}

pub fn ipv6_is_delayed_too(lab: &Lab) -> Result<(), Failed> {
    let (space, pod, _turn) = lab.shared()?;
    let addresses = pod.addresses()?;
    let six = addresses.iter().find(|ip| ip.contains(':')).ok_or("the pod has no IPv6 address")?;
    let before = ping(six)?;
    let fault = space.start(&["disrupt", "-p", "nginx", "-d", "100", "-r", "10"])?;
    let during = ping(six)?;
    fault.signal("INT")?;
    fault.finish()?;
    check!(before < 50.0 && during > 99.0, "before {before} ms, during {during} ms");
    Ok(())
}

pub fn warm_up_is_shown_and_kept(lab: &Lab) -> Result<(), Failed> {
    let (space, pod, _turn) = lab.shared()?;
    let output = space.plugin(&["install", "-p", "nginx"]);
    check!(output.status.success(), "install: {}", text(&output));
    let start = Instant::now();
    let args = ["disrupt", "-p", "nginx", "-d", "100", "-r", "2", "-w", "3"];
    let fault = space.start(&args)?;
    check!(start.elapsed() >= Duration::from_secs(3), "in force after {:?}", start.elapsed());
    let during = pod.ping()?;
    check!(during > 99.0, "not slow after the warm-up: {during} ms");
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0), "{exit:?} {said}");
    check!(said.contains("waiting 3.0 s before the start"), "the warm-up was not shown: {said}");
    Ok(())
}

/// A second interface: the pod's own bridge to nowhere, made from outside.
pub fn only_the_named_interface_is_hit(lab: &Lab) -> Result<(), Failed> {
    let (space, pod, _turn) = lab.shared()?;
    pod.look(&["ip", "link", "add", "net1", "type", "veth", "peer", "name", "nowhere"])?;
    pod.look(&["ip", "link", "set", "net1", "up"])?;
    let before = pod.network()?;
    let fault = space.start(&["disrupt", "-p", "nginx", "-i", "net1", "-d", "100", "-r", "5"])?;
    let during = pod.ping()?;
    check!(during < 50.0, "eth0 was hit: {during} ms");
    // nft's JSON leaves out what an egress chain hangs on.
    let place = format!("{}/nginx", space.name);
    let rules = text(&lab_command(&["pod", &place, "--", "nft", "list", "ruleset"]));
    let hooked = rules.contains("hook egress") && rules.contains("net1");
    check!(hooked || lab.backend() == Backend::Prio, "no rule on net1: {rules}");
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0), "{exit:?} {said}");
    check!(said.contains("no packet"), "that nothing was hit was not said: {said}");
    check!(pod.network()? == before, "left behind: {}", pod.network()?);
    let help = plugin(&["disrupt", "--help"]).output()?;
    check!(help.status.success(), "kubectl did not find the plugin: {}", text(&help));
    Ok(())
}

/// There the agent does itself what netem would.
pub fn a_kernel_without_netem_is_no_obstacle(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    space.create("nginx", &json!({}))?;
    let pod = space.running("nginx")?;
    let (before, untouched) = (pod.ping()?, pod.network()?);
    let fault = space.start(&["disrupt", "-p", "nginx", "-d", "100", "-r", "10"])?;
    let during = pod.ping()?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0) && said.contains("clean: ended by the kernel's timer"), "{said}");
    let by_the_agent = said.contains("the agent itself");
    check!(by_the_agent == (lab.backend() == Backend::Userspace), "the backend: {said}");
    let after = pod.ping()?;
    check!(before < 50.0 && during > 99.0 && after < 50.0, "{before}, {during}, {after} ms");
    check!(pod.network()? == untouched, "left behind: {}", pod.network()?);
    Ok(())
}

/// One target is cut off, in the way that was asked for, and nobody else.
pub fn a_partition_cuts_off_its_target_only(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    for name in ["client", "target", "bystander"] {
        space.create(name, &json!({}))?;
    }
    let (client, target, bystander) =
        (space.running("client")?, space.running("target")?, space.running("bystander")?);
    let untouched = client.network()?;
    let place = format!("{}/client", space.name);
    // 0 answered, 7 refused, 28 no answer in time (curl(1)).
    let curl = |pod: &Pod| -> Result<Option<i32>, Failed> {
        let url = format!("http://{}/", pod.address()?);
        Ok(lab_command(&["pod", &place, "--", "curl", "-s", "-o", "/dev/null", "-m", "3", &url])
            .status
            .code())
    };
    // A container that has been started may not listen yet.
    let answers =
        || [&target, &bystander].iter().all(|pod| curl(pod).is_ok_and(|it| it == Some(0)));
    wait_for("both to be reached before", Duration::from_secs(10), answers)?;
    let to = target.address()?;
    for (how, exit) in [("--drop", 28), ("--reject", 7)] {
        let args = ["partition", "-p", "client", "--to", &to, how, "-r", "60"];
        let fault = space.start(&args)?;
        let seen = (curl(&target)?, curl(&bystander)?);
        check!(seen == (Some(exit), Some(0)), "{how}: {seen:?}");
        fault.signal("INT")?;
        let (exit, said) = fault.finish()?;
        check!(exit == Some(130) && said.contains("clean: ended"), "{exit:?} {said}");
        check!(curl(&target)? == Some(0), "still cut off after {how}");
    }
    check!(client.network()? == untouched, "left behind: {}", client.network()?);
    Ok(())
}

/// What goes to a target is late, what goes to others is not.
pub fn a_target_is_late_and_others_are_not(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    space.create("client", &json!({}))?;
    // Where pods start sooner.
    let elsewhere = json!({"spec": {"nodeName": lab.node_name(Node::Native)}});
    for name in ["target", "bystander"] {
        space.create(name, &elsewhere)?;
    }
    let (client, target, bystander) =
        (space.running("client")?, space.running("target")?, space.running("bystander")?);
    let place = format!("{}/client", space.name);
    let seconds = |pod: &Pod| -> Result<f64, Failed> {
        let url = format!("http://{}/", pod.address()?);
        let curl = ["curl", "-s", "-o", "/dev/null", "-m", "5", "-w", "%{time_total}", &url];
        let output = lab_command(&[&["pod", &place, "--"][..], &curl[..]].concat());
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    };
    let to = format!("{}:80", target.address()?);
    let fault = space.start(&["disrupt", "-p", "client", "-d", "300", "--to", &to, "-r", "60"])?;
    let (late, quick) = (seconds(&target)?, seconds(&bystander)?);
    fault.signal("INT")?;
    fault.finish()?;
    // SYN and request are late by 300 ms each.
    check!(late >= 0.6 && quick < 0.5, "target {late} s, bystander {quick} s");
    check!(client.ping()? < 50.0, "still late");
    Ok(())
}

/// Several pods get slow at the same moment, as their packets tell, and the one that was left out does not.
pub fn many_pods_begin_at_the_same_moment(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let names = ["web-1", "web-2", "web-3", "web-4", "canary"];
    for name in names {
        space.create(name, &json!({"metadata": {"labels": {"app": "web"}}}))?;
    }
    let pods = names.map(|name| space.running(name)).into_iter().collect::<Result<Vec<_>, _>>()?;
    let untouched = pods.iter().map(Pod::network).collect::<Result<Vec<_>, _>>()?;
    let disrupt = ["disrupt", "-l", "app=web", "--except", "canary", "-d", "100", "-r", "1"];
    // A busy machine may hold back one of them, but not each time.
    let mut apart = f64::MAX;
    for _ in 0..3 {
        let pings = pods.iter().map(Pod::trace).collect::<Result<Vec<_>, _>>()?;
        let output = space.plugin(&disrupt);
        check!(output.status.success(), "{}", text(&output));
        check!(text(&output).contains("all 4 in force, begun within"), "{}", text(&output));
        let mut begins = Vec::new();
        for (pings, name) in pings.into_iter().zip(names) {
            // Nothing else takes that long, and a timer of the emulator's may be early by a little.
            let begin = slow_from(&pings.finish()?, 95.0);
            check!(begin.is_some() == (name != "canary"), "{name} is slow from {begin:?}");
            begins.extend(begin);
        }
        begins.sort_by(f64::total_cmp);
        apart = apart.min(begins[3] - begins[0]);
        if apart <= 0.25 {
            break;
        }
    }
    check!(apart <= 0.25, "begun {apart} s apart");
    let after = pods.iter().map(Pod::network).collect::<Result<Vec<_>, _>>()?;
    check!(after == untouched, "left behind: {after:?}");
    Ok(())
}
