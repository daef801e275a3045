//! The commands that put an image into the nodes of a cluster.

use std::{ffi::OsString, path::Path};

/// A tool that loads images, and where it is to load them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loader {
    /// A cluster of kind, or the one called `kind`.
    Kind(Option<String>),
    /// A profile of minikube, or its current one.
    Minikube(Option<String>),
    /// A cluster of k3d, or the one called `k3s-default`.
    K3d(Option<String>),
    /// The containerd of this machine, by its socket.
    Containerd(Option<String>),
    /// The Docker engine of this machine: for a Kubernetes that runs in it.
    Docker,
}

/// The tool is not on the PATH.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not on the PATH")]
pub struct Missing(pub &'static str);

impl Loader {
    /// The tool's command.
    pub const fn program(&self) -> &'static str {
        match self {
            Self::Kind(_) => "kind",
            Self::Minikube(_) => "minikube",
            Self::K3d(_) => "k3d",
            Self::Containerd(_) => "ctr",
            Self::Docker => "docker",
        }
    }

    /// Its arguments, to load that docker-archive.
    pub fn arguments(&self, file: &Path) -> Vec<OsString> {
        let (before, words, flag, which) = match self {
            Self::Kind(cluster) => (None, &["load", "image-archive"][..], "--name", cluster),
            Self::Minikube(profile) => (None, &["image", "load"][..], "--profile", profile),
            Self::K3d(cluster) => (None, &["image", "import"][..], "--cluster", cluster),
            // The kubelet's images are in this namespace of containerd's (its CRI plugin's constant).
            Self::Containerd(socket) => (
                socket.as_ref().map(|socket| ["--address", socket]),
                &["--namespace", "k8s.io", "images", "import"][..],
                "",
                &None,
            ),
            Self::Docker => (None, &["load", "--input"][..], "", &None),
        };
        let mut arguments: Vec<OsString> = before.iter().flatten().map(Into::into).collect();
        arguments.extend(words.iter().map(Into::into));
        arguments.push(file.into());
        if let Some(which) = which {
            arguments.extend([flag.into(), which.into()]);
        }
        arguments
    }
}
