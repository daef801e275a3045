//! Faults on whole pods.

use std::time::Duration;

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    check,
    lab::{Lab, Namespace, Node, Outcome, Pod, apply, kubectl, run, text, wait_for},
};

/// Names and ids of the pods of that app, but for those that end.
fn pods(space: &Namespace, app: &str) -> Outcome<Vec<(String, String)>> {
    let label = format!("app={app}");
    let output = kubectl(&["get", "pods", "-n", &space.name, "-l", &label, "-o", "json"]);
    let list: Value = serde_json::from_slice(&output.stdout)?;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let live = items.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let text = |pod: &Value, key: &str| pod["metadata"][key].as_str().unwrap_or("").to_owned();
    Ok(live.map(|pod| (text(pod, "name"), text(pod, "uid"))).collect())
}

/// A budget keeps a pod; without it, it goes and another one comes; what nothing brings back is left alone.
pub fn a_deleted_pod_has_a_successor(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let (labels, container) = (
        json!({"app": "web"}),
        json!({"name": "nginx", "image": "localhost/nginx:lab", "imagePullPolicy": "IfNotPresent"}),
    );
    apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": space.name},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {"nodeName": space.node, "terminationGracePeriodSeconds": 1, "containers": [container]},
        }},
    }))?;
    apply(&json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": space.name},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
    }))?;
    space.create("lonely", &json!({}))?;
    wait_for("the deployment's pod", Duration::from_secs(60), || {
        pods(&space, "web").is_ok_and(|pods| pods.len() == 1)
    })?;
    let before = pods(&space, "web")?;
    let [(name, _)] = &before[..] else { return Err(format!("{before:?}").into()) };
    space.running(name)?;
    // The budget counts the pod by what its controller has seen.
    let budget =
        ["get", "pdb", "web", "-n", &space.name, "-o", "jsonpath={.status.currentHealthy}"];
    wait_for("the budget to count the pod", Duration::from_secs(20), || {
        kubectl(&budget).stdout == b"1"
    })?;

    let kept = space.plugin(&["delete", "-p", name]);
    check!(kept.status.code() == Some(3), "a budget was passed over: {}", text(&kept));
    check!(text(&kept).contains("disruption budget"), "{}", text(&kept));
    check!(pods(&space, "web")? == before, "the pod was touched");

    let gone = space.plugin(&["delete", "-p", name, "--force", "-o", "json"]);
    check!(gone.status.success(), "{}", text(&gone));
    let after = pods(&space, "web")?;
    let [(successor, uid)] = &after[..] else { return Err(format!("{after:?}").into()) };
    check!(*uid != before[0].1, "it is the same pod");
    let said = String::from_utf8_lossy(&gone.stdout).into_owned();
    let said: Value = serde_json::from_str(said.lines().next().unwrap_or_default())?;
    check!(said["by"] == "deletion" && said["successor"] == **successor, "{said}");
    let ready = ["wait", "--for=condition=Ready", "-n", &space.name, "--timeout=0s"];
    let ready = kubectl(&[&ready[..], &[&format!("pod/{successor}")]].concat());
    check!(ready.status.success(), "its successor is not ready: {}", text(&ready));

    let output = kubectl(&["delete", "pdb", "web", "-n", &space.name]);
    check!(output.status.success(), "{}", text(&output));
    let evicted = space.plugin(&["delete", "-p", successor]);
    check!(evicted.status.success(), "{}", text(&evicted));
    check!(text(&evicted).contains("evicted, gone after"), "{}", text(&evicted));
    check!(pods(&space, "web")? != after, "it is the same pod");

    let lonely = space.plugin(&["delete", "-p", "lonely"]);
    check!(lonely.status.code() == Some(3), "{}", text(&lonely));
    check!(pods(&space, "lonely")?.len() == 1, "it was touched");
    Ok(())
}

