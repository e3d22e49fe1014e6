//! Where a store is: `etcd://HOST:PORT,…/PREFIX`.

use std::fmt;
use std::str::FromStr;

/// What keys begin with unless the address says otherwise.
const DEFAULT_PREFIX: &str = "millstream";
const SCHEME: &str = "etcd://";

/// The members of an etcd cluster, and what the keys of a cluster of ours begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// HOST:PORT of each, in the order in which they are asked.
    pub(crate) members: Vec<String>,
    /// Without slashes around it.
    pub(crate) prefix: String,
}

/// A text that is no address of a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not the address of a store: {reason}; write etcd://HOST:PORT,HOST:PORT/PREFIX")]
pub struct AddressError {
    text: String,
    reason: &'static str,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = |reason| AddressError { text: text.to_owned(), reason };
        let rest = text.strip_prefix(SCHEME).ok_or_else(|| error("it does not begin with etcd://"))?;
        if rest.contains('@') {
            return Err(error("a user and a password are named by --store-user-file"));
        }
        if rest.contains(['?', '#', ' ']) {
            return Err(error("it has more than members and a prefix"));
        }
        let (members, prefix) = rest.split_once('/').unwrap_or((rest, DEFAULT_PREFIX));
        let members: Vec<_> = members.split(',').map(str::to_owned).collect();
        if !members.iter().all(|member| has_port(member)) {
            return Err(error("each member is HOST:PORT"));
        }
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { DEFAULT_PREFIX } else { prefix };
        Ok(Self { members, prefix: prefix.to_owned() })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.members.join(","), self.prefix)
    }
}

fn has_port(member: &str) -> bool {
    let parts = member.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_members_and_a_prefix() {
        for (text, shown) in [
            ("etcd://a:2379", "etcd://a:2379/millstream"),
            ("etcd://a:2379/", "etcd://a:2379/millstream"),
            ("etcd://a:2379,b:2380/prod/eu/", "etcd://a:2379,b:2380/prod/eu"),
            ("etcd://[::1]:2379/x", "etcd://[::1]:2379/x"),
        ] {
            assert_eq!(
                text.parse::<Address>().map(|address| address.to_string()).as_deref(),
                Ok(shown),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_address_says_why() {
        for (text, reason) in [
            ("redis://a:1", "begin with etcd://"),
            ("etcd://", "HOST:PORT"),
            ("etcd://a", "HOST:PORT"),
            ("etcd://a:0", "HOST:PORT"),
            ("etcd://a:2379,/p", "HOST:PORT"),
            ("etcd://me:secret@a:2379", "--store-user-file"),
            ("etcd://a:2379/p?x=1", "members and a prefix"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
