//! Files that say what the code says too, and the rules of those who take them.

use std::fs;

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