/// How often that container was started again, and whether the pod is ready.
fn state(pod: &Pod, container: &str) -> Outcome<(i64, bool)> {
    let now = pod.read()?;
    let statuses = now["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
    let status = statuses.iter().find(|status| status["name"] == container);
    let restarts = status.and_then(|status| status["restartCount"].as_i64());
    let conditions = now["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
    Ok((restarts.ok_or("no such container")?, ready))
}

/// It stays, is refused by everyone and by the kubelet, and both of its containers are killed once; then it serves again.
pub fn a_failed_pod_stays_and_serves_nothing(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let probe = json!({"httpGet": {"port": 80}, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 1});
    let nginx = json!({
        "name": "nginx", "image": "localhost/nginx:lab", "imagePullPolicy": "IfNotPresent", "readinessProbe": probe,
    });
    let side = json!({
        "name": "side", "image": "localhost/shell:lab", "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "3600"],
    });
    space.create("web", &json!({"spec": {"containers": [nginx, side]}}))?;
    space.create("bystander", &json!({}))?;
    let (pod, bystander) = (space.running("web")?, space.running("bystander")?);
    let uid = pod.read()?["metadata"]["uid"].clone();
    let (url, other) =
        (format!("http://{}/", pod.address()?), format!("http://{}/", bystander.address()?));
    let curl = |url: &str| run("curl", &["-s", "-o", "/dev/null", "-m", "2", url]).status.code();
    check!(curl(&url) == Some(0), "nginx does not answer");

    let fault = space.start(&["fail", "-p", "web", "-r", "14"])?;
    // curl's word for a connection that was refused, and not for one that timed out.
    check!(curl(&url) == Some(7), "{:?}", curl(&url));
    check!(curl(&other) == Some(0), "the other pod does not answer");
    wait_for("both containers to be started again", Duration::from_secs(12), || {
        ["nginx", "side"].iter().all(|it| state(&pod, it).is_ok_and(|(restarts, _)| restarts == 1))
    })?;
    wait_for("the kubelet to find it unready", Duration::from_secs(8), || {
        state(&pod, "nginx").is_ok_and(|(_, ready)| !ready)
    })?;
    check!(curl(&url) == Some(7), "nginx answers");
    let (exit, said) = fault.finish()?;
    check!(
        exit == Some(0) && said.contains("clean: ended by the kernel's timer"),
        "{exit:?} {said}"
    );
    wait_for("the pod to be ready again", Duration::from_secs(10), || {
        state(&pod, "nginx").is_ok_and(|(restarts, ready)| ready && restarts == 1)
    })?;
    check!(curl(&url) == Some(0), "nginx does not answer again");
    check!(pod.read()?["metadata"]["uid"] == uid, "it is another pod");
    Ok(())
}

/// The image of the plugin under test, with the libraries that it needs as it is built for tests.
fn load_plugin(lab: &Lab, name: &str) -> Outcome {
    let file = std::env::temp_dir().join(format!("pod-chaos-plugin-{}.tar", std::process::id()));
    let script = format!(
        r#"set -euo pipefail
        . {root}/scripts/lab.d/image.sh
        root=$(mktemp -d)
        trap 'rm -r "$root"' EXIT
        take '' "$root" {plugin}
        mv "$root{plugin}" "$root/plugin"
        strip "$root/plugin"
        pack {name} amd64 "$root" '["/plugin"]' '[]' {file}"#,
        root = env!("CARGO_MANIFEST_DIR"),
        plugin = env!("CARGO_BIN_EXE_kubectl-pod_chaos"),
        file = file.display(),
    );
    let packed = run("bash", &["-c", &script]);
    check!(packed.status.success(), "packing the plugin: {}", text(&packed));
    // Where the guest shows the machine's files.
    let from = if lab.is(Node::Guest) { "/run/machine" } else { "" };
    let loaded = lab.containerd(&["image", "import", &format!("{from}{}", file.display())]);
    std::fs::remove_file(&file)?;
    check!(loaded.status.success(), "loading the plugin: {}", text(&loaded));
    Ok(())
}

/// Nothing of it runs, and its Job puts the images back although the command is killed.
pub fn images_that_nobody_has_are_put_back_by_a_job(lab: &Lab) -> Result<(), Failed> {
    let image = format!("localhost/plugin-of-a-test:{}", std::process::id());
    load_plugin(lab, &image)?;
    let space = lab.namespace(&json!({"pod-security.kubernetes.io/enforce": "baseline"}))?;
    let pod = space.nginx("web")?;
    let own = pod.read()?;
    let url = format!("http://{}/", pod.address()?);
    let curl = || run("curl", &["-s", "-o", "/dev/null", "-m", "2", &url]).status.code();
    check!(curl() == Some(0), "nginx does not answer");

    let fault = ["fail", "-p", "web", "--by", "image", "-r", "8", "--restorer-image", &image];
    let fault = space.start(&fault)?;
    fault.signal("KILL")?;
    wait_for("the kubelet to find no image", Duration::from_secs(8), || {
        let waiting = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
        let output = kubectl(&["get", "pod", "web", "-n", &space.name, "-o", waiting]);
        String::from_utf8_lossy(&output.stdout).contains("Image")
    })?;
    check!(curl() != Some(0), "nginx answers");
    wait_for("the pod to be ready again", Duration::from_secs(30), || {
        state(&pod, "nginx").is_ok_and(|(restarts, ready)| ready && restarts == 1)
    })?;
    check!(curl() == Some(0), "nginx does not answer again");
    let now = pod.read()?;
    check!(now["spec"]["containers"] == own["spec"]["containers"], "{now}");
    check!(now["metadata"]["annotations"] == own["metadata"]["annotations"], "{now}");
    let kinds = "jobs,roles,rolebindings,serviceaccounts,pods";
    wait_for("nothing to be left", Duration::from_secs(20), || {
        let left =
            kubectl(&["get", kinds, "-n", &space.name, "-l", "pod-chaos/restorer", "-o", "name"]);
        left.status.success() && left.stdout.is_empty()
    })?;
    lab.containerd(&["image", "rm", &image]);
    Ok(())
}
