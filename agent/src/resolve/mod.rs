//! Names to addresses, as the pod's own processes get them: by `/etc/hosts`, then by the name servers of
//! `/etc/resolv.conf` with its search list and options (hosts(5), resolv.conf(5)). The kubelet gives both
//! files of a pod to each of its containers, the agent's too.
//!
//! The order in which name servers, search list and the name as it is are tried is that of glibc
//! (`__res_context_search` and `__res_context_send` of its resolv/). Other than there, addresses of both
//! versions are always wanted, and one question is out at a time.

mod hosts;
mod query;
pub mod refresh;

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use pod_chaos_protocol::{Cidr, Endpoint, Failure, FailureKind, Host, HostName, Source, Traffic};

use self::{
    hosts::Hosts,
    query::{Kind, Reply, Silence},
};
use crate::error::failure;

/// How long it may take to resolve a name, whatever the options say.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// No answer holds for less than this, whatever it says of itself.
const TTL_MIN: Duration = Duration::from_secs(1);
/// And none for longer: chaos is over before long.
const TTL_MAX: Duration = Duration::from_secs(30);

/// The port of name servers (RFC 1035, section 4.2).
const PORT: u16 = 53;
/// How many of them are asked (`MAXNS` of resolv.h).
const SERVERS_MAX: usize = 3;
/// How many aliases are followed, from one answer to the next. Unbound follows 11.
const ALIASES_MAX: usize = 11;
/// As for the options of resolv.conf(5).
const ATTEMPTS_MAX: u32 = 5;
const TIMEOUT_MAX: u32 = 30;

/// Who answers, and how they are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    hosts: Hosts,
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    timeout: Duration,
    attempts: u32,
    by_tcp: bool,
}

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its addresses, at least one.
    pub addresses: BTreeSet<IpAddr>,
    /// For how long, within [`TTL_MIN`] and [`TTL_MAX`].
    pub ttl: Duration,
}

/// Why a name stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` cannot be resolved: {why}")]
pub struct Unresolved {
    name: HostName,
    why: String,
}

impl Resolver {
    /// As the pod's files say. A missing one is an empty one.
    pub fn of_the_pod() -> Result<Self, Failure> {
        let read = |path: &str| match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(|error| {
                failure(FailureKind::NotFound, format!("failed to read {path}: {error}"), None)
            }),
        };
        Ok(Self::new(&read("/etc/resolv.conf")?, &read("/etc/hosts")?))
    }

    /// As the contents of `resolv.conf` and `hosts` say. What cannot be read of them is passed over, as the
    /// pod's own processes do.
    pub fn new(resolv_conf: &[u8], hosts: &[u8]) -> Self {
        let (config, _) = resolv_conf::Config::parse_with_errors(resolv_conf);
        let servers = config.get_nameservers_or_local();
        let servers = servers.iter().take(SERVERS_MAX);
        Self {
            hosts: Hosts::read(hosts),
            servers: servers.map(|server| SocketAddr::new(server.into(), PORT)).collect(),
            search: config.get_last_search_or_domain().map(ToOwned::to_owned).collect(),
            ndots: usize::try_from(config.ndots).unwrap_or(usize::MAX),
            timeout: Duration::from_secs(config.timeout.clamp(1, TIMEOUT_MAX).into()),
            attempts: config.attempts.clamp(1, ATTEMPTS_MAX),
            by_tcp: config.use_vc,
        }
    }

    /// All addresses of this name.
    pub fn resolve(&self, name: &HostName) -> Result<Answer, Unresolved> {
        let addresses = self.hosts.find(name);
        if !addresses.is_empty() {
            return Ok(Answer { addresses, ttl: TTL_MAX });
        }
        let deadline = Instant::now() + PATIENCE;
        let mut trouble = None;
        for candidate in self.candidates(name) {
            match self.look_up(&candidate, deadline) {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => {}
                // A server that fails for one name may know the next; from one that is silent there is
                // nothing more to be had.
                Err(silence) => {
                    let ends = silence.is_final();
                    trouble = Some(silence);
                    if ends {
                        break;
                    }
                }
            }
        }
        let why = trouble.map_or_else(|| "there is no such name".to_owned(), |it| it.to_string());
        Err(Unresolved { name: name.clone(), why })
    }

    /// The names to be looked up, in order.
    fn candidates(&self, name: &HostName) -> Vec<String> {
        let text = name.as_str();
        if let Some(absolute) = text.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let within = |domain: &String| match domain.trim_matches('.') {
            "" => text.to_owned(),
            domain => format!("{text}.{domain}"),
        };
        let mut names: Vec<_> = self.search.iter().map(within).collect();
        let dots = text.bytes().filter(|byte| *byte == b'.').count();
        names.insert(if dots >= self.ndots { 0 } else { names.len() }, text.to_owned());
        names
    }

    /// The addresses of both versions of this very name; `None` when it has none.
    fn look_up(&self, name: &str, deadline: Instant) -> Result<Option<Answer>, Silence> {
        let mut addresses = BTreeSet::new();
        let mut ttl = TTL_MAX;
        let mut trouble = None;
        for kind in Kind::BOTH {
            match self.look_up_kind(name, kind, deadline) {
                Ok(reply) => {
                    ttl = if reply.addresses.is_empty() { ttl } else { ttl.min(reply.ttl) };
                    addresses.extend(reply.addresses);
                }
                Err(silence) => trouble = Some(silence),
            }
        }
        match trouble {
            Some(silence) if addresses.is_empty() => Err(silence),
            // Half an answer is asked for again soon.
            Some(_) => Ok(Some(Answer { addresses, ttl: TTL_MIN })),
            None if addresses.is_empty() => Ok(None),
            None => Ok(Some(Answer { addresses, ttl: ttl.clamp(TTL_MIN, TTL_MAX) })),
        }
    }

    /// The addresses of one version; follows aliases whose addresses did not come with them.
    fn look_up_kind(&self, name: &str, kind: Kind, deadline: Instant) -> Result<Reply, Silence> {
        let (mut name, mut ttl) = (name.to_owned(), TTL_MAX);
        for _ in 0..ALIASES_MAX {
            let mut reply = self.ask(&name, kind, deadline)?;
            ttl = ttl.min(reply.ttl);
            reply.ttl = ttl;
            match reply.alias.take() {
                Some(alias) if reply.addresses.is_empty() => name = alias,
                _ => return Ok(reply),
            }
        }
        Err(Silence::Failed(format!("`{name}` is an alias of an alias, and so on")))
    }

    /// Asks one server after the other, and all of them again, until one answers.
    fn ask(&self, name: &str, kind: Kind, deadline: Instant) -> Result<Reply, Silence> {
        let mut trouble = Silence::NoServer;
        for attempt in 0..self.attempts {
            // glibc divides what it waits for each server among them from the second round on.
            let share = u32::try_from(self.servers.len()).unwrap_or(1).max(1);
            let timeout = self.timeout * (1 << attempt) / if attempt == 0 { 1 } else { share };
            for server in &self.servers {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(trouble);
                }
                let timeout = timeout.min(left);
                match query::ask(*server, name, kind, timeout, self.by_tcp) {
                    Ok(reply) => return Ok(reply),
                    Err(silence) => trouble = silence,
                }
            }
        }
        Err(trouble)
    }
}

