//! Who asks: by `authorization: Bearer TOKEN`, or in a browser by the cookie that the form for logging in sets.
//!
//! The cookie is `DIGEST.END.SIGNATURE`: the SHA-256 of the token, when the session ends, and both signed with a key that is
//! made from the admin token. So it needs no store, holds at every head of the cluster, is of no use as a token, and ends with
//! the token that it was made for.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millstream_proto::token::Role;
use sha2::{Digest as _, Sha256};

use super::Site;
use super::own_site::{problem, text};
use crate::clock::unix_ms;
use crate::control::tokens;
use crate::server::auth::{AdminToken, TOKEN_HINT, bearer};
use crate::wire::millis;

/// Name of the cookie.
const COOKIE: &str = "millstream_session";
/// How long somebody stays logged in.
const SESSION: Duration = Duration::from_secs(12 * 3600);

impl Site {
    /// What the sender of a request may do; `None` for somebody who is not known.
    pub(super) fn role(&self, headers: &HeaderMap) -> Option<Role> {
        if let Some(authorization) = text(headers, header::AUTHORIZATION) {
            return self.role_of_token(bearer(authorization)?);
        }
        let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, session) = pairs.find(|(name, _)| *name == COOKIE)?;
        self.role_of_digest(&digest_of_session(&self.admin_token, session, unix_ms())?)
    }

    /// What whoever has that token may do.
    pub(super) fn role_of_token(&self, token: &str) -> Option<Role> {
        self.role_of_digest(&Sha256::digest(token.trim()).into())
    }

    fn role_of_digest(&self, sha256: &[u8; 32]) -> Option<Role> {
        if self.admin_token.has_digest(sha256) {
            return Some(Role::Admin);
        }
        let desired = self.leadership.term().ok()?.catalog.desired();
        tokens::role_of(&desired, sha256, unix_ms())
    }
}

/// The `set-cookie` header of whoever logs in with a token that is known.
pub(super) fn login_cookie(admin: &AdminToken, token: &str) -> String {
    let session = session(admin, token, unix_ms() + millis(SESSION));
    format!("{COOKIE}={session}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}", SESSION.as_secs())
}

/// The `set-cookie` header of whoever logs out.
pub(super) fn logout_cookie() -> String {
    format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
}

fn session(admin: &AdminToken, token: &str, end_ms: u64) -> String {
    let digest = URL_SAFE_NO_PAD.encode(Sha256::digest(token.trim()));
    let signed = format!("{digest}.{end_ms}");
    let signature = blake3::keyed_hash(admin.session_key(), signed.as_bytes());
    format!("{signed}.{}", signature.to_hex())
}

/// The SHA-256 of the token that a session was made for, unless it is over or not signed here.
fn digest_of_session(admin: &AdminToken, session: &str, now_ms: u64) -> Option<[u8; 32]> {
    let (signed, signature) = session.rsplit_once('.')?;
    // A `blake3::Hash` compares in the same time whatever differs.
    if blake3::Hash::from_hex(signature).ok()? != blake3::keyed_hash(admin.session_key(), signed.as_bytes()) {
        return None;
    }
    let (digest, end) = signed.split_once('.')?;
    if end.parse::<u64>().ok()? <= now_ms {
        return None;
    }
    URL_SAFE_NO_PAD.decode(digest).ok()?.try_into().ok()
}

/// Refuses whoever has no token at all.
pub(super) async fn viewer_only(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    match site.role(request.headers()) {
        Some(_) => next.run(request).await,
        None => problem(StatusCode::UNAUTHORIZED, TOKEN_HINT),
    }
}

/// Refuses whoever has not the admin token.
pub(super) async fn admin_only(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    match site.role(request.headers()) {
        Some(Role::Admin) => next.run(request).await,
        Some(Role::Viewer) => problem(
            StatusCode::FORBIDDEN,
            "the token is a viewer's, which sees everything and changes nothing; this needs the admin token",
        ),
        None => problem(StatusCode::UNAUTHORIZED, TOKEN_HINT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_holds_for_its_token_its_time_and_its_cluster_alone() {
        let admin = AdminToken::new("admin");
        let session = session(&admin, " viewer\n", 1000);
        let digest: [u8; 32] = Sha256::digest("viewer").into();
        assert_eq!(digest_of_session(&admin, &session, 999), Some(digest));
        assert_eq!(digest_of_session(&admin, &session, 1000), None, "it is over");
        assert_eq!(digest_of_session(&AdminToken::new("other"), &session, 999), None);
        assert_eq!(digest_of_session(&admin, &session.replace(".1000.", ".2000."), 999), None);
        for broken in ["", ".", "..", "a.b.c", &session[..session.len() - 1]] {
            assert_eq!(digest_of_session(&admin, broken, 999), None, "{broken}");
        }
        assert!(!login_cookie(&admin, "viewer").contains("viewer"));
    }
}
