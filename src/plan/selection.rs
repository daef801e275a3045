//! Which pods are meant.

use std::{fmt, str::FromStr};

use super::{Labels, Mode, NodeName, Pattern, PodName, TargetName, Workload};
use crate::cli::PickArgs;

/// Why flags choose no pods.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSelection {
    /// Everything would be meant.
    #[error("no pod is named")]
    Nothing,
    /// As kubectl has it.
    #[error("names cannot be given with --selector, --field-selector or --pods: those find pods")]
    NamedAndFound,
    /// As kubectl has it.
    #[error("names cannot be given with --all-namespaces")]
    NamedEverywhere,
}

impl BadSelection {
    /// What to do about it.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Nothing => {
                "-p NAME, deploy/NAME, -l LABELS and --pods REGEX do that; `--pods .` means all of the namespace"
            }
            Self::NamedAndFound => "leave out one or the other",
            Self::NamedEverywhere => "-n says which namespace they are of",
        }
    }
}

/// Why a part of a selection was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPick {
    /// Not a field selector.
    #[error(
        "`{0}` does not select by fields (write it as spec.nodeName=node-1,status.phase=Running)"
    )]
    Fields(String),
    /// Not an annotation.
    #[error("`{0}` is not an annotation (write it as KEY or KEY=VALUE)")]
    Annotation(String),
    /// Not a phase.
    #[error("`{0}` is not a phase (Pending, Running, Succeeded, Failed or Unknown)")]
    Phase(String),
}

/// A field selector as `kubectl --field-selector` takes it; the API server knows the rest of the grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldSelector(String);

impl FieldSelector {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FieldSelector {
    type Err = BadPick;

    fn from_str(text: &str) -> Result<Self, BadPick> {
        let is_term = |term: &str| {
            term.split_once('=')
                .is_some_and(|(key, _)| key.starts_with(|c: char| c.is_ascii_alphabetic()))
        };
        if text.split(',').all(is_term) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadPick::Fields(text.to_owned()))
        }
    }
}

/// An annotation that a pod has, whatever its value or with this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// Its key.
    pub key: String,
    /// Its value, if that matters.
    pub value: Option<String>,
}

impl FromStr for Annotation {
    type Err = BadPick;

    fn from_str(text: &str) -> Result<Self, BadPick> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        let known = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        if !key.is_empty() && key.chars().all(known) {
            Ok(Self { key: key.to_owned(), value })
        } else {
            Err(BadPick::Annotation(text.to_owned()))
        }
    }
}

/// The phase of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not all containers have been started.
    Pending,
    /// At least one runs, or comes back.
    Running,
    /// All have ended well.
    Succeeded,
    /// All have ended, one of them badly.
    Failed,
    /// Its node is silent.
    Unknown,
}

impl Phase {
    const ALL: [Self; 5] =
        [Self::Pending, Self::Running, Self::Succeeded, Self::Failed, Self::Unknown];
}

impl fmt::Display for Phase {
    /// As the API has it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}

impl FromStr for Phase {
    type Err = BadPick;

    fn from_str(text: &str) -> Result<Self, BadPick> {
        let same = |phase: &Self| phase.to_string().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(same).ok_or_else(|| BadPick::Phase(text.to_owned()))
    }
}

/// Which pods are meant: those that are named or found, of which all conditions hold, and of these some.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// By name, each once.
    pub named: Vec<PodName>,
    /// Those that belong to these.
    pub workloads: Vec<Workload>,
    /// Of all namespaces.
    pub everywhere: bool,
    /// With these labels.
    pub labels: Option<Labels>,
    /// With these fields.
    pub fields: Option<FieldSelector>,
    /// With all of these annotations.
    pub annotations: Vec<Annotation>,
    /// With this in their names.
    pub pods: Option<Pattern>,
    /// With a container that has this in its name.
    pub containers: Option<Pattern>,
    /// On one of these nodes.
    pub nodes: Vec<NodeName>,
    /// On a node with these labels.
    pub node_labels: Option<Labels>,
    /// In one of these phases.
    pub phases: Vec<Phase>,
    /// Without any of this in their names.
    pub except: Vec<Pattern>,
    /// How many.
    pub mode: Mode,
    /// Where the dice start.
    pub seed: Option<u64>,
}

impl Selection {
    /// The one pod that is meant, if it was named and nothing else was said.
    pub fn only(&self) -> Option<&PodName> {
        match (&self.named[..], &self.workloads[..]) {
            ([name], []) if !self.has_conditions() => Some(name),
            _ => None,
        }
    }

