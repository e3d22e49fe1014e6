//! What a cluster's processes know, and what knowing it proves.

use std::fmt;

/// What somebody has proved to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Authority {
    /// A process of the cluster: it knows the join token.
    Member,
    /// Somebody who may change the cluster: knows the admin token.
    Admin,
}

impl Authority {
    /// The secret's name, for people.
    #[must_use]
    pub fn token_name(self) -> &'static str {
        match self {
            Self::Member => "join token",
            Self::Admin => "admin token",
        }
    }

    /// As it stands in a greeting.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Member => 1,
            Self::Admin => 2,
        }
    }

    /// The one that a greeting means.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Self::Member, Self::Admin].into_iter().find(|authority| authority.code() == code)
    }

    /// Keeps keys of the two secrets apart, even if somebody gives both the same text.
    fn context(self) -> &'static str {
        match self {
            Self::Member => "millstream 2026-11-29 join token",
            Self::Admin => "millstream 2026-11-29 admin token",
        }
    }
}

/// A key made of a token. It is as hard to guess as the token is: the tokens that `cluster up` makes have 244 random bits.
#[derive(Clone)]
pub struct Secret {
    authority: Authority,
    key: [u8; 32],
}

impl Secret {
    /// Of a token's text; space around it does not count.
    #[must_use]
    pub fn new(authority: Authority, token: &str) -> Self {
        Self { authority, key: blake3::derive_key(authority.context(), token.trim().as_bytes()) }
    }

    /// What knowing it proves.
    #[must_use]
    pub fn authority(&self) -> Authority {
        self.authority
    }

    /// The code of a message under this key.
    pub(crate) fn code_of(&self, parts: &[&[u8]]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize()
    }
}

/// Never shows the key.
impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Secret").field("authority", &self.authority).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_text_is_another_key_for_another_authority_and_is_never_shown() {
        let [member, admin] = [Authority::Member, Authority::Admin].map(|kind| Secret::new(kind, "text"));
        assert_ne!(member.key, admin.key);
        assert_eq!(member.key, Secret::new(Authority::Member, " text\n").key);
        assert_eq!(format!("{member:?}"), "Secret { authority: Member, .. }");
    }
}
