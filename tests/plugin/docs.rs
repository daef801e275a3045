//! What the pages tell people to type.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
    thread,
};

use insta::assert_snapshot;
use pod_chaos_protocol::{Ending, Event, Fault, Metrics, Request};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

use crate::{
    fake_api::{Agent, FakeApi, Line, Scenario},
    faults::{WARM, ended, good, in_force},
    image::agent,
    krew::release,
    processes::{pod_of, sends},
    seen,
};

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

/// A folder with a kubectl that runs the plugin, and with tools of others that do nothing.
fn tools() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let plugin = env!("CARGO_BIN_EXE_kubectl-pod_chaos");
    let kubectl = format!("#!/bin/sh\n[ $1 = pod-chaos ] || exit 0\nshift\nexec {plugin} \"$@\"\n");
    program(&folder.path().join("kubectl"), &kubectl);
    for tool in ["kind", "minikube", "aws", "skopeo"] {
        program(&folder.path().join(tool), "#!/bin/sh\n");
    }
    // The lab builds its images with it.
    fs::create_dir(folder.path().join("scripts")).unwrap();
    program(&folder.path().join("scripts/images"), "#!/bin/sh\n");
    folder
}

/// Types a line, with that kubeconfig.
fn typed(line: &str, tools: &TempDir, kubeconfig: &Path) -> Output {
    let path = format!("{}:/usr/bin:/bin", tools.path().display());
    Command::new("sh")
        .args(["-c", line])
        .current_dir(tools.path())
        .env_clear()
        .envs([("PATH", path.as_str()), ("HOME", "/nonexistent")])
        .env("KUBECONFIG", kubeconfig)
        .output()
        .unwrap()
}

#[test]
fn every_example_is_understood() {
    let tools = tools();
    let pages = [
        "network.md",
        "targets.md",
        "process.md",
        "syscall.md",
        "observe.md",
        "pods.md",
        "output.md",
        "selection.md",
        "permissions.md",
        "getting-started.md",
        "troubleshooting.md",
    ];
    for line in pages.map(lines).concat() {
        let output = typed(&line, &tools, Path::new("/nonexistent"));
        let errors = String::from_utf8_lossy(&output.stderr);
        // It gets as far as to look for a cluster, or for agents: tests are built without.
        let understood = if line.starts_with("kubectl pod-chaos") {
            errors.contains("kubeconfig") || errors.contains("brings no agent")
        } else {
            output.status.success()
        };
        assert!(understood, "{line}: {errors}");
    }
}

/// What the agent is asked for by each example; a test against the kernel does it (`agent/tests/kernel/options.rs`).
#[test]
fn every_example_of_a_worse_network_is_a_plan() {
    let tools = tools();
    let mut plans = Vec::new();
    for line in lines("network.md") {
        let says = |request: &Request| match request {
            Request::Apply { .. } => {
                let end = ended(request, Ending::Timer, &[]);
                vec![in_force(request), (0, Some(end)), (0, None)]
            }
            other => good(other),
        };
        let scenario =
            Scenario { pod: Some(WARM()), agent: Agent::Says(says), ..Scenario::default() };
        let api = FakeApi::serve(scenario);
        let output = typed(&line, &tools, &api.kubeconfig);
        assert!(output.status.success(), "{line}: {}", seen(&output));
        match &api.agent_heard()[..] {
            [] => assert!(!line.starts_with("kubectl"), "{line}"),
            [Request::Apply { plan }] => {
                let Fault::Netem(fault) = &plan.fault else { panic!("{line}: {plan:?}") };
                plans.push(format!("{line}\n{}", serde_json::to_string(&fault.netem).unwrap()));
            }
            other => panic!("{line}: {other:?}"),
        }
    }
    assert_snapshot!(plans.join("\n"));
}

