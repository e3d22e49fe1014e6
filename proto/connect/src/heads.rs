//! The heads that a process may ask, and which of them is next: the one that is said to lead, else one after another.

use std::fmt;
use std::str::FromStr;

use http::Uri;

/// What was given as a list of heads is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an address: {}; write HOST:PORT, and commas between several", quoted(.0))]
pub struct NotAnAddress(Vec<String>);

fn quoted(bad: &[String]) -> String {
    bad.iter().map(|bad| format!("`{}`", bad.escape_debug())).collect::<Vec<_>>().join(", ")
}

/// Control addresses of the heads of one cluster: at least one, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heads {
    addresses: Vec<String>,
    next: usize,
    leader: Option<String>,
}

impl Heads {
    /// All that were given, HOST:PORT each.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// How many there are to ask before all have been.
    #[must_use]
    pub fn num_choices(&self) -> usize {
        self.addresses.len() + usize::from(self.leader.is_some())
    }

    /// The one to ask.
    #[must_use]
    pub fn current(&self) -> &str {
        self.leader.as_ref().unwrap_or(&self.addresses[self.next])
    }

    /// It was not reached, or did not answer: the next one is to be asked.
    pub fn failed(&mut self) {
        if self.leader.take().is_none() {
            self.next = (self.next + 1) % self.addresses.len();
        }
    }

    /// It does not lead, and says who does as far as it knows. Whether that is somebody else, who can be asked at once.
    pub fn follow(&mut self, leader: Option<String>) -> bool {
        match leader {
            Some(leader) if leader != self.current() => {
                self.leader = Some(leader);
                true
            }
            _ => {
                self.failed();
                false
            }
        }
    }
}

impl FromStr for Heads {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let mut addresses: Vec<String> = text.split(',').map(|address| address.trim().to_owned()).collect();
        let bad: Vec<String> = addresses.iter().filter(|address| !is_address(address)).cloned().collect();
        if !bad.is_empty() {
            return Err(NotAnAddress(bad));
        }
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(address.clone()));
        Ok(Self { addresses, next: 0, leader: None })
    }
}

/// As they were given, whoever is asked now.
impl fmt::Display for Heads {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.addresses.join(","))
    }
}

pub(crate) fn is_address(text: &str) -> bool {
    let Ok(uri) = format!("http://{text}").parse::<Uri>() else { return false };
    let is_bare = uri.path() == "/" && uri.query().is_none() && !text.ends_with('/') && !text.contains('@');
    is_bare && uri.host().is_some_and(|host| !host.is_empty()) && uri.port_u16().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads(text: &str) -> Heads {
        text.parse().unwrap()
    }

    #[test]
    fn every_head_is_asked_in_turn() {
        let mut heads = heads("a:1, b:2,a:1,[::1]:3");
        assert_eq!(heads.to_string(), "a:1,b:2,[::1]:3");
        for expected in ["a:1", "b:2", "[::1]:3", "a:1"] {
            assert_eq!(heads.current(), expected);
            heads.failed();
        }
    }

    #[test]
    fn the_one_that_leads_is_asked_and_left_when_it_is_gone() {
        let mut heads = heads("a:1,b:2");
        assert!(heads.follow(Some("c:3".into())));
        assert_eq!(heads.current(), "c:3");
        heads.failed();
        assert_eq!(heads.current(), "a:1");
        assert!(!heads.follow(None), "nobody is named, so it is somebody else's turn");
        assert_eq!(heads.current(), "b:2");
        assert!(!heads.follow(Some("b:2".into())), "it cannot send on to itself");
        assert_eq!(heads.current(), "a:1");
    }

    #[test]
    fn all_that_is_not_an_address_is_named() {
        let error = "a,b:1,:2,me@c:1,d:4/x".parse::<Heads>().unwrap_err().to_string();
        assert!(error.starts_with("not an address: `a`, `:2`, `me@c:1`, `d:4/x`;"), "{error}");
        assert!("".parse::<Heads>().is_err());
        assert!("a:1,".parse::<Heads>().is_err());
    }
}
