//! The agent's image as a file and into clusters, judged by `tar`, `sha256sum`, and by what the loading
//! tools were called with.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use insta::assert_snapshot;
use serde_json::Value;

use crate::{plugin, seen};

/// Something that looks like an agent for that ELF machine (elf.h: 62 is x86-64, 183 is AArch64).
pub fn agent(folder: &Path, name: &str, machine: u8) -> PathBuf {
    let mut file = b"\x7fELF\x02\x01".to_vec();
    file.resize(5000, machine);
    file[18..20].copy_from_slice(&[machine, 0]);
    let path = folder.join(name);
    fs::write(&path, file).unwrap();
    path
}

/// `image save` of two agents, with these flags.
fn save(folder: &Path, output: &str, more: &[&str]) -> Output {
    let (x86, arm) = (agent(folder, "x86", 62), agent(folder, "arm", 183));
    let mut command = plugin();
    command.args(["image", "save", "-o", output]).args(more).current_dir(folder);
    command.arg("--agent").arg(x86).arg("--agent").arg(arm).output().unwrap()
}

fn unpacked(folder: &Path, archive: &str) -> PathBuf {
    let to = folder.join(format!("{archive}.d"));
    fs::create_dir(&to).unwrap();
    let tar = Command::new("tar").arg("-xf").arg(folder.join(archive)).arg("-C").arg(&to).status();
    assert!(tar.unwrap().success());
    to
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(
        &fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
    )
    .unwrap()
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..64].to_owned()
}

#[test]
fn a_docker_archive_holds_the_agent_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let output = save(folder, "a.tar", &["--arch", "arm64"]);
    assert!(output.status.success(), "{}", seen(&output));
    save(folder, "b.tar", &["--arch", "arm64"]);
    assert_eq!(sha256(&folder.join("a.tar")), sha256(&folder.join("b.tar")), "not reproducible");

    let image = unpacked(folder, "a.tar");
    let manifest = json(&image.join("manifest.json"));
    let config = image.join(manifest[0]["Config"].as_str().unwrap());
    let layer = image.join(manifest[0]["Layers"][0].as_str().unwrap());
    let name = concat!("localhost/pod-chaos-agent:v", env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest[0]["RepoTags"][0], name);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.trim(), format!("{name} sha256:{}", sha256(&config)));
    let config = json(&config);
    assert_eq!(config["architecture"], "arm64");
    assert_eq!(config["config"]["Entrypoint"][0], "/pod-chaos-agent");
    assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(&layer)));

    let list = Command::new("tar").arg("-tvf").arg(&layer).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.starts_with("-rwxr-xr-x 0/0") && list.lines().count() == 1, "{list}");
    fs::create_dir(folder.join("layer")).unwrap();
    let tar =
        Command::new("tar").arg("-xf").arg(&layer).arg("-C").arg(folder.join("layer")).status();
    assert!(tar.unwrap().success());
    assert_eq!(sha256(&folder.join("layer/pod-chaos-agent")), sha256(&folder.join("arm")));
}

#[test]
fn an_oci_layout_holds_both_architectures_under_one_digest() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let output = save(folder, "oci.tar", &["--format", "oci", "--name", "example.com/agent:v7"]);
    assert!(output.status.success(), "{}", seen(&output));
    let layout = unpacked(folder, "oci.tar");
    assert_eq!(json(&layout.join("oci-layout"))["imageLayoutVersion"], "1.0.0");
    // A descriptor leads to a blob of that digest and size.
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        let path = layout.join("blobs/sha256").join(&digest[7..]);
        assert_eq!(sha256(&path), digest[7..], "{descriptor}");
        assert_eq!(fs::metadata(&path).unwrap().len(), descriptor["size"].as_u64().unwrap());
        path
    };
    let top = json(&layout.join("index.json"));
    let image = &top["manifests"][0];
    assert_eq!(image["annotations"]["io.containerd.image.name"], "example.com/agent:v7");
    assert_eq!(image["annotations"]["org.opencontainers.image.ref.name"], "v7");
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.trim(), format!("example.com/agent:v7 {}", image["digest"].as_str().unwrap()));
    let index = json(&blob(image));
    let mut blobs = 1;
    for (number, (name, architecture)) in
        [("x86", "amd64"), ("arm", "arm64")].into_iter().enumerate()
    {
        let manifest = &index["manifests"][number];
        assert_eq!(manifest["platform"]["architecture"], architecture);
        let manifest = json(&blob(manifest));
        let config = json(&blob(&manifest["config"]));
        assert_eq!(config["architecture"], architecture);
        let layer = blob(&manifest["layers"][0]);
        let script = "gzip -dc \"$0\" | sha256sum; gzip -dc \"$0\" | tar -xO | sha256sum";
        let sums = Command::new("sh").args(["-c", script]).arg(&layer).output().unwrap().stdout;
        let sums = String::from_utf8(sums).unwrap();
        assert!(
            sums.starts_with(&config["rootfs"]["diff_ids"][0].as_str().unwrap()[7..]),
            "{sums}"
        );
        assert_eq!(sums.lines().nth(1).unwrap()[..64], sha256(&folder.join(name)));
        blobs += 3;
    }
    assert_eq!(fs::read_dir(layout.join("blobs/sha256")).unwrap().count(), blobs);
}

