//! What krew's index asks of the manifest, and what krew does with it.
//!
//! krew is not among what can be installed from a package registry, so its steps are taken here: those of
//! internal/index/validation and internal/installation in kubernetes-sigs/krew.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

/// The made-up plugin says what it was called with.
const PLUGIN: &str = "#!/bin/sh\necho \"called with $*\"\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn manifest(path: &Path) -> Value {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_saphyr::from_str(&text).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

/// What `filepath.Clean` leaves as it is, and what stays below the folder it is relative to.
fn is_clean(path: &str) -> bool {
    let normal = |part| matches!(part, Component::Normal(_));
    path == "."
        || (!path.is_empty()
            && !path.ends_with('/')
            && Path::new(path).components().all(normal)
            && !path.contains("//")
            && !path.contains("/./"))
}

/// The first rule that a manifest breaks: `ValidatePlugin` and the index's naming guide.
fn broken_rule(manifest: &Value) -> Option<String> {
    let spec = &manifest["spec"];
    let name = text(&manifest["metadata"]["name"]);
    let version = text(&spec["version"]);
    let short = text(&spec["shortDescription"]);
    let numbers = version.strip_prefix('v').unwrap_or_default();
    let numbers = numbers.split('-').next().unwrap_or_default().split('.');
    let rules = [
        (manifest["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2", "apiVersion"),
        (manifest["kind"] == "Plugin", "kind"),
        (
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-') && !name.starts_with("kube"),
            "name",
        ),
        (numbers.flat_map(str::parse::<u32>).count() == 3, "version"),
        (!short.is_empty() && short.len() <= 50, "length of shortDescription"),
        (!short.to_lowercase().contains("kubectl") && !short.contains('\n'), "shortDescription"),
        (!text(&spec["description"]).is_empty(), "description"),
        (text(&spec["homepage"]).starts_with("https://"), "homepage"),
    ];
    if let Some((_, rule)) = rules.iter().find(|(holds, _)| !holds) {
        return Some((*rule).to_owned());
    }
    let platforms = spec["platforms"].as_array()?;
    if platforms.is_empty() {
        return Some("no platforms".to_owned());
    }
    platforms.iter().find_map(|platform| {
        broken_platform_rule(platform, version).map(|rule| format!("{rule}: {platform}"))
    })
}

fn broken_platform_rule(platform: &Value, version: &str) -> Option<&'static str> {
    let labels = platform["selector"]["matchLabels"].as_object();
    let (sum, bin, uri) =
        (text(&platform["sha256"]), text(&platform["bin"]), text(&platform["uri"]));
    let hexadecimal = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    let known = |key: &str, value: &Value| match key {
        "os" => ["linux", "darwin", "windows"].contains(&text(value)),
        "arch" => ["amd64", "arm64"].contains(&text(value)),
        _ => false,
    };
    let is_exe = Path::new(bin).extension().is_some_and(|extension| extension == "exe");
    let files = platform["files"].as_array().map_or(&[][..], Vec::as_slice);
    let rules = [
        (
            labels.is_some_and(|labels| labels.iter().all(|(key, value)| known(key, value))),
            "selector",
        ),
        (sum.len() == 64 && sum.bytes().all(hexadecimal), "sha256"),
        (uri.starts_with("https://") && uri.ends_with(".tar.gz"), "uri"),
        (uri.contains(&format!("/{version}/")), "uri of another version"),
        (is_clean(bin) && bin != ".", "bin"),
        (is_exe == (platform["selector"]["matchLabels"]["os"] == "windows"), ".exe"),
        (!files.is_empty() && files.iter().all(|file| is_clean(text(&file["to"]))), "files"),
        (files.iter().any(|file| text(&file["from"]) == bin), "bin is none of the files"),
        (files.iter().any(|file| text(&file["from"]) == "LICENSE"), "no licence"),
    ];
    rules.iter().find(|(holds, _)| !holds).map(|(_, rule)| *rule)
}

#[test]
fn the_manifest_keeps_the_rules_of_the_index() {
    let manifest = manifest(&root().join("krew-manifest.yaml"));
    assert_eq!(broken_rule(&manifest), None);
    assert_eq!(manifest["spec"]["version"], concat!("v", env!("CARGO_PKG_VERSION")));
    let mut platforms: Vec<_> = manifest["spec"]["platforms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|platform| {
            let labels = &platform["selector"]["matchLabels"];
            let (os, arch) = (text(&labels["os"]), text(&labels["arch"]));
            assert!(
                text(&platform["uri"]).ends_with(&format!("-{os}-{arch}.tar.gz")),
                "{platform}"
            );
            format!("{os}/{arch}")
        })
        .collect();
    platforms.sort();
    assert_eq!(
        platforms,
        [
            "darwin/amd64",
            "darwin/arm64",
            "linux/amd64",
            "linux/arm64",
            "windows/amd64",
            "windows/arm64"
        ]
    );
}

