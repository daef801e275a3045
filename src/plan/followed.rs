//! Targets that the Kubernetes API knows: pods by their labels, Services by their names.

use std::{fmt, str::FromStr};

use super::{Namespace, name::is_label};

/// Why such a target was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFollowed {
    /// Not a label selector.
    #[error("`{0}` does not select pods by labels (write it as app=db,tier!=cache)")]
    Labels(String),
    /// Not a Service's name.
    #[error("`{0}` is not a service (write it as db, db:5432 or db:postgres)")]
    Service(String),
}

/// A label selector as `kubectl -l` takes it, but for the empty one: that would be every pod. The API server
/// knows the rest of the grammar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(String);

impl Labels {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Labels {
    type Err = BadFollowed;

    fn from_str(text: &str) -> Result<Self, BadFollowed> {
        let known = |c: char| c.is_ascii_alphanumeric() || "-_./=!,() ".contains(c);
        let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '!');
        if starts && text.chars().all(known) && !text.ends_with(',') {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadFollowed::Labels(text.to_owned()))
        }
    }
}

/// A Service, or one of its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name: a DNS label.
    pub name: String,
    /// Which port; all of them when there is none.
    pub port: Option<ServicePort>,
}

/// A port of a Service, as the Service has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicePort {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

impl fmt::Display for ServicePort {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(out, "{number}"),
            Self::Name(name) => out.write_str(name),
        }
    }
}

impl FromStr for Service {
    type Err = BadFollowed;

    fn from_str(text: &str) -> Result<Self, BadFollowed> {
        let bad = || BadFollowed::Service(text.to_owned());
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        };
        let port = port.map(|port| match port.parse() {
            Ok(0) => Err(bad()),
            Ok(number) => Ok(ServicePort::Number(number)),
            // The name of a port is shorter than a number of digits could be long.
            Err(_) if is_label(port, 15) && !port.bytes().all(|b| b.is_ascii_digit()) => {
                Ok(ServicePort::Name(port.to_owned()))
            }
            Err(_) => Err(bad()),
        });
        if !is_label(name, 63) {
            return Err(bad());
        }
        Ok(Self { name: name.to_owned(), port: port.transpose()? })
    }
}

impl fmt::Display for Service {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "service {}", self.name)?;
        self.port.as_ref().map_or(Ok(()), |port| write!(out, ":{port}"))
    }
}

/// What a target is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All pods with these labels.
    Pods(Labels),
    /// A Service: its own addresses and those of what is behind it.
    Service(Service),
}

/// A target that the Kubernetes API knows, and is watched for while the fault runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// What it is found by.
    pub kind: Kind,
    /// Where; the namespace of the pod that is hit when there is none.
    pub namespace: Option<Namespace>,
}

impl fmt::Display for Followed {
    /// As sentences name it, and as the plan does.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Pods(labels) => write!(out, "pods {}", labels.as_str())?,
            Kind::Service(service) => write!(out, "{service}")?,
        }
        self.namespace.as_ref().map_or(Ok(()), |namespace| write!(out, " in {namespace}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_never_none_at_all() {
        for text in ["app=db", "app.kubernetes.io/name=db,tier!=cache", "app in (a, b)", "!canary"]
        {
            assert!(text.parse::<Labels>().is_ok(), "{text}");
        }
        for text in ["", " ", ",", "app=db,", "=db", "app=$HOME", "app=db;x"] {
            assert!(text.parse::<Labels>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_service_may_have_a_port_by_number_or_by_name() {
        let read = |text: &str| text.parse::<Service>().map(|service| service.to_string());
        for text in ["db", "db:5432", "db:postgres", "db:p80"] {
            assert_eq!(read(text), Ok(format!("service {text}")));
        }
        for text in ["", "DB", "db:", "db:0", "db:70000", "db.prod", "db/x", ":80", "db:80:81"] {
            assert_eq!(read(text), Err(BadFollowed::Service(text.to_owned())));
        }
    }
}