/// What an agent is asked for by a line, which has to go well.
fn asked(line: &str, tools: &TempDir) -> String {
    let limits = json!({"cpu": "500m", "memory": "1Gi"});
    let container = json!({"name": "app", "image": "x", "resources": {"limits": limits}});
    let api = FakeApi::serve(Scenario {
        pod: Some(pod_of(&json!([container]))),
        agent: Agent::Says(sends),
        ..Scenario::default()
    });
    let output = typed(line, tools, &api.kubeconfig);
    assert!(output.status.success(), "{line}: {}", seen(&output));
    let asked = api.agent_heard().into_iter().filter_map(|request| match request {
        Request::Disturb { plan } => {
            Some((format!("{} for {}", plan.fault, plan.running_time), plan.target))
        }
        Request::Signal { plan } => {
            let signal =
                plan.signal.map_or_else(|| "the usual signal".to_owned(), |it| it.to_string());
            Some((signal, plan.target))
        }
        _ => None,
    });
    let asked = asked.map(|(what, target)| {
        let of = target.matching.map(|pattern| format!(", of `{pattern}`")).unwrap_or_default();
        format!("{what}, in {}{of}", target.container)
    });
    format!("{line}\n    {}\n", asked.collect::<Vec<_>>().join("\n    "))
}

/// Nothing starts a container again here that was killed; and going through a list takes hours.
#[test]
fn every_example_of_processes_reaches_an_agent() {
    let tools = tools();
    let mut lines = ["process.md", "syscall.md"].map(lines).concat();
    lines.retain(|line| {
        let ends = line.contains(" kill ") && !line.contains("--process") || line.contains("--oom");
        line.starts_with("kubectl pod-chaos") && !ends && !line.contains(" matrix ")
    });
    let asked = thread::scope(|scope| {
        let all: Vec<_> = lines.iter().map(|line| scope.spawn(|| asked(line, &tools))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<String>()
    });
    assert_snapshot!(asked);
}

/// An agent of any kind, of which everything ends well and at once.
fn obliges(request: &Request) -> Vec<Line> {
    match request {
        Request::Apply { .. } => {
            vec![in_force(request), (0, Some(ended(request, Ending::Timer, &[]))), (0, None)]
        }
        Request::Observe { .. } => {
            vec![(0, Some(Event::Observed { metrics: Metrics::default() })), (1100, None)]
        }
        Request::Disturb { .. } | Request::Signal { .. } => sends(request),
        other => good(other),
    }
}

/// A cluster with all that these pages name, as two contexts.
fn a_cluster() -> (FakeApi, NamedTempFile) {
    let named = |name: &str, labels: Value, owner: &str| {
        let mut pod = pod_of(&json!([{"name": "app", "image": "app:1"}]));
        let owner = json!([{"apiVersion": "apps/v1", "kind": owner.split('/').next(), "controller": true,
                            "name": owner.split('/').nth(1), "uid": "1"}]);
        pod["metadata"] = json!({"name": name, "namespace": "default", "labels": labels, "uid": name,
                                 "resourceVersion": "1", "ownerReferences": owner});
        pod["spec"]["nodeName"] = json!("node-1");
        pod["status"]["podIPs"] = json!([{"ip": "10.1.0.1"}]);
        pod
    };
    let web = |name: &str| {
        named(name, json!({"app": "web", "pod-template-hash": "7d4b9c"}), "ReplicaSet/web-7d4b9c")
    };
    let mut pods: Vec<_> = ["web", "web-0", "web-1", "web-2", "web-3"].map(web).to_vec();
    pods.push(named("db", json!({"app": "db"}), "StatefulSet/db"));
    let of = |name: &str| json!({"name": name, "namespace": "default", "resourceVersion": "1"});
    let workload = |kind: &str, name: &str| {
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": of(name),
               "spec": {"selector": {"matchLabels": {"app": name}}}})
    };
    let service = |name: &str| {
        let ports = json!([{"name": "sql", "port": 5432}, {"name": "redis", "port": 6379}]);
        json!({"metadata": of(name), "spec": {"clusterIPs": ["10.96.0.7"], "ports": ports}})
    };
    let mut objects: Vec<_> =
        ["db", "cache", "kube-dns"].map(|it| ("services", service(it))).into();
    objects.push(("deployments", workload("Deployment", "web")));
    objects.push(("statefulsets", workload("StatefulSet", "db")));
    objects.extend(pods.iter().map(|pod| ("pods", pod.clone())));
    let api = FakeApi::serve(Scenario {
        pod: None,
        more_pods: pods,
        objects,
        agent: Agent::Says(obliges),
        ..Scenario::default()
    });
    let mut config: Value = serde_json::from_slice(&fs::read(&api.kubeconfig).unwrap()).unwrap();
    for name in ["west", "east"] {
        let mut context = config["contexts"][0].clone();
        context["name"] = json!(name);
        config["contexts"].as_array_mut().unwrap().push(context);
    }
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), config.to_string()).unwrap();
    (api, file)
}

