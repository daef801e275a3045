//! Files that say what the code says too, and the rules of those who take them.

use std::{collections::BTreeSet, fs, path::Path};

use clap::{Command, CommandFactory as _};
use serde_json::{Value, json};

#[allow(dead_code, reason = "a program of its own")]
#[path = "../../examples/man.rs"]
mod man;

fn read(file: &str) -> String {
    let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_readme_names_commands_and_files_that_exist() {
    let readme = read("README.md");
    for target in readme.split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
        assert!(
            fs::exists(format!("{}/{}", env!("CARGO_MANIFEST_DIR"), target.0)).unwrap(),
            "{target:?}"
        );
    }
    let help = crate::plugin().arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `"));
    for command in rows.filter_map(|row| row.split([' ', '`']).next()) {
        if command != "kubectl" {
            assert!(help.contains(&format!("\n  {command} ")), "no command {command}");
        }
    }
    assert!(readme.contains(concat!("pod-chaos-agent:v", env!("CARGO_PKG_VERSION"))));
}

/// The objects of a file in deploy/.
fn objects(file: &str) -> Vec<Value> {
    let text = read(&format!("deploy/{file}"));
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What the API server's own policy lets in is seen on the lab; Kyverno takes the same words (its ValidatingPolicy is a
/// superset).
#[test]
fn kyvernos_policy_says_what_the_api_servers_says() {
    let [policy, binding] = objects("validating-admission-policy.yaml").try_into().unwrap();
    let [kyverno] = objects("kyverno.yaml").try_into().unwrap();
    assert_eq!(
        (&kyverno["apiVersion"], &kyverno["kind"]),
        (&json!("policies.kyverno.io/v1"), &json!("ValidatingPolicy"))
    );
    assert_eq!(kyverno["metadata"], policy["metadata"]);
    assert_eq!(binding["spec"]["policyName"], policy["metadata"]["name"]);
    let mut spec = kyverno["spec"].clone();
    // What only Kyverno has.
    let evaluation = spec.as_object_mut().unwrap().remove("evaluation").unwrap();
    assert_eq!(evaluation, json!({"background": {"enabled": false}}));
    let mut both = policy["spec"].clone();
    both["validationActions"] = binding["spec"]["validationActions"].clone();
    both["matchConstraints"]["namespaceSelector"] =
        binding["spec"]["matchResources"]["namespaceSelector"].clone();
    assert_eq!(spec, both);
    assert_eq!(both["validations"].as_array().unwrap().len(), 5);
}

/// Looks at the page of a command and at those below it; adds their names.
fn look_at_page(command: &Command, name: &str, folder: &Path, pages: &mut BTreeSet<String>) {
    let file = format!("{name}.1");
    let page =
        fs::read_to_string(folder.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert!(page.contains(".TH ") && page.contains(".SH SYNOPSIS"), "{page}");
    for flag in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(long) = flag.get_long() else { continue };
        // As roff writes a dash.
        let written = format!("--{long}").replace('-', "\\-");
        assert!(page.contains(&written), "{file} has no {written}");
    }
    pages.insert(file);
    for below in command.get_subcommands().filter(|it| !it.is_hide_set()) {
        look_at_page(below, &format!("{name}-{}", below.get_name()), folder, pages);
    }
}

#[test]
fn every_command_and_flag_is_in_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    man::write(folder.path()).unwrap();
    let command = pod_chaos::cli::Cli::command();
    let mut pages = BTreeSet::new();
    look_at_page(&command, "kubectl-pod-chaos", folder.path(), &mut pages);
    let written = fs::read_dir(folder.path()).unwrap();
    let written: BTreeSet<_> =
        written.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(pages.len() > 20 && written == pages, "{written:?}");
}
