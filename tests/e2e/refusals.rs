//! What a real API server, kubelet and kernel refuse, and how it is said.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, UdpSocket},
    process::Output,
    thread,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use serde_json::json;

use crate::{
    check,
    lab::{Lab, Namespace, Node, apply, kubectl, plugin, text, wait_for},
};

/// Checks exit code, words and that each refusal but a usage error gives a hint.
fn refused(output: &Output, exit: i32, words: &[&str]) -> Result<(), Failed> {
    let said = text(output);
    check!(output.status.code() == Some(exit), "exit code is not {exit}: {said}");
    for word in words {
        check!(said.contains(word), "`{word}` is not in: {said}");
    }
    check!(said.contains("hint: "), "no hint: {said}");
    Ok(())
}

fn disrupt(space: &Namespace, pod: &str, more: &[&str]) -> Output {
    space.plugin(&[&["disrupt", "-p", pod, "-d", "100", "-r", "2"], more].concat())
}

pub fn pods_that_cannot_be_hit(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let not_found = ["Error from server (NotFound): pods \"nginx\" not found"];
    refused(&disrupt(&space, "nginx", &[]), 3, &not_found)?;
    space.create("host", &json!({"spec": {"hostNetwork": true, "containers": [
        {"name": "app", "image": "localhost/shell:lab", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]}]}}))?;
    space
        .create("pending", &json!({"spec": {"nodeName": null, "nodeSelector": {"no": "node"}}}))?;
    space.create("windows", &json!({"spec": {"nodeName": null, "os": {"name": "windows"}}}))?;
    let ready = ["wait", "--for=condition=Ready", "pod/host", "-n", &space.name, "--timeout=60s"];
    check!(kubectl(&ready).status.success(), "host is not ready");
    refused(&disrupt(&space, "host", &[]), 3, &["uses its node's network"])?;
    refused(&disrupt(&space, "pending", &[]), 3, &["is not running (phase Pending)"])?;
    refused(&disrupt(&space, "windows", &[]), 3, &["runs on Windows"])?;
    for pod in ["host", "pending", "windows"] {
        let output = kubectl(&[
            "get",
            "pod",
            pod,
            "-n",
            &space.name,
            "-o",
            "jsonpath={.spec.ephemeralContainers}",
        ]);
        check!(output.stdout.is_empty(), "{pod} was touched: {}", text(&output));
    }
    Ok(())
}

/// One that the kubelet reads from a file of its node; the API server has a copy to look at.
pub fn a_static_pod(lab: &Lab) -> Result<(), Failed> {
    let name = format!("static-{}", std::process::id());
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [
            {"name": "app", "image": "localhost/shell:lab", "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]}]}});
    let folder = if lab.is(Node::Guest) { "/run/lab" } else { "/var/lib/pod-chaos-lab" };
    let file = format!("{folder}/static-pods/{name}.json");
    let on_node = |script: &str| lab.node(&["sh", "-c", script]);
    let written = on_node(&format!("printf '%s' '{pod}' >{file}"));
    check!(written.status.success(), "{}", text(&written));
    let copy = format!("{name}-{}", if lab.is(Node::Guest) { Node::Guest } else { Node::Native });
    let running = || {
        let phase =
            kubectl(&["get", "pod", &copy, "-n", "default", "-o", "jsonpath={.status.phase}"]);
        phase.stdout == b"Running"
    };
    let waited = wait_for("the static pod", Duration::from_secs(90), running);
    let output =
        plugin(&["disrupt", "-p", &copy, "-n", "default", "-d", "100", "-r", "2"]).output()?;
    on_node(&format!("rm {file}"));
    waited?;
    refused(&output, 3, &["is a static pod"])
}

/// Gives `dev` those rules in the namespace.
fn grant(space: &Namespace, rules: &serde_json::Value) -> Result<(), Failed> {
    apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "dev", "namespace": space.name}, "rules": rules}))?;
    bind(space, "Role", "dev")
}

fn bind(space: &Namespace, kind: &str, role: &str) -> Result<(), Failed> {
    apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": role, "namespace": space.name},
        "subjects": [{"kind": "User", "name": "dev", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": kind, "name": role, "apiGroup": "rbac.authorization.k8s.io"}}))
}

pub fn missing_permissions(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let as_dev = ["--as", "dev"];
    let forbidden = [
        "Error from server (Forbidden)",
        "cannot get resource \"pods\"",
        "ClusterRole `pod-chaos`",
    ];
    refused(&disrupt(&space, "nginx", &as_dev), 3, &forbidden)?;
    grant(&space, &json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]))?;
    // The authorizer learns of a new role a moment later.
    wait_for("the role to count", Duration::from_secs(5), || {
        !text(&disrupt(&space, "nginx", &as_dev)).contains("cannot get resource \"pods\"")
    })?;
    let both = [
        "you may not patch pods/ephemeralcontainers",
        "you may not create pods/exec",
        "ClusterRole `pod-chaos`",
    ];
    refused(&disrupt(&space, "nginx", &as_dev), 3, &both)?;
    check!(pod.ephemeral()?.is_empty(), "the pod was touched");
    Ok(())
}

