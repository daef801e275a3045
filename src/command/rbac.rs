//! `rbac`: the ClusterRoles that users need, as an administrator applies them.

use std::io::{Write as _, stdout};

use crate::{
    cli::{Level, RbacArgs},
    exit::{Error, Exit},
};

/// The roles, each one a document.
const ROLES: &str = include_str!("../../deploy/rbac.yaml");

pub(super) fn run(args: &RbacArgs) -> Result<Exit, Error> {
    stdout().write_all(roles(args.level).as_bytes())?;
    Ok(Exit::Done)
}

fn roles(level: Level) -> &'static str {
    let mut documents = ROLES.split_inclusive("\n---\n");
    let role = match level {
        Level::Network => "\n  name: pod-chaos-network\n",
        Level::Process => "\n  name: pod-chaos-process\n",
        Level::Pods => "\n  name: pod-chaos-pods\n",
        Level::Audit => "\n  name: pod-chaos-audit\n",
        Level::Images => "\n  name: pod-chaos-images\n",
        Level::All => return ROLES,
    };
    let document = documents.find(|document| document.contains(role)).unwrap_or_default();
    document.strip_suffix("---\n").unwrap_or(document)
}
