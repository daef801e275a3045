//! The roles that users need: what they give, and that the plugin asks for no more.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    fake_api::{FakeApi, Scenario, status},
    plugin, plugin_with,
    processes::pod_of,
};

/// The documents that are printed for these flags.
fn printed(flags: &[&str]) -> Vec<Value> {
    let output = plugin().arg("rbac").args(flags).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split("\n---\n").map(|one| serde_saphyr::from_str(one).unwrap()).collect()
}

fn names(roles: &[Value]) -> Vec<&str> {
    roles.iter().map(|role| role["metadata"]["name"].as_str().unwrap()).collect()
}

/// What a role gives, as `list endpointslices.discovery.k8s.io`.
fn given(role: &Value) -> BTreeSet<String> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
    };
    let mut given = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let [group] = &texts(&rule["apiGroups"])[..] else { panic!("{rule}") };
        let group = if group.is_empty() { String::new() } else { format!(".{group}") };
        for resource in texts(&rule["resources"]) {
            let acts = texts(&rule["verbs"]).into_iter();
            given.extend(acts.map(|verb| format!("{verb} {resource}{group}")));
        }
    }
    given
}

#[test]
fn prints_the_roles_of_a_level_which_one_role_unites() {
    let network = printed(&["--level", "network"]);
    let process = printed(&["--level", "process"]);
    let pods = printed(&["--level", "pods"]);
    assert_eq!(names(&pods), ["pod-chaos-pods"]);
    assert_eq!(names(&network), ["pod-chaos-network"]);
    assert_eq!(names(&process), ["pod-chaos-process"]);
    let all = printed(&[]);
    let each = ["pod-chaos-network", "pod-chaos-process", "pod-chaos-pods"];
    assert_eq!(
        names(&all),
        [&each[..], &["pod-chaos-audit", "pod-chaos-images", "pod-chaos"]].concat()
    );
    let audit = printed(&["--level", "audit"]);
    assert_eq!(given(&audit[0]), BTreeSet::from(["patch pods".to_owned()]));
    assert!(audit[0]["metadata"].get("labels").is_none(), "nobody gets it with the others");
    assert_eq!(all[..3], [network, process, pods].concat());
    let selected = &all[5]["aggregationRule"]["clusterRoleSelectors"][0]["matchLabels"];
    for role in &all[..3] {
        assert_eq!(role["metadata"]["labels"], *selected);
    }
}

/// What `kill` and `fail` ask.
const BUDGETS: [&str; 1] = ["list poddisruptionbudgets.policy"];

/// The verbs that `src/cluster` uses, and no others.
#[test]
fn the_roles_give_what_the_plugin_uses_and_no_more() {
    let every_fault = [
        "create events",
        "create pods/exec",
        "get daemonsets.apps",
        "get deployments.apps",
        "get jobs.batch",
        "get namespaces",
        "get pods",
        "get pods/exec",
        "get replicasets.apps",
        "get services",
        "get statefulsets.apps",
        "list events",
        "list pods",
        "patch pods/ephemeralcontainers",
    ];
    let followed = [
        "list endpointslices.discovery.k8s.io",
        "list services",
        "watch endpointslices.discovery.k8s.io",
        "watch pods",
        "watch services",
    ];
    let set = |used: &[&str]| used.iter().map(|act| (*act).to_owned()).collect::<BTreeSet<_>>();
    let process = [&every_fault[..], &BUDGETS].concat();
    assert_eq!(given(&printed(&["--level", "process"])[0]), set(&process));
    let removal = ["create pods/eviction", "delete pods"];
    let found = every_fault
        .into_iter()
        .filter(|it| it.starts_with("get ") && !it.contains("exec") || *it == "list pods");
    let pods: Vec<_> = removal.into_iter().chain(found).collect();
    assert_eq!(given(&printed(&["--level", "pods"])[0]), set(&pods));
    let network = [&process[..], &followed].concat();
    assert_eq!(given(&printed(&["--level", "network"])[0]), set(&network));
}

#[test]
fn the_plugin_asks_leave_only_for_what_the_roles_give() {
    let images: [&[&str]; 1] = [&["fail", "--by", "image", "--dry-run=server"]];
    let network: [&[&str]; 2] = [&["disrupt", "-d", "9"], &["partition", "--to-service", "db"]];
    let pause: [&[&str]; 1] = [&["pause", "-r", "1"]];
    for (level, commands) in [("network", &network[..]), ("process", &pause), ("images", &images)] {
        let mut asked = BTreeSet::new();
        for command in commands {
            let api = FakeApi::serve(Scenario {
                pod: Some(pod_of(&json!([{"name": "web", "image": "web"}]))),
                admission: Some((403, status(403, "Forbidden", "no"))),
                ..Scenario::default()
            });
            plugin_with(&api.kubeconfig).args(*command).args(["-p", "web"]).output().unwrap();
            asked.append(&mut api.asked());
        }
        let first = if level == "images" {
            "create roles.rbac.authorization.k8s.io"
        } else {
            "create pods/exec"
        };
        assert!(asked.contains(first), "{level}: {asked:?}");
        assert_eq!(asked.contains("watch services"), level == "network");
        let given = given(&printed(&["--level", level])[0]);
        assert!(asked.is_subset(&given), "{level}: {asked:?}");
    }
}
