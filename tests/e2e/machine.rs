//! What the lab promises of itself.

use std::{fs, path::PathBuf};

use libtest_mimic::Failed;

use crate::{
    check,
    lab::{Lab, lab as command, text},
};

/// Not even through a mount of its own.
pub fn the_guest_cannot_write_to_the_machines_files(lab: &Lab) -> Result<(), Failed> {
    let folder = std::env::temp_dir().join(format!("pod-chaos-machine-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let kept = folder.join("kept");
    fs::write(&kept, "as it was")?;
    let write = |root: &str| {
        let place = PathBuf::from(format!("{root}{}", folder.display()));
        let (kept, place) = (place.join("kept"), place.display());
        format!("echo changed >{}; touch {place}/new; rm -r {place};", kept.display())
    };
    // Its own /tmp may be another: then there is nothing to write to.
    let script = format!(
        "mkdir /run/mine-$$ && mount -t hostfs none /run/mine-$$ -o rw && cd /run/mine-$$ || exit 70
         [ -e .{} ] || exit 71
         {} {} mount -o remount,rw /run/machine; {} cd /; umount /run/mine-$$",
        kept.display(),
        write("."),
        write("/run/machine"),
        write("/run/machine"),
    );
    let output = lab.node(&["sh", "-c", &script]);
    let names: Vec<_> = fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    let (found, said) = (fs::read_to_string(&kept), text(&output));
    // It may be gone, which is what the checks say.
    let _ = fs::remove_dir_all(&folder);
    check!(output.status.code() == Some(0), "{said}");
    check!(said.matches("Read-only file system").count() >= 9, "{said}");
    check!(names == ["kept"], "{names:?} {said}");
    check!(found.as_ref().is_ok_and(|text| text == "as it was"), "{found:?} {said}");
    Ok(())
}

pub fn says_what_runs_and_what_it_said(_: &Lab) -> Result<(), Failed> {
    let status = command(&["status"]);
    check!(status.status.code() == Some(0), "{}", text(&status));
    for part in ["Kubernetes", "guest", "native"] {
        check!(text(&status).contains(part), "{part}: {}", text(&status));
    }
    let names = text(&command(&["logs"]));
    for name in ["apiserver", "guest", "guest/kubelet"] {
        check!(names.lines().any(|line| line == name), "{name}: {names}");
    }
    let log = command(&["logs", "guest"]);
    check!(text(&log).contains("-lab is up"), "{}", text(&log));
    Ok(())
}
