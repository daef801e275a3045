//! What kubectl offers to complete a command line with.
//!
//! kubectl runs `kubectl_complete-pod_chaos` with the words after `kubectl pod-chaos`, the last one being the one
//! that is completed, and reads candidates from stdout: one a line, with a tab before its description, then `:`
//! and a number of cobra's `ShellCompDirective` bits (pkg/cmd/plugin/plugin_completion.go of kubectl). The
//! plugin is that program too when it is called by that name.
//!
//! There is nobody to tell an error to: what cannot be looked up is not offered.

mod lookup;
mod words;

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{Write as _, stdout},
    path::Path,
};

use clap::{Arg, Command, CommandFactory as _};
use clap_complete::{
    ArgValueCandidates, CompletionCandidate,
    engine::{ValueCandidates, complete},
};

use self::{
    lookup::{Lookup, What},
    words::Words,
};
use crate::{
    cli::{Cli, OUTPUT, TARGETS},
    exit::Exit,
    plan::OutputFormat,
};

/// The name that kubectl looks for on the PATH.
const NAME: &str = "kubectl_complete-pod_chaos";

/// `ShellCompDirectiveNoSpace`: the candidate may go on.
const NO_SPACE: u8 = 2;
/// `ShellCompDirectiveNoFileComp`: files are no candidates.
const NO_FILES: u8 = 4;

/// Whether the program was called by the name that kubectl completes with.
pub fn wanted(program: &OsStr) -> bool {
    Path::new(program).file_stem().is_some_and(|stem| stem == NAME)
}

/// Prints the candidates for the last of `words`.
pub fn run(mut words: Vec<OsString>) -> Exit {
    if words.is_empty() {
        words.push(OsString::new());
    }
    let candidates = candidates(words);
    let mut text = String::new();
    for candidate in &candidates {
        text.push_str(&candidate.get_value().to_string_lossy());
        let help = candidate.get_help().map(ToString::to_string).unwrap_or_default();
        if let Some(line) = help.lines().next() {
            text.push('\t');
            text.push_str(line);
        }
        text.push('\n');
    }
    let open = |candidate: &CompletionCandidate| {
        candidate.get_value().to_string_lossy().ends_with(['/', '\\'])
    };
    let space = if candidates.iter().any(open) { NO_SPACE } else { 0 };
    // A reader that has gone wants no candidates.
    let _ = writeln!(stdout(), "{text}:{}", NO_FILES | space);
    Exit::Done
}

fn candidates(words: Vec<OsString>) -> Vec<CompletionCandidate> {
    let typed = words.last().cloned().unwrap_or_default();
    let lookup = Lookup::new(&Words(&words));
    let mut command = completed(Cli::command(), &lookup);
    let index = words.len();
    let mut all = vec![OsString::from("kubectl-pod_chaos")];
    all.extend(words);
    let found = complete(&mut command, all, index, env::current_dir().ok().as_deref());
    let mut found = found.unwrap_or_default();
    // As with kubectl's own commands, flags are offered to who asks for them, or when there is nothing else.
    let is_flag = |it: &CompletionCandidate| it.get_value().as_encoded_bytes().starts_with(b"-");
    if !typed.as_encoded_bytes().starts_with(b"-") && !found.iter().all(is_flag) {
        found.retain(|it| !is_flag(it));
    }
    found
}

/// The command and those below it, with what the cluster and the kubeconfig know.
fn completed(command: Command, lookup: &Lookup) -> Command {
    command
        .mut_args(|arg| match offered(&arg) {
            Some(what) => {
                let lookup = lookup.clone();
                arg.add(ArgValueCandidates::new(Named { lookup, what }))
            }
            None => arg,
        })
        .mut_subcommands(|command| completed(command, lookup))
}

/// What the values of a flag are the names of.
fn offered(arg: &Arg) -> Option<What> {
    if arg.get_id() == OUTPUT {
        return Some(What::These(&OutputFormat::NAMES));
    }
    if arg.get_id() == TARGETS {
        return Some(What::Targets);
    }
    Some(match arg.get_long()? {
        "pod" => What::Pods,
        "container" => What::Containers,
        "namespace" | "peer-namespace" => What::Namespaces,
        "to-service" | "from-service" | "exclude-service" => What::Services,
        "context" => What::Contexts,
        "cluster" => What::Clusters,
        "user" => What::Users,
        "protocol" => What::These(&["tcp", "udp", "icmp", "any"]),
        "distribution" => What::These(&["uniform", "normal", "pareto", "paretonormal"]),
        _ => return None,
    })
}

/// Names that are looked up when they are asked for.
struct Named {
    lookup: Lookup,
    what: What,
}

impl ValueCandidates for Named {
    fn candidates(&self) -> Vec<CompletionCandidate> {
        self.lookup.names(self.what).into_iter().map(CompletionCandidate::new).collect()
    }
}