pub fn our_cluster_role_is_enough(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    space.nginx("nginx")?;
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac.yaml");
    let output = kubectl(&["apply", "-f", file]);
    check!(output.status.success(), "{}", text(&output));
    bind(&space, "ClusterRole", "pod-chaos-network")?;
    let mut output = None;
    wait_for("the role to count", Duration::from_secs(10), || {
        output = Some(disrupt(&space, "nginx", &["--as", "dev"]));
        output.as_ref().is_some_and(|output| output.status.success())
    })
    .map_err(|_| output.as_ref().map(text).unwrap_or_default())?;
    for command in [["status"], ["revert"]] {
        let output = space.plugin(&[&command[..], &["--as", "dev"]].concat());
        check!(output.status.success(), "{command:?}: {}", text(&output));
    }
    Ok(())
}

pub fn pod_security(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({"pod-security.kubernetes.io/enforce": "baseline"}))?;
    let pod = space.nginx("nginx")?;
    let words =
        ["Error from server (Forbidden)", "violates PodSecurity", "NET_ADMIN", "privileged"];
    refused(&disrupt(&space, "nginx", &[]), 3, &words)?;
    refused(&space.plugin(&["install", "-p", "nginx"]), 3, &words)?;
    check!(pod.ephemeral()?.is_empty(), "the pod was touched");
    Ok(())
}

pub fn an_image_that_cannot_be_pulled(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    // A pod each: after a container that cannot be made the kubelet takes a break with that pod.
    let (pod, _) = (space.nginx("nginx")?, space.nginx("nginx-2")?);
    let refused_soon = |pod: &str, image: &str, words: &[&str]| {
        let start = Instant::now();
        let output = disrupt(&space, pod, &["-g", image]);
        let took = start.elapsed();
        refused(&output, 3, words)?;
        check!(took < Duration::from_secs(10), "said after {took:?}");
        Ok(())
    };
    let missing = ["does not have", "localhost/no-such-image:v1"];
    refused_soon("nginx", "localhost/no-such-image:v1", &missing)?;
    // A registry that has nothing: the runtime's own words are passed on.
    let node = lab.address().ok_or("the node has no address")?;
    let registry = Nothing::serve(&node)?;
    let image = format!("{registry}/no-such-image:v1");
    refused_soon("nginx-2", &image, &["can't be pulled", &image, "failed to pull"])?;
    // The next try is not held up by containers that never came.
    let output = disrupt(&space, "nginx", &[]);
    check!(output.status.success(), "{}", text(&output));
    check!(pod.ping()? < 50.0, "still in force");
    Ok(())
}

/// A server that answers 404 to everything.
struct Nothing;

impl Nothing {
    /// Serves on the address of this host that `peer` can reach; gives the address and port.
    fn serve(peer: &str) -> Result<SocketAddr, Failed> {
        let probe = UdpSocket::bind("0.0.0.0:0")?;
        probe.connect((peer, 9))?;
        let listener = TcpListener::bind((probe.local_addr()?.ip(), 0))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            // A test makes a handful of requests; the thread ends with the process.
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            }
        });
        Ok(address)
    }
}

pub fn an_unknown_interface(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let before = pod.network()?;
    refused(&disrupt(&space, "nginx", &["-i", "eth7"]), 3, &["eth7", "eth0"])?;
    check!(pod.network()? == before, "left behind: {}", pod.network()?);
    Ok(())
}

pub fn a_second_fault_on_the_interface(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let first = space.start(&["disrupt", "-p", "nginx", "-d", "100", "-r", "6"])?;
    let during = pod.links()?;
    let output = space.plugin(&["disrupt", "-p", "nginx", "-d", "200", "-r", "2"]);
    refused(&output, 3, &["in force", "eth0"])?;
    check!(pod.links()? == during, "links were changed: {}", pod.links()?);
    check!(pod.ping()? < 150.0, "the second fault is in force");
    let (exit, said) = first.finish()?;
    check!(exit == Some(0), "{exit:?} {said}");
    Ok(())
}
