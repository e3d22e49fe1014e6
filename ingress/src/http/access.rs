//! Who may come in.

use std::sync::Arc;

use http::HeaderMap;

use super::headers;
use super::state::Edge;
use crate::keys::{Key, Keys};
use crate::protocol::Problem;
use crate::routes::RouteTable;

/// What is routed to, with the keys that there are.
///
/// # Errors
/// 503 until the first table has come: which keys are good is not known before.
pub(crate) fn table_of(edge: &Edge) -> Result<Arc<RouteTable>, Problem> {
    edge.routes.current().clone().ok_or_else(Problem::starting)
}

/// Whose request it is; `None`: nobody's, where that is allowed.
///
/// # Errors
/// 401.
pub(crate) fn key_of(edge: &Edge, keys: &Keys, headers: &HeaderMap) -> Result<Option<Arc<Key>>, Problem> {
    match headers::secret(headers) {
        Some(secret) => match keys.find(secret) {
            Some(key) => Ok(Some(key.clone())),
            // Most clients of public APIs send one whatever they are told.
            None if !edge.require_key => Ok(None),
            None => Err(Problem::unauthorized("there is no such API key")),
        },
        None if edge.require_key => Err(Problem::unauthorized(
            "an API key is needed; send it as `authorization: Bearer …` or as `x-api-key`",
        )),
        None => Ok(None),
    }
}
