//! Cohere's API, as far as it embeds and ranks, with those of Jina and Voyage, whose bodies are nearly the same.

mod embed;
mod rerank;

pub(crate) use self::embed::Embed;
pub(crate) use self::rerank::{Rerank, read_rerank};

use http::Response;
use millstream_proto::RequestId;
use serde_json::{Value, json};

use super::{Last, Problem};

/// An error: `message` is what Cohere's client reads, `detail` what Jina's and Voyage's do.
pub(crate) fn document(problem: &Problem, request_id: &RequestId) -> Value {
    let message = problem.text();
    json!({ "message": message, "detail": message, "request_id": request_id.as_str() })
}

fn refuse(problem: &Problem, request_id: &RequestId) -> Response<Last> {
    problem.with_document_of_400(&document(problem, request_id))
}