/// Nothing starts again here, no Job runs and no file is there to be sent but a made-up one.
#[test]
fn every_example_of_the_other_pages_ends_well() {
    let tools = tools();
    let agent = agent(tools.path(), "agent", 62);
    let pages = [
        "targets.md",
        "pods.md",
        "output.md",
        "selection.md",
        "permissions.md",
        "getting-started.md",
        "troubleshooting.md",
        "observe.md",
    ];
    let mut lines = pages.map(lines).concat();
    lines.retain(|line| {
        let is_dry = line.contains("--dry-run");
        let ends = [" kill ", " delete ", " fail ", " image "].iter().any(|it| line.contains(it));
        line.starts_with("kubectl pod-chaos") && (is_dry || !ends)
    });
    let tried = |line: &String| {
        let (_api, kubeconfig) = a_cluster();
        let mut line = line.replace("stream", &format!("stream={}", agent.display()));
        if line.contains(" observe ") {
            line = line.replace(" -r 60", "") + " -r 1";
        }
        let output = typed(&line, &tools, kubeconfig.path());
        (!output.status.success()).then(|| format!("{line}\n{}", seen(&output)))
    };
    let failed: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = lines.iter().map(|line| scope.spawn(|| tried(line))).collect();
        all.into_iter().filter_map(|one| one.join().unwrap()).collect()
    });
    assert!(lines.len() > 50 && failed.is_empty(), "{}: {}", lines.len(), failed.join("\n"));
}

/// The text of all sources below a folder, with strings of several lines in one.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = fs::read_to_string(&path).unwrap();
            let mut lines = file.split("\\\n");
            text += lines.next().unwrap_or_default();
            text.extend(lines.map(str::trim_start));
        }
    }
    text
}

