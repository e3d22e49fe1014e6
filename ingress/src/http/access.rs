//! Who may come in.

use std::sync::Arc;

use http::HeaderMap;

use super::headers;
use super::state::Edge;
use crate::keys::{Key, Keys};
use crate::protocol::Problem;
use crate::routes::{Route, RouteTable};

/// What is routed to, with the keys that there are.
///
/// # Errors
/// 503 until the first table has come: which keys are good is not known before.
pub(crate) fn table_of(edge: &Edge) -> Result<Arc<RouteTable>, Problem> {
    edge.routes.current().clone().ok_or_else(Problem::starting)
}

/// Whether a request may call what a route leads to, and may know of it: a key may be for some models alone.
pub(crate) fn may_call(key: Option<&Arc<Key>>, route: &Route) -> bool {
    key.is_none_or(|key| key.may_call(route.variants[0].plan.callable_name()))
}

/// How the keys of a cluster begin.
const OWN_PREFIX: &[u8] = b"mk_";

/// Whose request it is; `None`: nobody's, where that is allowed.
///
/// # Errors
/// 401.
pub(crate) fn key_of(edge: &Edge, keys: &Keys, headers: &HeaderMap) -> Result<Option<Arc<Key>>, Problem> {
    match headers::secret(headers) {
        Some(secret) => match keys.find(secret) {
            Some(key) => Ok(Some(key.clone())),
            // Most clients of public APIs have to send one, whatever it is. One of ours that is not known was
            // deleted or mistyped, and an empty one forgotten.
            None if !edge.entry.require_key && !secret.is_empty() && !secret.starts_with(OWN_PREFIX) => {
                Ok(None)
            }
            None => Err(Problem::unauthorized("there is no such API key")),
        },
        None if edge.entry.require_key => Err(Problem::unauthorized(
            "an API key is needed; send it as `authorization: Bearer …` or as `x-api-key`",
        )),
        None => Ok(None),
    }
}
