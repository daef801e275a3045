//! Namespaces that are left alone unless somebody insists.

use std::{convert::Infallible, fmt, str::FromStr};

/// Names of namespaces; one that ends in `*` stands for all that start so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected(Vec<String>);

impl Protected {
    /// Whether this namespace is one of them.
    pub fn holds(&self, namespace: &str) -> bool {
        self.0.iter().any(|one| match one.strip_suffix('*') {
            Some(start) => namespace.starts_with(start),
            None => one == namespace,
        })
    }
}

impl Default for Protected {
    /// Those of Kubernetes itself.
    fn default() -> Self {
        Self(["kube-system", "kube-public", "kube-node-lease"].map(str::to_owned).to_vec())
    }
}

impl fmt::Display for Protected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.join(","))
    }
}

impl FromStr for Protected {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Self(names.map(str::to_owned).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_the_rest_of_a_name() {
        let protected: Protected = "kube-system, prod-*".parse().unwrap();
        for (namespace, held) in
            [("kube-system", true), ("prod-eu", true), ("prod", false), ("kube-system2", false)]
        {
            assert_eq!(protected.holds(namespace), held, "{namespace}");
        }
        assert!(!"".parse::<Protected>().unwrap().holds("kube-system"));
        assert!(Protected::default().holds("kube-system"));
    }
}
