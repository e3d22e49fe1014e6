//! The admin token, and where browsers may call from.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri;
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

/// Whether a `Host` header names this listener: a loopback name or address, or the address it is bound to. The name of
/// another site that was made to resolve to this machine does not.
pub(crate) fn is_own_host(host: &str, bound: SocketAddr) -> bool {
    let Ok(host) = host.parse::<uri::Authority>() else { return false };
    // A user has no place in `Host`, and what follows the name can only be a port.
    let is_bare = host.as_str().len() == host.host().len();
    if host.as_str().contains('@') || !is_bare && host.port_u16().is_none() {
        return false;
    }
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip == bound.ip() || bound.ip().is_unspecified(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether an `Origin` header, if there is one, is the page that this listener serves itself under that `Host`.
pub(crate) fn is_own_origin(origin: Option<&str>, host: Option<&str>) -> bool {
    let Some(origin) = origin else { return true };
    let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    name.zip(host).is_some_and(|(name, host)| name.eq_ignore_ascii_case(host))
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

    #[test]
    fn foreign_hosts_and_origins_are_refused() {
        let bound: SocketAddr = "10.0.0.5:8265".parse().unwrap();
        for own in
            ["localhost", "LOCALHOST:8265", "127.0.0.1:8265", "127.9.9.9", "[::1]:8265", "10.0.0.5:8265"]
        {
            assert!(is_own_host(own, bound), "{own}");
        }
        for foreign in [
            "evil.example",
            "evil.example:8265",
            "10.0.0.6:8265",
            "localhost.evil.example",
            "",
            "[::2]:1",
            "me@localhost",
            "::1",
            "localhost:x",
            "localhost/",
        ] {
            assert!(!is_own_host(foreign, bound), "{foreign}");
        }
        assert!(is_own_host("10.0.0.6", "0.0.0.0:1".parse().unwrap()));
        assert!(is_own_origin(None, None));
        let own = Some("localhost:8265");
        assert!(is_own_origin(None, own));
        assert!(is_own_origin(Some("http://localhost:8265"), own));
        assert!(!is_own_origin(Some("http://localhost:8265"), None));
        for foreign in ["null", "http://evil.example", "http://localhost:8000", "localhost:8265"] {
            assert!(!is_own_origin(Some(foreign), own), "{foreign}");
        }
    }
}