#[test]
fn every_message_that_is_explained_is_one_of_ours() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["src", "agent/src", "agent/protocol/src"].map(|at| sources(&root.join(at)));
    let page = fs::read_to_string(root.join("docs/troubleshooting.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let messages: Vec<_> = rows.filter_map(|row| row.split('`').next()).collect();
    assert!(messages.len() > 15, "{messages:?}");
    for message in messages {
        for part in message.split('…').map(str::trim).filter(|part| !part.is_empty()) {
            let known = sources.iter().any(|text| text.contains(part));
            assert!(known, "{message}: nothing says `{part}`");
        }
    }
}

/// The flags below these headings of a command's help.
fn flags(command: &str, headings: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-pod_chaos"))
        .args([command, "--help"])
        .output()
        .unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let mut within = false;
    let mut flags = Vec::new();
    for line in help.lines() {
        if let Some(heading) = line.strip_suffix(':').filter(|line| !line.starts_with(' ')) {
            within = headings.contains(&heading);
        } else if within && line.trim_start().starts_with('-') {
            // Values that a flag can have are listed likewise.
            let long = line.split_whitespace().find(|word| word.starts_with("--"));
            flags.extend(long.map(|long| long.trim_end_matches(',').to_owned()));
        }
    }
    assert!(!flags.is_empty(), "{help}");
    flags
}

#[test]
fn every_flag_of_a_network_fault_has_an_example() {
    let examples = [lines("network.md"), lines("targets.md")].concat().join(" ");
    let words: Vec<_> = examples.split(' ').collect();
    // The short ones are what people type.
    let short = [("--delay", "-d"), ("--variation", "-v"), ("--iface", "-i")];
    let shown = |flag: &str| {
        words.contains(&flag)
            || short.iter().any(|(long, short)| *long == flag && words.contains(short))
    };
    for flag in [
        flags("disrupt", &["Delay", "Loss and damage", "Link", "Traffic"]),
        flags("partition", &["Traffic"]),
        ["--drop", "--reject", "--kill-connections", "--new-only", "--probe"]
            .map(str::to_owned)
            .to_vec(),
    ]
    .concat()
    {
        assert!(shown(&flag), "no example of {flag}");
    }
}

fn program(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Every line of the page, one after another, with the files of a release in the folder. kubectl and the tools of
/// others are made up, and write down what they were called with.
#[test]
fn installing_works_as_the_page_says() {
    let folder = tempfile::tempdir().unwrap();
    let (home, tools) = (folder.path().join("home"), folder.path().join("tools"));
    fs::create_dir_all(&home).unwrap();
    fs::create_dir_all(&tools).unwrap();
    // It keeps the name that it is called by, as a binary does.
    let plugin = env!("CARGO_BIN_EXE_kubectl-pod_chaos");
    let release = release(folder.path(), &format!("#!/bin/bash\nexec -a \"$0\" {plugin} \"$@\"\n"));
    // Tests are built without agents.
    let agent = agent(folder.path(), "agent", if cfg!(target_arch = "x86_64") { 62 } else { 183 });
    let calls = folder.path().join("calls");
    program(
        &tools.join("kubectl"),
        &format!(
            "#!/bin/sh\ncase $1,$2 in\n\
             pod-chaos,image) shift; exec kubectl-pod_chaos \"$@\" --agent {} ;;\n\
             pod-chaos,*) shift; exec kubectl-pod_chaos \"$@\" ;;\nesac\n\
             [ \"$1\" != apply ] || cat >applied.yaml\necho \"kubectl $*\" >>{}\n",
            agent.display(),
            calls.display()
        ),
    );
    program(&tools.join("sudo"), "#!/bin/sh\nexec \"$@\"\n");
    for tool in ["kind", "minikube", "k3d", "docker", "ctr", "skopeo"] {
        let text = format!("#!/bin/sh\necho \"{tool} $1 $2\" >>{}\n", calls.display());
        program(&tools.join(tool), &text);
    }
    let path = format!("{}:{}/.local/bin:/usr/bin:/bin", tools.display(), home.display());
    let run = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-euc", script]).current_dir(&release).env_clear();
        command.envs([("PATH", &*path), ("HOME", home.to_str().unwrap())]).output().unwrap()
    };
    let output = run(&lines("install.md").join("\n"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(concat!("client v", env!("CARGO_PKG_VERSION"))));
    let calls = fs::read_to_string(calls).unwrap();
    let programs: Vec<_> = calls.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(
        programs,
        ["kubectl", "kind", "minikube", "k3d", "docker", "ctr", "skopeo", "kubectl", "kubectl"],
        "{calls}"
    );
    assert!(release.join("agent.tar").exists() && release.join("agent.oci.tar").exists());
    let roles = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac.yaml");
    let applied = fs::read_to_string(release.join("applied.yaml")).unwrap();
    assert_eq!(applied, fs::read_to_string(roles).unwrap());
    let completed = run("kubectl_complete-pod_chaos unin");
    assert!(completed.stdout.starts_with(b"uninstall\t"), "{}", text(&completed.stderr));
}
