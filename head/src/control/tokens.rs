//! Tokens for the dashboard and its API: make, delete, list, and whom one belongs to. The tokens themselves never come here
//! but to be looked up.

use std::time::Duration;

use millstream_core::desired::{Desired, Token, Tokens, tokens};
use millstream_core::present::explain::Subject;
use millstream_proto::event::{Decision, KeyChange};
use millstream_proto::token::{Role, TokenStatus};
use subtle::ConstantTimeEq as _;

use super::Error;
use crate::clock;
use crate::leadership::Term;
use crate::wire::millis;

/// Makes a token whose SHA-256 is given. It ends after `ttl`.
pub(crate) async fn create(
    term: &Term,
    name: &str,
    sha256: &[u8],
    role: Role,
    ttl: Option<Duration>,
) -> Result<Option<TokenStatus>, Error> {
    if role != Role::Viewer {
        return Err(Error::Invalid(format!("a token with the role {role} cannot be made; `viewer` can")));
    }
    let created_at_ms = clock::unix_ms();
    let expires_at_ms = ttl.map(|ttl| created_at_ms.saturating_add(millis(ttl)));
    let token = Token { sha256: [0; 32], role, created_at_ms, expires_at_ms };
    let create = |tokens: &Tokens| tokens::create(tokens, name, sha256, &token);
    let name =
        term.catalog.change_tokens(create, |name| note(term, name.as_str(), KeyChange::Created)).await?;
    Ok(term.catalog.desired().tokens.get(&name).map(|token| token.status(&name)))
}

/// Deletes a token: it is refused from then on.
pub(crate) async fn delete(term: &Term, name: &str) -> Result<(), Error> {
    let delete = |tokens: &Tokens| tokens::delete(tokens, name);
    term.catalog.change_tokens(delete, |name| note(term, name.as_str(), KeyChange::Deleted)).await?;
    Ok(())
}

/// The tokens, those that have ended included.
pub(crate) fn list(desired: &Desired) -> Vec<TokenStatus> {
    desired.tokens.iter().map(|(name, token)| token.status(name)).collect()
}

/// What the one who has the token with that SHA-256 may do. Takes the same time for every wrong one.
pub(crate) fn role_of(desired: &Desired, sha256: &[u8; 32], now_ms: u64) -> Option<Role> {
    let mut role = None;
    for token in desired.tokens.values().filter(|token| token.is_valid(now_ms)) {
        if bool::from(token.sha256.ct_eq(sha256)) {
            role = Some(token.role);
        }
    }
    role
}

fn note(term: &Term, name: &str, change: KeyChange) {
    tracing::info!(token = name, ?change, "token");
    term.events.note(Subject::Cluster, Decision::Token { name: name.to_owned(), change });
}
