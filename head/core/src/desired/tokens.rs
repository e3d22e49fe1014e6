//! Tokens for the dashboard and its API, as plain functions. The head knows the SHA-256 of a token and never the token.

use std::collections::BTreeMap;

use millstream_pipelines::Name;
use millstream_status::token::{Role, TokenStatus};
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// Most tokens: each call looks through them.
const MAX_TOKENS: usize = 1000;

/// The tokens that there are, by name.
pub type Tokens = BTreeMap<Name, Token>;

/// A token, as the store keeps it too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// SHA-256 of the token.
    pub sha256: [u8; 32],
    /// What whoever has it may do.
    pub role: Role,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// When it ends, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
}

impl Token {
    /// Whether it still counts.
    #[must_use]
    pub fn is_valid(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_none_or(|end| now_ms < end)
    }

    /// What people may see of it.
    #[must_use]
    pub fn status(&self, name: &Name) -> TokenStatus {
        let Self { role, created_at_ms, expires_at_ms, .. } = *self;
        TokenStatus { name: name.to_string(), role, created_at_ms, expires_at_ms }
    }
}

/// The tokens with one more. Those that have ended leave.
///
/// # Errors
/// [`Refusal::Invalid`] with all faults; [`Refusal::KeyExists`].
pub fn create(tokens: &Tokens, name: &str, sha256: &[u8], token: &Token) -> Result<(Tokens, Name), Refusal> {
    let mut faults = Vec::new();
    let name = name.parse::<Name>().map_err(|error| faults.push(error.to_string()));
    let sha256 = <[u8; 32]>::try_from(sha256)
        .map_err(|_| faults.push("the digest of the token is not a SHA-256 of 32 bytes".to_owned()));
    let (Ok(name), Ok(sha256)) = (name, sha256) else {
        return Err(Refusal::Invalid(faults.join("\n")));
    };
    let now_ms = token.created_at_ms;
    let mut tokens: Tokens = tokens
        .iter()
        .filter(|(_, token)| token.is_valid(now_ms))
        .map(|(a, b)| (a.clone(), b.clone()))
        .collect();
    if tokens.contains_key(&name) {
        let text = format!("there is a token `{name}` already; delete it with `cluster token delete {name}`");
        return Err(Refusal::KeyExists(text));
    }
    if tokens.len() >= MAX_TOKENS {
        return Err(Refusal::NotNow(format!("there are {MAX_TOKENS} tokens; delete some first")));
    }
    tokens.insert(name.clone(), Token { sha256, ..token.clone() });
    Ok((tokens, name))
}

/// The tokens without one.
///
/// # Errors
/// [`Refusal::NoKey`].
pub fn delete(tokens: &Tokens, name: &str) -> Result<(Tokens, Name), Refusal> {
    let Some(found) = tokens.keys().find(|there| there.as_str() == name).cloned() else {
        let there: Vec<_> = tokens.keys().map(|name| format!("`{name}`")).collect();
        return Err(Refusal::NoKey(match there.is_empty() {
            true => format!("there is no token `{name}`, and no other either"),
            false => format!("there is no token `{name}`; there are {}", there.join(", ")),
        }));
    };
    let mut tokens = tokens.clone();
    tokens.remove(&found);
    Ok((tokens, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(created_at_ms: u64, expires_at_ms: Option<u64>) -> Token {
        Token { sha256: [0; 32], role: Role::Viewer, created_at_ms, expires_at_ms }
    }

    #[test]
    fn a_token_ends_at_its_time_and_its_name_is_free_again() {
        let (tokens, a) = create(&Tokens::new(), "a", &[1; 32], &token(10, Some(20))).unwrap();
        assert!(tokens[&a].is_valid(19) && !tokens[&a].is_valid(20));
        let taken = create(&tokens, "a", &[2; 32], &token(19, None)).unwrap_err().to_string();
        assert!(taken.contains("`cluster token delete a`"), "{taken}");
        let (tokens, _) = create(&tokens, "a", &[2; 32], &token(20, None)).unwrap();
        assert_eq!((tokens.len(), tokens[&a].sha256), (1, [2; 32]));
        let (none, _) = delete(&tokens, "a").unwrap();
        assert!(none.is_empty());
        assert_eq!(delete(&tokens, "b").unwrap_err().to_string(), "there is no token `b`; there are `a`");
    }

    #[test]
    fn all_that_makes_no_sense_is_told_at_once() {
        let text = create(&Tokens::new(), "A b", &[1; 31], &token(0, None)).unwrap_err().to_string();
        assert!(text.contains("`A b` is not a name") && text.contains("32 bytes"), "{text}");
    }
}
