//! The admin token.

use millstream_connect::{Authority, Peer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::{Request, Status};

/// What a caller without the token is told.
pub(crate) const TOKEN_HINT: &str = "this call needs the admin token as `authorization: Bearer TOKEN`; the token is in \
                                     `admin.token` in the head's data directory";

/// What keys of sessions are derived for, so that they are of no use for anything else.
const SESSION_CONTEXT: &str = "millstream 2026-11-30 dashboard sessions";

/// The admin token, kept as its digest.
#[derive(Clone)]
pub(crate) struct AdminToken {
    digest: [u8; 32],
    session_key: [u8; 32],
    is_empty: bool,
}

impl AdminToken {
    /// Of the token's text.
    pub(crate) fn new(token: &str) -> Self {
        let token = token.trim();
        let session_key = blake3::derive_key(SESSION_CONTEXT, token.as_bytes());
        Self { digest: Sha256::digest(token).into(), session_key, is_empty: token.is_empty() }
    }

    /// Whether this is the SHA-256 of the token. Takes the same time for every wrong one.
    pub(crate) fn has_digest(&self, digest: &[u8; 32]) -> bool {
        !self.is_empty && digest.ct_eq(&self.digest).into()
    }

    /// What the sessions of the dashboard are signed with.
    pub(crate) fn session_key(&self) -> &[u8; 32] {
        &self.session_key
    }

    /// Whether an `authorization` header carries the token.
    pub(crate) fn admits(&self, authorization: Option<&str>) -> bool {
        authorization.and_then(bearer).is_some_and(|token| self.has_digest(&Sha256::digest(token).into()))
    }

    /// Refuses a gRPC call of whoever has neither proved to know the token nor shows it.
    pub(crate) fn check(&self, request: Request<()>) -> Result<Request<()>, Status> {
        if Peer::authority_of(&request) == Some(Authority::Admin) {
            return Ok(request);
        }
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if self.admits(header) { Ok(request) } else { Err(Status::unauthenticated(TOKEN_HINT)) }
    }
}

/// The token in an `authorization` header.
pub(crate) fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_is_admitted() {
        let token = AdminToken::new("secret\n");
        assert!(token.admits(Some("Bearer secret")));
        assert!(token.admits(Some("bearer  secret ")));
        for wrong in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("secret"),
            Some("Bearer secre"),
            Some("Basic secret"),
        ] {
            assert!(!token.admits(wrong), "{wrong:?}");
        }
        assert!(!AdminToken::new("").admits(Some("Bearer ")), "an empty token admits nobody");
        assert!(!AdminToken::new("").has_digest(&Sha256::digest("").into()));
    }
}
