//! `/etc/hosts` (hosts(5)): an address and its names in each line.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use pod_chaos_protocol::HostName;

/// The addresses of each name, in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(BTreeMap<String, BTreeSet<IpAddr>>);

impl Hosts {
    /// Passes over lines that cannot be read, as everyone does.
    pub fn read(file: &[u8]) -> Self {
        let mut hosts = Self::default();
        for line in String::from_utf8_lossy(file).lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else {
                continue;
            };
            for name in words {
                hosts.0.entry(name.to_ascii_lowercase()).or_default().insert(address);
            }
        }
        hosts
    }

    /// All addresses of this name. The search list does not matter here.
    pub fn find(&self, name: &HostName) -> BTreeSet<IpAddr> {
        let name = name.as_str();
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.0.get(&name).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_all_addresses_of_a_name() {
        let hosts = Hosts::read(
            b"# one\n10.0.0.1 db db.example.com # two\n\nfd00::1\tDB\n10.0.0.2 other\nnonsense db\n\xff\n",
        );
        let find = |name: &str| {
            let found = hosts.find(&name.parse().unwrap());
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(find("db"), ["10.0.0.1", "fd00::1"]);
        assert_eq!(find("Db.Example.com."), ["10.0.0.1"]);
        assert_eq!(find("two"), [""; 0]);
    }

    proptest! {
        #[test]
        fn no_file_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            Hosts::read(&bytes);
        }
    }
}