#[test]
fn each_rule_can_be_broken() {
    let good = manifest(&root().join("krew-manifest.yaml"));
    for (place, value, rule) in [
        ("/metadata/name", json!("Pod_Chaos"), "name"),
        ("/spec/version", json!("0.1.0"), "version"),
        ("/spec/shortDescription", json!("A kubectl plugin"), "shortDescription"),
        ("/spec/platforms/0/sha256", json!("AB".repeat(32)), "sha256"),
        ("/spec/platforms/0/selector/matchLabels", json!({"distribution": "debian"}), "selector"),
        ("/spec/platforms/0/bin", json!("./kubectl-pod_chaos"), "bin"),
        ("/spec/platforms/4/bin", json!("kubectl-pod_chaos"), ".exe"),
        ("/spec/platforms/0/files/0/to", json!("./"), "files"),
        ("/spec/platforms/0/files/0/to", json!("../elsewhere"), "files"),
        ("/spec/platforms/0/files/1/from", json!("README.md"), "no licence"),
        (
            "/spec/platforms/0/uri",
            json!("https://example.com/v9.9.9/a.tar.gz"),
            "uri of another version",
        ),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = value;
        let broken = broken_rule(&bad).unwrap_or_else(|| panic!("{place} is not looked at"));
        assert!(broken == rule || broken.starts_with(&format!("{rule}:")), "{place}: {broken}");
    }
}

/// Packs a plugin as a release does.
pub fn release(folder: &Path, plugin: &str) -> PathBuf {
    let binary = folder.join("made-up");
    fs::write(&binary, plugin).unwrap();
    let out = folder.join("release");
    let output = Command::new(root().join("scripts/release"))
        .args([concat!("v", env!("CARGO_PKG_VERSION")), "--platform", "linux/amd64", "--binary"])
        .arg(&binary)
        .arg("-o")
        .arg(&out)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[test]
fn krew_installs_what_a_release_packs_and_kubectl_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = release(folder.path(), PLUGIN);
    let manifest = manifest(&out.join("krew-manifest.yaml"));
    assert_eq!(broken_rule(&manifest), None);
    // The platform of this machine, by its labels.
    let ours = json!({"os": "linux", "arch": "amd64"});
    let platforms = manifest["spec"]["platforms"].as_array().unwrap();
    let platform = platforms.iter().find(|one| one["selector"]["matchLabels"] == ours).unwrap();
    // What is downloaded has to have the checksum.
    let archive = out.join(text(&platform["uri"]).rsplit('/').next().unwrap());
    assert_eq!(sha256(&archive), text(&platform["sha256"]));
    let unpacked = folder.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let tar = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&unpacked).status();
    assert!(tar.unwrap().success());
    // Only what `files` names is moved to where plugins live.
    let name = text(&manifest["metadata"]["name"]);
    let store = folder.path().join("store").join(name).join(text(&manifest["spec"]["version"]));
    fs::create_dir_all(&store).unwrap();
    for file in platform["files"].as_array().unwrap() {
        let (from, to) = (text(&file["from"]), text(&file["to"]));
        let to = if to == "." { Path::new(from).file_name().unwrap() } else { to.as_ref() };
        fs::rename(unpacked.join(from), store.join(to)).unwrap();
    }
    assert_eq!(
        fs::read_to_string(store.join("LICENSE")).unwrap(),
        fs::read_to_string(root().join("LICENSE")).unwrap()
    );
    // `bin` alone is linked, under the name that kubectl will look for.
    let bin = folder.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let link = bin.join(format!("kubectl-{}", name.replace('-', "_")));
    symlink(store.join(text(&platform["bin"])), &link).unwrap();
    assert_eq!(fs::metadata(&link).unwrap().permissions().mode() & 0o777, 0o755);
    // kubectl joins words with dashes, having made underscores of theirs (pkg/cmd/cmd.go of kubectl).
    let wanted = format!("kubectl-{}", "pod-chaos".replace('-', "_"));
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let output = Command::new("sh")
        .args(["-c", &format!("exec {wanted} status -A")])
        .env_clear()
        .env("PATH", path)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "called with status -A\n");
}

#[test]
fn the_same_plugin_gives_the_same_archive() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [one, other] = folders.each_ref().map(|folder| release(folder.path(), PLUGIN));
    let name = "kubectl-pod_chaos-linux-amd64.tar.gz";
    assert_eq!(sha256(&one.join(name)), sha256(&other.join(name)));
    let compared = Command::new(root().join("scripts/release"))
        .arg("--compare")
        .args([&one, &other])
        .output()
        .unwrap();
    assert!(compared.status.success(), "{compared:?}");
    fs::write(one.join(name), "something else").unwrap();
    let compared = Command::new(root().join("scripts/release"))
        .arg("--compare")
        .args([&one, &other])
        .output()
        .unwrap();
    assert!(!compared.status.success(), "{compared:?}");
}
