//! Files that say what the code says too, and the rules of those who take them.

use std::fs;

use serde_json::Value;

fn read(file: &str) -> String {
    let path = format!("{}/{file}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(file: &str) -> Value {
    serde_saphyr::from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The rules of the krew index: docs/NAMING_GUIDE.md and docs/PLUGIN_LIFECYCLE.md there.
#[test]
fn the_krew_manifest_keeps_the_rules_of_the_index() {
    let manifest = yaml("krew-manifest.yaml");
    assert_eq!(manifest["kind"], "Plugin");
    assert_eq!(manifest["metadata"]["name"], "pod-chaos");
    let spec = &manifest["spec"];
    assert_eq!(spec["version"], concat!("v", env!("CARGO_PKG_VERSION")));
    let short = spec["shortDescription"].as_str().unwrap();
    assert!(short.len() <= 50 && !short.to_lowercase().contains("kubectl"), "{short}");
    for platform in spec["platforms"].as_array().unwrap() {
        assert_eq!(platform["bin"], "kubectl-pod_chaos");
        let sum = platform["sha256"].as_str().unwrap();
        assert!(sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()), "{sum}");
        let files = platform["files"].as_array().unwrap();
        assert!(files.iter().any(|file| file["from"] == "LICENSE"), "no licence in the archive");
    }
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
