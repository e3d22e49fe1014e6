//! The admin token.

use millstream_connect::{Authority, Peer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::{Request, Status};

/// What a caller without the token is told.
pub(crate) const TOKEN_HINT: &str = "this call needs the admin token as `authorization: Bearer TOKEN`; the token is in \
                                     `admin.token` in the head's data directory";

/// The admin token, kept as its digest.
#[derive(Clone)]
pub(crate) struct AdminToken {
    digest: [u8; 32],
}

impl AdminToken {
    /// Of the token's text.
    pub(crate) fn new(token: &str) -> Self {
        Self { digest: Sha256::digest(token.trim()).into() }
    }

    /// Whether an `authorization` header carries the token. Takes the same time for every wrong one.
    pub(crate) fn admits(&self, authorization: Option<&str>) -> bool {
        let token = authorization.and_then(|header| {
            let (scheme, token) = header.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let Some(token) = token.filter(|token| !token.is_empty()) else { return false };
        let digest: [u8; 32] = Sha256::digest(token).into();
        digest.ct_eq(&self.digest).into()
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
    }
}
