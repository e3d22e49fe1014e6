//! Reranking as Cohere, Jina and Voyage have it: `POST /v2/rerank` and `/v1/rerank`. The bodies are nearly the same; one with
//! `top_k` is Voyage's, and is answered as Voyage does.

use std::fmt;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::super::cut::Cut;
use super::super::fields::{Items, read};
use super::super::task::{Ranked, TaskAnswer, TaskCall, ranked};
use super::super::{Exchange, Last, Problem, Protocol, Told, json as json_answer};

const ENDPOINTS: [Endpoint; 2] = [
    Endpoint {
        methods: "POST",
        path: "/v2/rerank",
        access: Access::ApiKey,
        help: "Cohere's reranking: which documents answer a query best, by the deployment that `model` names, or by the only one that reranks.",
    },
    Endpoint {
        methods: "POST",
        path: "/v1/rerank",
        access: Access::ApiKey,
        help: "The same for clients of Jina and, with `top_k`, of Voyage.",
    },
];

/// See the module.
pub(crate) struct Rerank;

impl Protocol for Rerank {
    fn endpoints(&self) -> &'static [Endpoint] {
        &ENDPOINTS
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        read_rerank(&body)
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        super::refuse(problem, request_id)
    }
}

/// A request with a body of this API.
///
/// # Errors
/// The problem to answer with.
pub(crate) fn read_rerank(body: &[u8]) -> Result<Box<dyn Exchange>, Problem> {
    let body: RerankBody = read(body)?;
    // vLLM's field is the same at this route and at its own; without it, all of these APIs cut at the end.
    let cut = Cut::of_vllm(body.truncate_prompt_tokens)?.unwrap_or(Cut::unless_refused(body.truncation));
    let max_document_tokens = body.max_document_tokens()?;
    let RerankBody { model, query, documents, top_n, top_k, return_documents, .. } = body;
    let documents: Vec<_> = documents.0.into_iter().map(|Document(text)| text).collect();
    if documents.is_empty() {
        return Err(Problem::bad_field("/documents", "there are none; give at least one"));
    }
    let shape = if top_k.is_some() { Shape::Voyage } else { Shape::Cohere };
    let keep = match (top_n.or(top_k), shape) {
        (None, _) => documents.len() as u64,
        (Some(0), Shape::Cohere) => return Err(Problem::bad_field("/top_n", "is 0; give at least 1")),
        (Some(0), Shape::Voyage) => return Err(Problem::bad_field("/top_k", "is 0; give at least 1")),
        (Some(keep), _) => keep.min(documents.len() as u64),
    };
    let call =
        TaskCall::rerank(model, query, documents, keep).cut(cut).max_document_tokens(max_document_tokens);
    Ok(call.answered_by(RerankAnswer { shape, tells_documents: return_documents == Some(true) }))
}

#[derive(Deserialize)]
struct RerankBody {
    model: Option<String>,
    query: String,
    documents: Items<Document>,
    top_n: Option<u64>,
    top_k: Option<u64>,
    return_documents: Option<bool>,
    /// Voyage's.
    truncation: Option<bool>,
    truncate_prompt_tokens: Option<i64>,
    /// Cohere's.
    max_tokens_per_doc: Option<i64>,
}

impl RerankBody {
    fn max_document_tokens(&self) -> Result<Option<u64>, Problem> {
        let asked =
            self.max_tokens_per_doc.map(u64::try_from).transpose().ok().filter(|asked| *asked != Some(0));
        asked.ok_or_else(|| Problem::bad_field("/max_tokens_per_doc", "give at least 1"))
    }
}

/// A document: a text, or an object with one.
struct Document(String);

#[derive(Deserialize)]
struct Object {
    text: String,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Document;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or an object with `text`")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Document, E> {
                Ok(Document(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Document, A::Error> {
                Object::deserialize(MapAccessDeserializer::new(map)).map(|Object { text }| Document(text))
            }
        }
        from.deserialize_any(Reader)
    }
}

/// Whose answer it is to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Cohere's and Jina's.
    Cohere,
    Voyage,
}

struct RerankAnswer {
    shape: Shape,
    tells_documents: bool,
}

#[derive(Serialize)]
struct Rank {
    index: i64,
    relevance_score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<serde_json::Value>,
}

impl TaskAnswer for RerankAnswer {
    fn answer(&self, model: &str, value: &Value, told: Told<'_>) -> Response<Last> {
        let rank = |Ranked { index, score, text }: Ranked<'_>| Rank {
            index,
            relevance_score: score,
            document: self.document(text),
        };
        let results: Vec<_> = ranked(value).map(rank).collect();
        let tokens = told.spent.input_tokens;
        json_answer(&match self.shape {
            Shape::Cohere => json!({
                "id": told.request_id.as_str(),
                "model": model,
                "results": results,
                "usage": { "total_tokens": tokens },
                "meta": { "api_version": { "version": "2" }, "billed_units": { "search_units": 1 }, "tokens": { "input_tokens": tokens } },
            }),
            Shape::Voyage => json!({
                "object": "list",
                "data": results,
                "model": model,
                "usage": { "total_tokens": tokens },
            }),
        })
    }
}

impl RerankAnswer {
    fn document(&self, text: &Value) -> Option<serde_json::Value> {
        let text = text.as_text().filter(|_| self.tells_documents)?;
        Some(match self.shape {
            Shape::Cohere => json!({ "text": text }),
            Shape::Voyage => json!(text),
        })
    }
}