#[test]
fn to_stdout_goes_the_image_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let output = save(folder, "-", &["--arch", "amd64"]);
    save(folder, "a.tar", &["--arch", "amd64"]);
    assert!(output.stdout == fs::read(folder.join("a.tar")).unwrap());
    assert!(String::from_utf8(output.stderr).unwrap().contains(" sha256:"));
}

#[test]
fn the_built_in_agents_are_those_that_were_built() {
    let folder = tempfile::tempdir().unwrap();
    let output = plugin()
        .args(["image", "save", "-o", "agent.tar", "--arch", "arm64"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let Some(agents) = option_env!("POD_CHAOS_AGENTS") else {
        assert_snapshot!("no_agent", seen(&output));
        return;
    };
    assert!(output.status.success(), "{}", seen(&output));
    let image = unpacked(folder.path(), "agent.tar");
    let layer = json(&image.join("manifest.json"))[0]["Layers"][0].as_str().unwrap().to_owned();
    let tar = Command::new("tar").arg("-xf").arg(image.join(layer)).arg("-C").arg(&image).status();
    assert!(tar.unwrap().success());
    assert_eq!(sha256(&image.join("pod-chaos-agent")), sha256(&Path::new(agents).join("arm64")));
}

/// `image load` with a PATH on which `tool` stands, which writes down how it was called and ends so.
fn load(tool: &str, exit: u8, flags: &[&str]) -> (String, Output) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = folder.join(tool);
    let record = folder.join("record");
    // The archive is there, and whole, when the tool is called.
    let script = format!(
        "#!/bin/sh\necho \"$0 $*\" | sed 's|[^ ]*/||g' >{record}\nfor word; do case $word in *.tar) \
         tar -tf $word >>{record};; esac; done\necho loading\nexit {exit}\n",
        record = record.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let output = plugin()
        .args(["image", "load"])
        .args(flags)
        .arg("--agent")
        .arg(agent(folder, "x86", 62))
        .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
        .output()
        .unwrap();
    let record = fs::read_to_string(record).unwrap_or_default();
    (record.lines().next().unwrap_or_default().to_owned(), output)
}

#[test]
fn each_tool_is_called_as_its_manual_says() {
    for (tool, flag, called) in [
        ("kind", "--kind", "kind load image-archive pod-chaos-agent.tar"),
        ("kind", "--kind=blue", "kind load image-archive pod-chaos-agent.tar --name blue"),
        ("minikube", "--minikube", "minikube image load pod-chaos-agent.tar"),
        ("minikube", "--minikube=p", "minikube image load pod-chaos-agent.tar --profile p"),
        ("k3d", "--k3d", "k3d image import pod-chaos-agent.tar"),
        ("k3d", "--k3d=dev", "k3d image import pod-chaos-agent.tar --cluster dev"),
        ("ctr", "--containerd", "ctr --namespace k8s.io images import pod-chaos-agent.tar"),
        (
            "ctr",
            "--containerd=/run/k3s/containerd/containerd.sock",
            "ctr --address containerd.sock --namespace k8s.io images import pod-chaos-agent.tar",
        ),
        ("docker", "--docker", "docker load --input pod-chaos-agent.tar"),
    ] {
        let (record, output) = load(tool, 0, &[flag]);
        assert_eq!(record, called);
        assert!(output.status.success(), "{}", seen(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.ends_with(&format!("loaded by {tool}\n")), "{said}");
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "loading\n");
    }
}

#[test]
fn a_tool_that_is_missing_or_fails_is_named() {
    assert_snapshot!("no_minikube", seen(&load("kind", 0, &["--minikube"]).1));
    assert_snapshot!("kind_fails", seen(&load("kind", 3, &["--kind"]).1));
    assert_snapshot!("no_loader", seen(&load("kind", 0, &[]).1));
    assert_snapshot!("two_loaders", seen(&load("kind", 0, &["--kind", "--docker"]).1));
}

#[test]
fn refuses_what_is_no_agent() {
    let refused = |flags: &[&str]| {
        let output =
            plugin().args(["image", "save", "-o", "/dev/null"]).args(flags).output().unwrap();
        seen(&output)
    };
    assert_snapshot!("not_an_agent", refused(&["--agent", "/dev/null"]));
    assert_snapshot!("no_such_agent", refused(&["--agent", "/nonexistent"]));
}

#[test]
fn the_plugins_own_image_is_made_of_static_builds() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let save = |file: &Path| {
        let mut command = plugin();
        command.current_dir(folder).args(["image", "save", "-o", "p.tar"]);
        command.arg(format!("--plugin={}", file.display())).output().unwrap()
    };
    let output = save(&agent(folder, "x86", 62));
    assert!(output.status.success(), "{}", seen(&output));
    let image = unpacked(folder, "p.tar");
    let manifest = json(&image.join("manifest.json"));
    let name = concat!("localhost/kubectl-pod-chaos:v", env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest[0]["RepoTags"][0], name);
    let config = json(&image.join(manifest[0]["Config"].as_str().unwrap()));
    assert_eq!(config["config"]["Entrypoint"][0], "/kubectl-pod_chaos");
    // This one has a loader, as tests are built.
    let output = save(Path::new(env!("CARGO_BIN_EXE_kubectl-pod_chaos")));
    assert_eq!(output.status.code(), Some(3), "{}", seen(&output));
    assert!(seen(&output).contains("it is not static"), "{}", seen(&output));
}
