//! Targets that have no address of their own: a Service, and a name.

use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    check,
    lab::{Lab, Pod, apply, kubectl, lab as lab_command, text, wait_for},
};

/// Whether a connection to port 80 of this address comes about, seen from that pod.
fn reaches(from: &Pod, address: &str) -> bool {
    let place = format!("{}/{}", from.namespace, from.name);
    let connect = format!("exec 3<>/dev/tcp/{address}/80");
    lab_command(&["pod", &place, "--", "timeout", "5", "bash", "-c", &connect]).status.success()
}

/// A Service of the pods `app`, with or without an address of its own.
pub fn service(namespace: &str, name: &str, app: &str, headless: bool) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80}]},
    });
    if headless {
        service["spec"]["clusterIP"] = json!("None");
    }
    service
}

/// What the kubelets have made known as endpoints, in JSON.
pub fn endpoints(namespace: &str) -> String {
    let slices = ["get", "endpointslices", "-n", namespace, "-o", "json"];
    String::from_utf8_lossy(&kubectl(&slices).stdout).into_owned()
}

/// A Service is hit by its own address and by those behind it, a name by the addresses that the pod itself gets for
/// it: a replica that is added half way too, and so is another answer for the name; and nobody else is.
pub fn a_new_replica_is_hit_too(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    for (name, headless) in [("db", false), ("cache", true)] {
        apply(&service(&space.name, name, name, headless))?;
    }
    for name in ["client", "db", "cache", "bystander"] {
        space.create(name, &json!({}))?;
    }
    let client = space.running("client")?;
    let [db, cache, bystander] = ["db", "cache", "bystander"].map(|name| space.running(name));
    let (db, cache, bystander) = (db?.address()?, cache?.address()?, bystander?.address()?);
    let own = ["get", "service", "db", "-n", &space.name, "-o", "jsonpath={.spec.clusterIP}"];
    let own = String::from_utf8_lossy(&kubectl(&own).stdout).into_owned();
    wait_for("the services' endpoints", Duration::from_secs(20), || {
        let slices = endpoints(&space.name);
        slices.contains(&db) && slices.contains(&cache)
    })?;

    let nowhere = ["partition", "-p", "client", "--to", "nowhere.invalid", "-r", "60"];
    let nowhere = space.plugin(&nowhere);
    check!(nowhere.status.code() == Some(3), "a name that is none: {}", text(&nowhere));
    check!(text(&nowhere).contains("`nowhere.invalid` cannot be resolved"), "{}", text(&nowhere));

    let flags = ["--to-service", "db", "--to", "cache:80", "--reject", "-r", "60"];
    let fault = space.start(&[&["partition", "-p", "client"], &flags[..]].concat())?;
    for (name, address) in [("db", &db), ("the service db", &own), ("cache", &cache)] {
        check!(!reaches(&client, address), "{name} ({address}) is not hit");
    }
    check!(reaches(&client, &bystander), "the bystander is hit");
    for app in ["db", "cache"] {
        space.create(&format!("{app}-2"), &json!({"metadata": {"labels": {"app": app}}}))?;
    }
    let [second, answer] = ["db-2", "cache-2"].map(|name| space.running(name));
    let (second, answer) = (second?.address()?, answer?.address()?);
    for (what, address) in [("new replica", &second), ("new answer for the name", &answer)] {
        let hit = || !reaches(&client, address);
        wait_for(&format!("the {what} to be hit"), Duration::from_secs(20), hit)?;
    }
    for address in [&db, &cache] {
        check!(!reaches(&client, address), "{address} is hit no more");
    }
    check!(reaches(&client, &bystander), "not only the new ones changed");
    fault.signal("INT")?;
    let (exit, said) = fault.finish()?;
    check!(exit == Some(130) && said.contains("clean: ended by request"), "{exit:?} {said}");
    for news in ["service db changed: 3 addresses, 1 new", "cache:80 changed: 2 addresses, 1 new"] {
        check!(said.contains(news), "{news}: {said}");
    }
    for address in [&db, &second, &cache, &answer, &bystander] {
        check!(reaches(&client, address), "{address} is hit after the end");
    }
    Ok(())
}
