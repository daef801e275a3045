//! `status` and `revert`, beside what `tc` and `nft` say.

use libtest_mimic::Failed;
use serde_json::{Value, json};

use crate::{
    check,
    lab::{Backend, Lab, Pod, lab as command, text},
};

pub fn reads_the_kernel_and_revert_ends_it(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let before = pod.network()?;
    let fault = space.start(&["disrupt", "-p", "nginx", "-d", "120", "-v", "30", "-r", "5m"])?;
    let output = space.plugin(&["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&output.stdout)?;
    let one = &status["faults"][0];
    check!(one["pod"] == "nginx" && one["state"] == "in-force", "{}", text(&output));
    let told = (&one["netem"]["delay"], &one["netem"]["jitter"]);
    check!(told == (&json!("120ms"), &json!("30ms")), "{status}");
    let left = one["remaining-ms"].as_u64().unwrap_or_default();
    check!((200_000..300_000).contains(&left), "{left} ms left");
    if lab.backend() != Backend::Userspace {
        assert_netem(&pod)?;
    }
    // Not as JSON: nft 1.0.6 prints some that cannot be read for a table with an owner.
    let place = format!("{}/nginx", space.name);
    let rules = text(&command(&["pod", &place, "--", "nft", "list", "ruleset"]));
    let id = one["fault"].as_str().unwrap_or_default();
    check!(rules.contains(&format!("pod-chaos-{id}")), "nft: {rules}");
    let table = text(&space.plugin(&["status"]));
    check!(table.contains(id) && table.contains("delay 120ms 30ms"), "{table}");

    let output = space.plugin(&["revert", "-p", "nginx"]);
    check!(output.status.success(), "{}", text(&output));
    check!(text(&output).contains("clean: ended"), "{}", text(&output));
    check!(pod.ping()? < 50.0, "still in force");
    check!(pod.network()? == before, "left behind: {}", pod.network()?);
    let (exit, said) = fault.finish()?;
    check!(exit == Some(0) && said.contains("someone else"), "{exit:?} {said}");
    let again = space.plugin(&["revert"]);
    check!(
        again.status.success() && text(&again).contains("nothing to revert"),
        "{}",
        text(&again)
    );
    let nothing = space.plugin(&["status", "-o", "json"]);
    check!(nothing.stdout.starts_with(b"{\"faults\":[]}"), "{}", text(&nothing));
    Ok(())
}

pub fn many_faults_leave_nothing(lab: &Lab) -> Result<(), Failed> {
    let space = lab.namespace(&json!({}))?;
    let pod = space.nginx("nginx")?;
    let before = pod.network()?;
    let mut said = String::new();
    for _ in 0..10 {
        let output = space.plugin(&["disrupt", "-p", "nginx", "-d", "10", "-r", "200ms"]);
        check!(output.status.success(), "{}", text(&output));
        said += &text(&output);
    }
    check!(pod.network()? == before, "left behind: {}", pod.network()?);
    check!(pod.ephemeral()?.len() == 1, "more than one agent: {:?}\n{said}", pod.ephemeral()?);
    Ok(())
}

/// As tc sees it, in seconds.
fn assert_netem(pod: &Pod) -> Result<(), Failed> {
    let qdiscs = pod.look(&["tc", "-j", "qdisc"])?;
    let netem = qdiscs.as_array().and_then(|all| all.iter().find(|one| one["kind"] == "netem"));
    let delay = netem.map(|netem| netem["options"]["delay"].clone()).unwrap_or_default();
    let close = |value: &Value, want: f64| (value.as_f64().unwrap_or(0.0) - want).abs() < 1e-6;
    check!(close(&delay["delay"], 0.12) && close(&delay["jitter"], 0.03), "tc: {qdiscs}");
    Ok(())
}
