//! Aliases: names that clients give a pipeline or a deployment beside its own, such as `gpt-4o-mini` or `meta-llama/Llama-3.1-8B`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest alias, in characters.
pub const MAX_ALIAS_LENGTH: usize = 128;

/// Why a text is not an alias.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an alias: use letters, digits, `-`, `_`, `.`, `:` and `@` between single slashes, a letter or digit first, at most 128 characters"
)]
pub struct AliasError(String);

/// A valid alias. Cloning shares the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Alias(Arc<str>);

impl Alias {
    /// The alias's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Alias {
    type Err = AliasError;

    fn from_str(text: &str) -> Result<Self, AliasError> {
        let plain = |segment: &str| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'@');
            !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(allowed)
        };
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if begins && text.len() <= MAX_ALIAS_LENGTH && text.split('/').all(plain) {
            Ok(Self(text.into()))
        } else {
            Err(AliasError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Alias {
    type Error = AliasError;

    fn try_from(text: String) -> Result<Self, AliasError> {
        text.parse()
    }
}

impl From<Alias> for String {
    fn from(alias: Alias) -> Self {
        alias.0.to_string()
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_follow_the_rule() {
        for good in [
            "gpt-4o-mini",
            "meta-llama/Llama-3.1-8B-Instruct",
            "ft:gpt-4o:org",
            "a",
            "4o",
            "m@1",
            &"a".repeat(128),
        ] {
            assert!(good.parse::<Alias>().is_ok(), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "a/../b", "a b", "é", "-a", "a%2Fb", "a?b", &"a".repeat(129)] {
            assert!(bad.parse::<Alias>().is_err(), "{bad}");
        }
    }
}