/// Reads a message as the answer to the question that it repeats; how many addresses it has. For `fuzz`.
pub fn read_any(message: &[u8]) -> Option<usize> {
    let reply = query::read(SocketAddr::from(([127, 0, 0, 1], PORT)), message, message).ok()?;
    Some(reply.addresses.len())
}

/// Those of these addresses at which something outside the pod can be.
pub fn endpoints(host: &Host, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<Endpoint> {
    let somewhere = addresses.into_iter().filter(|address| !address.is_unspecified());
    somewhere.map(|address| host.at(Some(Cidr::from(address)))).collect()
}

/// Looks up the names in the traffic. What stands for nothing is an error, whoever should have known it.
pub fn fill(traffic: &mut Traffic) -> Result<(), Failure> {
    let mut resolver = None;
    for target in traffic.targets_mut().filter(|target| target.is_open()) {
        let Source::Dns(host) = &target.source else {
            let message = format!("`{}` stands for nothing: nothing would be hit", target.name);
            return Err(failure(FailureKind::BadRequest, message, None));
        };
        let resolver = match &resolver {
            Some(resolver) => resolver,
            None => resolver.insert(Resolver::of_the_pod()?),
        };
        let answer = resolver.resolve(&host.name).map_err(|error| {
            let hint = "names are resolved as the pod does; nothing was touched";
            failure(FailureKind::NotFound, error.to_string(), Some(hint))
        })?;
        target.endpoints = endpoints(host, answer.addresses);
        if target.endpoints.is_empty() {
            let message = format!("`{}` has no address that could be hit", host.name);
            return Err(failure(FailureKind::NotFound, message, None));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_tried_in_the_order_of_the_search_list() {
        let conf = "nameserver 10.96.0.10\nsearch demo.svc.cluster.local cluster.local\n";
        let candidates = |options: &str, name: &str| {
            let resolver = Resolver::new(format!("{conf}{options}").as_bytes(), b"");
            resolver.candidates(&name.parse().unwrap())
        };
        let within = ["db.x.demo.svc.cluster.local", "db.x.cluster.local"];
        assert_eq!(candidates("options ndots:5", "db.x"), [&within[..], &["db.x"]].concat());
        assert_eq!(candidates("", "db.x"), [&["db.x"], &within[..]].concat());
        assert_eq!(candidates("options ndots:5", "db.x."), ["db.x"]);
    }

    #[test]
    fn options_are_taken_within_reason() {
        let resolver = Resolver::new(
            b"nameserver 10.0.0.1\nnameserver fd00::1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n\
              options timeout:0 attempts:99 use-vc\nnonsense\n",
            b"",
        );
        let servers: Vec<_> = resolver.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.1:53", "[fd00::1]:53", "10.0.0.2:53"]);
        assert_eq!((resolver.timeout, resolver.attempts), (Duration::from_secs(1), ATTEMPTS_MAX));
        assert!(resolver.by_tcp);
        let nobody = Resolver::new(b"", b"");
        assert_eq!(nobody.servers, ["127.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    }

    proptest! {
        #[test]
        fn no_files_panic(conf in "[a-z0-9.: \n]{0,80}", hosts in ".{0,40}", name in "[a-z.]{1,20}") {
            let resolver = Resolver::new(conf.as_bytes(), hosts.as_bytes());
            if let Ok(name) = name.parse() {
                prop_assert!(!resolver.candidates(&name).is_empty());
            }
        }
    }
}
