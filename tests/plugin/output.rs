//! How a fault and what it comes to is printed, for programs and for people who want less of it.

use std::process::{Output, Stdio};

use insta::assert_snapshot;
use pod_chaos_protocol::Request;
use serde_json::{Value, json};

use crate::{
    fake_api::{Agent, FakeApi, Line, Scenario},
    faults::{disrupt, ended, good, in_force, masked, serve},
    plugin, plugin_with, seen,
};

fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", seen(output));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn what_a_fault_came_to_is_one_object_in_every_format() {
    let run = |format: &str| masked(&stdout(&disrupt(&serve(good), &["-o", format])));
    let lines = run("json");
    let last: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
    let yaml: Value = serde_saphyr::from_str(&run("yaml")).unwrap();
    assert_eq!(last, yaml);
    // An id of digits alone is quoted, or it would be a number.
    assert_snapshot!("fault_yaml", run("yaml").replace("\"IDIDIDID\"", "IDIDIDID"));
    assert_eq!(run("name"), "pod/web\n");
    assert_eq!(run("jsonpath={.results[*].ended.packets}"), "42\n");
}

#[test]
fn a_failure_is_in_the_object_too() {
    let api = serve(|_| crate::many::refusal());
    let output = disrupt(&api, &["-o", "yaml"]);
    assert_eq!(output.status.code(), Some(1), "{}", seen(&output));
    let report: Value =
        serde_saphyr::from_str(std::str::from_utf8(&output.stdout).unwrap()).unwrap();
    assert_eq!(report["result"], "failed");
    assert_eq!(report["results"][0]["errors"], json!(["pod/web: the kernel said no"]));
    assert!(report["results"][0].get("in-force").is_none(), "{report}");
}

#[test]
fn what_was_reverted_is_an_object_too() {
    let run = |format| plugin_with(&serve(good).kubeconfig).args(["revert", "-o", format]).output();
    let report: Value = serde_saphyr::from_str(&stdout(&run("yaml").unwrap())).unwrap();
    assert_eq!(report["results"][0]["ended"]["by"], "request", "{report}");
    assert_eq!(stdout(&run("name").unwrap()), "pod/web\n");
}

#[test]
fn a_dry_run_prints_the_patch_as_yaml() {
    let api = FakeApi::serve(Scenario { agent: Agent::Says(good), ..Scenario::default() });
    let text = stdout(&disrupt(&api, &["--dry-run", "client", "-o", "yaml"]));
    let patch: Value = serde_saphyr::from_str(text.strip_prefix("---\n").unwrap()).unwrap();
    assert_eq!((&patch["kind"], &patch["metadata"]["name"]), (&json!("Pod"), &json!("web")));
    assert_eq!(api.changes(), [""; 0]);
}

#[test]
fn quiet_says_nothing_but_data_and_errors() {
    let output = disrupt(&serve(good), &["--quiet"]);
    assert!(stdout(&output).contains("clean: ended"), "{}", seen(&output));
    assert_eq!(output.stderr, b"", "{}", seen(&output));
    let output = disrupt(&serve(|_| crate::many::refusal()), &["-q"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "error: pod/web: the kernel said no\n");
}

fn leaves_something(request: &Request) -> Vec<Line> {
    let by = pod_chaos_protocol::Ending::Timer;
    vec![in_force(request), (300, Some(ended(request, by, &["link pc-0000000a"]))), (0, None)]
}

/// The fault goes on, and what it comes to counts.
#[test]
fn nobody_who_reads_ends_nothing() {
    for format in ["text", "json", "yaml"] {
        let api = serve(leaves_something);
        let mut child = plugin_with(&api.kubeconfig)
            .args(["disrupt", "-p", "web", "-d", "100", "-r", "1", "-o", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        assert_eq!(child.wait().unwrap().code(), Some(4), "{format}");
    }
}

/// `script` gives it a terminal.
#[cfg(target_os = "linux")]
#[test]
fn colours_are_for_terminals_and_can_be_left_out() {
    let on_terminal = |flags: &str, variable: Option<&str>| {
        let line = format!("{} {flags}", env!("CARGO_BIN_EXE_kubectl-pod_chaos"));
        let mut command = std::process::Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env_remove("NO_COLOR").env("TERM", "xterm");
        command.envs(variable.map(|name| (name, "1")));
        String::from_utf8_lossy(&command.output().unwrap().stdout).contains('\x1b')
    };
    assert!(on_terminal("--help", None));
    assert!(!on_terminal("--help", Some("NO_COLOR")));
    assert!(!on_terminal("--no-color --help", None));
    assert!(!on_terminal("disrupt --no-color --to nowhere:x", None));
    let piped = plugin().arg("--help").output().unwrap();
    assert!(!piped.stdout.contains(&0x1b));
}
