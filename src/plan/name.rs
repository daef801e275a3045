//! Names of Kubernetes objects.

use std::{fmt, str::FromStr};

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Not a DNS subdomain (RFC 1123).
    #[error("`{0}` is not a pod's name (lower case letters, digits, `-` and `.`)")]
    Pod(String),
    /// Not a DNS label (RFC 1123).
    #[error("`{0}` is not a namespace's name (lower case letters, digits and `-`)")]
    Namespace(String),
    /// `deploy/web` and its like.
    #[error("`{0}` is not a pod; name it without -p")]
    NotAPod(String),
    /// Not a DNS subdomain (RFC 1123).
    #[error("`{0}` is not an object's name (lower case letters, digits, `-` and `.`)")]
    Object(String),
}

/// RFC 1123: letters, digits and dashes, not at the ends.
pub(super) fn is_label(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// RFC 1123: labels with points between them.
pub(super) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| is_label(label, 253))
}

/// The name of a pod: a DNS subdomain of at most 253 characters. `pod/NAME` is taken too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodName(String);

impl FromStr for PodName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let name = match text.split_once('/') {
            Some(("pod" | "pods" | "po", name)) => name,
            Some(_) => return Err(BadName::NotAPod(text.to_owned())),
            None => text,
        };
        if is_subdomain(name) {
            Ok(Self(name.to_owned()))
        } else {
            Err(BadName::Pod(text.to_owned()))
        }
    }
}

/// The name of a node: a DNS subdomain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeName(String);

/// The name of a service account: a DNS subdomain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAccountName(String);

macro_rules! subdomain {
    ($type:ident) => {
        impl FromStr for $type {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                if is_subdomain(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadName::Object(text.to_owned()))
                }
            }
        }
    };
}
subdomain!(NodeName);
subdomain!(ServiceAccountName);

/// The name of a namespace: a DNS label of at most 63 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace(String);

impl FromStr for Namespace {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if is_label(text, 63) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName::Namespace(text.to_owned()))
        }
    }
}

macro_rules! text {
    ($type:ty) => {
        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }
    };
}
text!(NodeName);
text!(PodName);
text!(Namespace);
text!(ServiceAccountName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_pods_as_kubectl_names_them() {
        for name in ["nginx", "pod/nginx", "pods/nginx", "po/nginx"] {
            assert_eq!(name.parse::<PodName>().unwrap().as_str(), "nginx");
        }
        assert!("web-7d4b9c-x.y".parse::<PodName>().is_ok());
    }

    #[test]
    fn refuses_what_no_object_can_be_called() {
        for name in ["", "Nginx", "-a", "a-", "a..b", "a b", "ngĩnx"] {
            assert_eq!(name.parse::<PodName>(), Err(BadName::Pod(name.to_owned())), "{name}");
        }
        assert!(matches!("deploy/web".parse::<PodName>(), Err(BadName::NotAPod(_))));
        for name in ["", "a.b", "A", &"a".repeat(64)] {
            assert!(name.parse::<Namespace>().is_err(), "{name}");
        }
    }
}
