//! The pages of OpenAI's responses that call nothing: one that is kept, its input, stopping and deleting it. Each is for the key that asked
//! for it.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, Response};
use millstream_proto::endpoint::{Access, Endpoint};
use serde_json::json;

use super::access::{key_of, table_of};
use super::state::Edge;
use crate::keys;
use crate::model::Tenant;
use crate::protocol::openai::{Cancelled, HOW_TO_KEEP, Kept, ResponseKey, ResponseStore};
use crate::protocol::problem::shown;
use crate::protocol::{Last, Problem, json as json_answer, json_bytes};

const PREFIX: &str = "/v1/responses/";
/// How ids begin.
const ID_PREFIX: &str = "resp_";
const OF_ONE: &str = "GET, HEAD, DELETE";
const GET: &str = "GET, HEAD";
const POST: &str = "POST";
/// Items of a page, unless the client wants another number, and at most.
const ITEMS: usize = 20;
const MAX_ITEMS: usize = 100;

/// What they answer.
pub(crate) const ENDPOINTS: [Endpoint; 3] = [
    Endpoint {
        methods: OF_ONE,
        path: "/v1/responses/{response_id}",
        access: Access::ApiKey,
        help: "A response that this ingress keeps (`cluster up --response-store`), for the key that asked for it; or deletes it.",
    },
    Endpoint {
        methods: POST,
        path: "/v1/responses/{response_id}/cancel",
        access: Access::ApiKey,
        help: "Stops a response that is made in the background. The body is not read.",
    },
    Endpoint {
        methods: GET,
        path: "/v1/responses/{response_id}/input_items",
        access: Access::ApiKey,
        help: "The items that a response follows on, newest first; with `limit`, `order` and `after`.",
    },
];

/// What a path asks of these pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked<'p> {
    id: &'p str,
    page: Page,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Page {
    Response,
    Cancel,
    Items,
}

/// What a path asks of them; `None` for other paths.
pub(crate) fn asked(path: &str) -> Option<Asked<'_>> {
    let rest = path.strip_prefix(PREFIX)?;
    let (id, page) = match rest.split_once('/') {
        None => (rest, Page::Response),
        Some((id, "cancel")) => (id, Page::Cancel),
        Some((id, "input_items")) => (id, Page::Items),
        Some(_) => return None,
    };
    id.starts_with(ID_PREFIX).then_some(Asked { id, page })
}

/// Answers a request for one of them.
///
/// # Errors
/// The problem to answer with.
pub(crate) fn answer(edge: &Edge, head: &Parts, asked: Asked<'_>) -> Result<Response<Last>, Problem> {
    let table = table_of(edge)?;
    let key = key_of(edge, &table.keys, &head.headers)?;
    let methods = match asked.page {
        Page::Response => OF_ONE,
        Page::Cancel => POST,
        Page::Items => GET,
    };
    if !methods.split(", ").any(|method| method == head.method.as_str()) {
        return Err(Problem::method_not_allowed(methods));
    }
    let store = edge.responses.as_ref().ok_or_else(|| no_response(asked.id, HOW_TO_KEEP))?;
    let owner = Tenant(keys::claim(key.as_deref(), None).tenant);
    let key = ResponseKey { owner, id: asked.id.into() };
    let query = Query(head.uri.query().unwrap_or_default());
    match asked.page {
        Page::Response if head.method == Method::DELETE => delete(store, &key),
        Page::Response => {
            if query.get("stream").is_some_and(|stream| stream == "true") {
                return Err(Problem::bad_field(
                    "/stream",
                    "a response that is kept has no stream here; leave it out",
                ));
            }
            Ok(json_bytes(found(store, &key)?.document.clone()))
        }
        Page::Cancel => match store.cancel(&key) {
            None => Err(no_response(&key.id, GONE)),
            Some(Cancelled::WasNotLater) => {
                let text = "only a response that was asked for with `\"background\": true` can be cancelled; leave the connection to stop others";
                Err(Problem::bad_field("/response_id", text))
            }
            Some(Cancelled::Is(kept)) => Ok(json_bytes(kept.document.clone())),
        },
        Page::Items => items(&*found(store, &key)?, query),
    }
}

const GONE: &str = "it was never there, was deleted, or is no longer kept";

fn no_response(id: &str, why: &str) -> Problem {
    Problem::no_such("/response_id", format!("there is no response `{}`: {why}", shown(id)))
}

fn found(store: &ResponseStore, key: &ResponseKey) -> Result<Arc<Kept>, Problem> {
    store.get(key).ok_or_else(|| no_response(&key.id, GONE))
}

fn delete(store: &ResponseStore, key: &ResponseKey) -> Result<Response<Last>, Problem> {
    if !store.delete(key) {
        return Err(no_response(&key.id, GONE));
    }
    Ok(json_answer(&json!({ "id": &*key.id, "object": "response", "deleted": true })))
}

/// A page of what a response follows on.
fn items(kept: &Kept, query: Query<'_>) -> Result<Response<Last>, Problem> {
    let limit = match query.get("limit").map(str::parse) {
        None => ITEMS,
        Some(Ok(limit @ 1..=MAX_ITEMS)) => limit,
        Some(_) => return Err(Problem::bad_field("/limit", format!("give a number from 1 to {MAX_ITEMS}"))),
    };
    let mut all: Vec<_> = kept.items.iter().collect();
    match query.get("order") {
        None | Some("desc") => all.reverse(),
        Some("asc") => {}
        Some(_) => return Err(Problem::bad_field("/order", "give `asc` or `desc`")),
    }
    let first = match query.get("after") {
        None => 0,
        Some(after) => match all.iter().position(|item| item.id == after) {
            Some(index) => index + 1,
            None => return Err(Problem::bad_field("/after", "the response has no such item")),
        },
    };
    let rest = &all[first..];
    let page: Vec<_> = rest.iter().take(limit).map(|item| item.json()).collect();
    let id =
        |item: Option<&serde_json::Value>| item.map_or(serde_json::Value::Null, |item| item["id"].clone());
    Ok(json_answer(&json!({
        "object": "list", "first_id": id(page.first()), "last_id": id(page.last()), "has_more": rest.len() > limit, "data": page,
    })))
}

/// The query of a path. What these pages read of it needs no decoding.
#[derive(Clone, Copy)]
struct Query<'q>(&'q str);

impl<'q> Query<'q> {
    fn get(self, name: &str) -> Option<&'q str> {
        self.0
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_by_table() {
        let is = |path, page| assert_eq!(asked(path).map(|asked| (asked.id, asked.page)), page, "{path}");
        is("/v1/responses/resp_1", Some(("resp_1", Page::Response)));
        is("/v1/responses/resp_1/cancel", Some(("resp_1", Page::Cancel)));
        is("/v1/responses/resp_1/input_items", Some(("resp_1", Page::Items)));
        for path in [
            "/v1/responses",
            "/v1/responses/",
            "/v1/responses/input_tokens",
            "/v1/responses/resp_1/x",
            "/v1/responses/resp_1/cancel/",
        ] {
            is(path, None);
        }
    }
}
