//! What the pages tell people to type.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

/// The lines of the fenced `sh` blocks of a page.
fn lines(page: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
    let mut lines = Vec::new();
    let mut within = false;
    for line in text.lines() {
        match line {
            "```sh" => within = true,
            "```" => within = false,
            line if within => lines.push(line.to_owned()),
            _ => {}
        }
    }
    assert!(!lines.is_empty(), "{page} has no examples");
    lines
}

#[test]
fn every_example_is_understood() {
    let folder = tempfile::tempdir().unwrap();
    let kubectl = folder.path().join("kubectl");
    let plugin = env!("CARGO_BIN_EXE_kubectl-pod_chaos");
    fs::write(&kubectl, format!("#!/bin/sh\nshift\nexec {plugin} \"$@\"\n")).unwrap();
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    for line in [lines("network.md"), lines("targets.md"), lines("process.md")].concat() {
        let output = Command::new("sh")
            .args(["-c", &line])
            .current_dir(folder.path())
            .env_clear()
            .envs([("PATH", path.as_str()), ("HOME", "/nonexistent")])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        // It gets as far as to look for a cluster.
        let understood = if line.starts_with("kubectl") {
            errors.contains("kubeconfig")
        } else {
            output.status.success()
        };
        assert!(understood, "{line}: {errors}");
    }
}