    /// Whether nothing says which pods.
    pub fn is_open(&self) -> bool {
        let named = !self.named.is_empty() || !self.workloads.is_empty();
        !named && self.labels.is_none() && self.fields.is_none() && !self.has_conditions()
    }

    fn has_conditions(&self) -> bool {
        let lists =
            self.annotations.len() + self.nodes.len() + self.phases.len() + self.except.len();
        lists > 0 || self.pods.is_some() || self.containers.is_some() || self.node_labels.is_some()
    }

    /// Refuses one that says nothing: every pod would be meant.
    pub fn not_open(self) -> Result<Self, BadSelection> {
        // What is left out or how many are taken says nothing about which.
        let excepted = Self { except: Vec::new(), phases: Vec::new(), ..self.clone() };
        if excepted.is_open() { Err(BadSelection::Nothing) } else { Ok(self) }
    }
}

impl TryFrom<&PickArgs> for Selection {
    type Error = BadSelection;

    fn try_from(args: &PickArgs) -> Result<Self, BadSelection> {
        let (mut named, mut workloads) = (Vec::new(), Vec::new());
        let by_flag = args.pods.iter().cloned().map(TargetName::Pod);
        for target in args.targets.iter().cloned().chain(by_flag) {
            match target {
                TargetName::Pod(name) if !named.contains(&name) => named.push(name),
                TargetName::Workload(one) if !workloads.contains(&one) => workloads.push(one),
                _ => {}
            }
        }
        let args = &args.conditions;
        let found = args.labels.is_some() || args.fields.is_some() || args.named_like.is_some();
        if !named.is_empty() && found {
            return Err(BadSelection::NamedAndFound);
        }
        if args.all_namespaces && !(named.is_empty() && workloads.is_empty()) {
            return Err(BadSelection::NamedEverywhere);
        }
        Ok(Self {
            named,
            workloads,
            everywhere: args.all_namespaces,
            labels: args.labels.clone(),
            fields: args.fields.clone(),
            annotations: args.annotations.clone(),
            pods: args.named_like.clone(),
            containers: args.containers.clone(),
            nodes: args.nodes.clone(),
            node_labels: args.node_labels.clone(),
            phases: args.phases.clone(),
            except: args.except.clone(),
            mode: args.mode,
            seed: args.seed,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        pick: PickArgs,
    }

    fn read(line: &str) -> Result<Selection, String> {
        let words = std::iter::once("x").chain(line.split_whitespace());
        let args = Line::try_parse_from(words).map_err(|error| error.to_string())?.pick;
        let selection = Selection::try_from(&args).map_err(|error| error.to_string())?;
        selection.not_open().map_err(|error| error.to_string())
    }

    #[test]
    fn each_pod_is_meant_once_however_it_is_named() {
        let selection = read("web -p web pod/db deploy/app -p db deployment/app").unwrap();
        assert_eq!(selection.named.iter().map(PodName::as_str).collect::<Vec<_>>(), ["web", "db"]);
        assert_eq!(selection.workloads.len(), 1);
        assert!(read("-p web").unwrap().only().is_some());
        for more in ["-p web db", "-p web --except b", "deploy/web", "-l app=web", "web --node a"] {
            assert!(read(more).unwrap().only().is_none(), "{more}");
        }
    }

    #[test]
    fn nobody_means_everything_by_saying_nothing() {
        for line in
            ["", "-A", "-n demo", "--mode one", "--seed 3", "--except web", "--phase Running"]
        {
            assert_eq!(read(line).unwrap_err(), "no pod is named", "{line}");
        }
        for line in ["--pods .", "-A --pods .", "--node a", "--annotation x", "--containers app"] {
            assert!(read(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn names_are_of_one_namespace_and_need_no_finding() {
        for line in ["-p web -l app=web", "web --pods w", "web --field-selector a=b"] {
            assert!(read(line).unwrap_err().contains("those find pods"), "{line}");
        }
        assert!(read("-A -p web").unwrap_err().contains("--all-namespaces"));
        assert!(read("-A -n demo -l a=b").is_err());
        assert!(read("deploy/web -l track=canary").is_ok());
    }

    #[test]
    fn parts_are_checked() {
        for line in
            ["--phase Runing", "--pods (", "--field-selector x", "--annotation =x", "--node A_"]
        {
            assert!(read(line).is_err(), "{line}");
        }
        assert_eq!(read("-l a=b --phase pending").unwrap().phases, [Phase::Pending]);
        let noted = read("--annotation team=a=b").unwrap();
        assert_eq!(
            noted.annotations,
            [Annotation { key: "team".into(), value: Some("a=b".into()) }]
        );
    }
}
