//! `fail --by image`: the real plugin as the command, and as what its Job runs.

use std::{
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    fake_api::{Agent, FakeApi, Scenario, pod},
    faults::good,
    plugin_with, seen,
};

/// Two containers, a sidecar, and one that has prepared the pod.
fn web() -> Value {
    pod(&json!({
        "metadata": {"uid": "1", "resourceVersion": "7", "annotations": {"other": "stays"}},
        "spec": {
            "nodeName": "node-1",
            "containers": [{"name": "app", "image": "app:1"}, {"name": "side", "image": "side:1"}],
            "initContainers": [
                {"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"},
                {"name": "once", "image": "once:1"},
            ],
        },
    }))
}

fn serve(scenario: Scenario) -> FakeApi {
    FakeApi::serve(Scenario { pod: Some(web()), agent: Agent::Says(good), ..scenario })
}

fn plugin(api: &FakeApi, line: &str) -> Command {
    let mut command = plugin_with(&api.kubeconfig);
    command.args(line.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn images(api: &FakeApi) -> Vec<String> {
    let pod = api.pod();
    let lists =
        ["containers", "initContainers"].map(|list| pod["spec"][list].as_array().unwrap().clone());
    lists.concat().iter().map(|it| it["image"].as_str().unwrap().to_owned()).collect()
}

const OWN: [&str; 4] = ["app:1", "side:1", "proxy:1", "once:1"];

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} has not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What the kubelet does once there is a Job that is not held back.
fn start_job(api: &FakeApi) -> Child {
    let job =
        || api.made().into_iter().find(|it| it["kind"] == "Job" && it["spec"]["suspend"] == false);
    wait_for("the job", || job().is_some());
    let container = job().unwrap()["spec"]["template"]["spec"]["containers"][0].clone();
    let args =
        container["args"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned());
    plugin_with(&api.kubeconfig).args(args).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs it, and the Job as soon as there is one; waits until the images are replaced.
fn begin(api: &FakeApi, line: &str) -> (Child, Child) {
    let command = plugin(api, line).spawn().unwrap();
    let job = start_job(api);
    wait_for("the fault", || images(api) != OWN);
    let nowhere = "pod-chaos.invalid/failed:on-purpose";
    assert_eq!(images(api), [nowhere, nowhere, nowhere, "once:1"]);
    (command, job)
}

fn is_clean(api: &FakeApi) {
    assert_eq!(images(api), OWN);
    assert_eq!(api.pod()["metadata"]["annotations"], json!({"other": "stays"}));
}

fn finish(command: Child) -> Output {
    command.wait_with_output().unwrap()
}

#[test]
fn the_job_puts_the_images_back_at_the_deadline() {
    let api = serve(Scenario { conflicts: 3, ..Scenario::default() });
    let (command, job) = begin(&api, "fail -p web --by image -r 2 -o json");
    let status = plugin(&api, "status").output().unwrap();
    assert!(seen(&status).contains("images of app, proxy, side replaced"), "{}", seen(&status));
    let again = plugin(&api, "fail -p web --by image").output().unwrap();
    assert_eq!(again.status.code(), Some(3), "{}", seen(&again));
    assert!(seen(&again).contains("has no images of its own: fault "), "{}", seen(&again));
    let (job, output) = (finish(job), finish(command));
    assert!(job.status.success(), "{}", seen(&job));
    let said = seen(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains(r#""event":"images-replaced""#) && said.contains(r#""by":"job""#),
        "{said}"
    );
    is_clean(&api);
    assert_eq!(api.made(), [Value::Null; 0], "the job is left");
}

#[test]
fn it_holds_when_the_command_is_killed() {
    let api = serve(Scenario::default());
    let (command, job) = begin(&api, "fail -p web --by image -r 2");
    kill(command);
    assert!(finish(job).status.success());
    is_clean(&api);
}

fn kill(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

/// As when its node has been gone for a while.
#[test]
fn a_job_that_comes_back_after_the_deadline_puts_them_back_at_once() {
    let api = serve(Scenario::default());
    let (command, job) = begin(&api, "fail -p web --by image -r 2 --detach");
    kill(job);
    assert!(finish(command).status.success());
    std::thread::sleep(Duration::from_millis(2500));
    assert_ne!(images(&api), OWN, "somebody has put them back");
    assert!(finish(start_job(&api)).status.success());
    is_clean(&api);
}

#[test]
fn the_command_puts_them_back_when_the_job_is_late() {
    let api = serve(Scenario::default());
    let (command, job) = begin(&api, "fail -p web --by image -r 1 --job-grace 100ms -o json");
    kill(job);
    let said = seen(&finish(command));
    assert!(said.starts_with("exit: 0"), "{said}");
    assert!(
        said.contains("its Job is late: putting the images back")
            && said.contains(r#""by":"client""#),
        "{said}"
    );
    is_clean(&api);
    assert_eq!(api.made(), [Value::Null; 0], "the job is left");
}

#[test]
fn what_is_made_for_it_may_do_no_more_than_it_must() {
    let api = serve(Scenario::default());
    let (command, job) = begin(&api, "fail -p web --by image -r 60 --detach");
    let said = seen(&finish(command));
    assert!(said.starts_with("exit: 0") && said.contains("detached: its Job ends it in"), "{said}");
    let made = api.made();
    let kinds: Vec<_> = made.iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["Job", "ServiceAccount", "Role", "RoleBinding"]);
    assert_eq!(
        made[2]["rules"],
        json!([{"apiGroups": [""], "resources": ["pods"], "resourceNames": ["web"], "verbs": ["get", "patch"]}])
    );
    assert_eq!(made[0]["metadata"]["ownerReferences"][0]["uid"], "1");
    for other in &made[1..] {
        assert_eq!(other["metadata"]["ownerReferences"][0]["uid"], "uid-of-jobs");
    }
    let spec = &made[0]["spec"]["template"]["spec"];
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(spec["containers"][0]["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    // From any machine.
    let revert = plugin(&api, "revert").output().unwrap();
    let said = seen(&revert);
    assert!(
        said.starts_with("exit: 0") && said.contains("images put back by this command"),
        "{said}"
    );
    is_clean(&api);
    assert_eq!(api.made(), [Value::Null; 0]);
    let nothing = seen(&plugin(&api, "revert -p web").output().unwrap());
    assert!(nothing.contains("clean: nothing to revert"), "{nothing}");
    kill(job);
}

#[test]
fn an_interrupt_puts_them_back_at_once() {
    let api = serve(Scenario::default());
    let (command, job) = begin(&api, "fail -p web --by image -r 60");
    let killed = Command::new("kill").args(["-INT", &command.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = finish(command);
    assert_eq!(output.status.code(), Some(130), "{}", seen(&output));
    is_clean(&api);
    assert_eq!(api.made(), [Value::Null; 0]);
    kill(job);
}

#[test]
fn no_job_no_patch() {
    let stuck = pod(&json!({
        "metadata": {"name": "restorer", "labels": {}},
        "status": {"containerStatuses": [{
            "name": "restore", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": "ErrImagePull"}},
        }]},
    }));
    let api = serve(Scenario { objects: vec![("pods", stuck)], ..Scenario::default() });
    let output = plugin(&api, "fail -p web --by image").output().unwrap();
    let said = seen(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("does not start (ErrImagePull); the pod was not touched"), "{said}");
    assert!(said.contains("hint: its image is localhost/kubectl-pod-chaos:v"), "{said}");
    assert_eq!((api.pod(), api.made()), (web(), vec![]));
}

#[test]
fn who_may_not_do_it_is_refused_before_anything_is_made() {
    let needs = [
        "patch pods/",
        "create jobs/",
        "delete jobs/",
        "patch jobs/",
        "create serviceaccounts/",
        "create roles/",
        "create rolebindings/",
    ];
    let api = serve(Scenario { forbidden: needs.to_vec(), ..Scenario::default() });
    let refused = |line: &str| {
        let output = plugin(&api, line).output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{}", seen(&output));
        assert_eq!(api.changes(), [""; 0]);
        seen(&output)
    };
    assert_eq!(refused("fail -p web --by image").matches("you may not").count(), needs.len());
    assert!(refused("fail -p web --by image").contains("ClusterRole `pod-chaos-images`"));
    // An account that is there spares four of them.
    let said = refused("fail -p web --by image --service-account restorer");
    assert_eq!(said.matches("you may not").count(), 3, "{said}");
}

#[test]
fn what_could_not_be_made_whole_does_not_stay() {
    let api = serve(Scenario { forbidden: vec!["make roles"], ..Scenario::default() });
    let output = plugin(&api, "fail -p web --by image").output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", seen(&output));
    assert!(seen(&output).contains("no roles here"), "{}", seen(&output));
    assert_eq!((api.pod(), api.made()), (web(), vec![]));
}

#[test]
fn what_others_have_changed_is_theirs() {
    let api = serve(Scenario::default());
    let (command, job) = begin(&api, "fail -p web --by image -r 2 --detach");
    assert!(finish(command).status.success());
    let theirs = json!([{"name": "app", "image": "app:2"}, {"name": "side", "image": "pod-chaos.invalid/failed:on-purpose"}]);
    api.meddle(&json!({"spec": {"containers": theirs}}));
    assert!(finish(job).status.success());
    assert_eq!(images(&api), ["app:2", "side:1", "proxy:1", "once:1"]);

    // Another pod of that name has images of its own.
    let api = serve(Scenario::default());
    let (command, job) = begin(&api, "fail -p web --by image -r 2 --detach");
    assert!(finish(command).status.success());
    api.meddle(&json!({"metadata": {"uid": "2"}}));
    let before = api.pod();
    assert!(finish(job).status.success());
    assert_eq!(api.pod(), before);
}

#[test]
fn flags_of_the_other_kind_are_refused() {
    let api = serve(Scenario::default());
    for line in ["fail -p web --by image --no-kill", "fail -p web --service-account x"] {
        let output = plugin(&api, line).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", seen(&output));
    }
    assert_eq!(api.requests(), [""; 0]);
}
