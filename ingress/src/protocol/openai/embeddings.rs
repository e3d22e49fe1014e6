//! `POST /v1/embeddings`.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::{Deserialize, Serialize};

use super::super::cut::Cut;
use super::super::fields::{Texts, read};
use super::super::task::{self, TaskAnswer, TaskCall};
use super::super::vectors::{Dimensions, Vectors};
use super::super::{Exchange, Last, Problem, Protocol, Told, json};
use super::{Usage, error};

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/v1/embeddings",
    access: Access::ApiKey,
    help: "OpenAI's embeddings: a vector for each text, by the deployment that `model` names.",
};

/// See the module.
pub(crate) struct Embeddings;

impl Protocol for Embeddings {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let body: EmbeddingBody = read(&body)?;
        let cut = body.cut()?;
        let EmbeddingBody { model, input, encoding_format, dimensions, input_type, task, .. } = body;
        let texts = input.all();
        if texts.is_empty() {
            return Err(Problem::bad_field("/input", "there is no text; give at least one"));
        }
        let encoding = match encoding_format.as_deref() {
            None | Some("float") => Encoding::Float,
            Some("base64") => Encoding::Base64,
            Some(_) => return Err(Problem::bad_field("/encoding_format", "give `float` or `base64`")),
        };
        let dimensions = Dimensions::read("/dimensions", dimensions)?;
        let kind = input_type.or(task.map(|JinaTask(kind)| kind)).map(InputType::kind);
        let call = TaskCall::embed(Some(model), task::texts(texts)).input_type(kind).cut(cut);
        Ok(call.answered_by(EmbeddingAnswer { encoding, dimensions }))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        error::document(problem, request_id)
    }
}

#[derive(Deserialize)]
struct EmbeddingBody {
    model: String,
    input: Texts,
    encoding_format: Option<String>,
    dimensions: Option<u64>,
    /// vLLM's.
    truncate_prompt_tokens: Option<i64>,
    /// Voyage's, as is the next.
    truncation: Option<bool>,
    input_type: Option<InputType>,
    /// Jina's, as is the next.
    truncate: Option<bool>,
    task: Option<JinaTask>,
}

impl EmbeddingBody {
    /// A text that is too long is an error in this API; in those that have taken its route, a request may say otherwise.
    fn cut(&self) -> Result<Cut, Problem> {
        let cut = Cut::of_vllm(self.truncate_prompt_tokens)?;
        let is_wanted = self.truncation.or(self.truncate) == Some(true);
        Ok(cut.unwrap_or(if is_wanted { Cut::END } else { Cut::NEVER }))
    }
}

/// What texts are for: a model may have a prompt for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum InputType {
    Query,
    #[serde(alias = "passage")]
    Document,
}

impl InputType {
    /// As engines know it.
    fn kind(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Document => "document",
        }
    }
}

/// What texts are for, as Jina says it. Its other tasks are for models with an adapter for each, which there are none of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct JinaTask(InputType);

impl TryFrom<String> for JinaTask {
    type Error = &'static str;

    fn try_from(task: String) -> Result<Self, Self::Error> {
        match &*task {
            "retrieval.query" => Ok(Self(InputType::Query)),
            "retrieval.passage" => Ok(Self(InputType::Document)),
            _ => Err(
                "no model here does this task; give `retrieval.query` or `retrieval.passage`, or leave it out",
            ),
        }
    }
}

/// How numbers are told.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Encoding {
    /// As a list.
    Float,
    /// As base64 of 32-bit floats, least significant byte first.
    Base64,
}

struct EmbeddingAnswer {
    encoding: Encoding,
    dimensions: Dimensions,
}

#[derive(Serialize)]
struct Document<'a> {
    object: &'static str,
    data: Vec<Embedding>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Embedding {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Float(Vec<f32>),
    Base64(String),
}

impl TaskAnswer for EmbeddingAnswer {
    fn answer(&self, model: &str, value: &Value, told: Told<'_>) -> Response<Last> {
        let vectors = match Vectors::of(value, self.dimensions) {
            Ok(vectors) => vectors,
            Err(problem) => return error::document(&problem, told.request_id),
        };
        let embeddings: Vec<_> = match self.encoding {
            Encoding::Float => vectors.floats().map(Vector::Float).collect(),
            Encoding::Base64 => vectors.base64().map(Vector::Base64).collect(),
        };
        let data = embeddings.into_iter().enumerate();
        let data =
            data.map(|(index, embedding)| Embedding { object: "embedding", index, embedding }).collect();
        let usage = Usage::of_input(told.spent);
        json(&Document { object: "list", data, model, usage })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use millstream_values::Tensor;

    use super::super::super::Spent;
    use super::*;

    fn exchange(encoding: Encoding, dimensions: Option<u64>) -> Box<dyn Exchange> {
        let call = TaskCall::embed(Some("p/d".into()), task::texts(Vec::new()));
        let dimensions = Dimensions::read("/dimensions", dimensions).unwrap();
        call.answered_by(EmbeddingAnswer { encoding, dimensions })
    }

    fn answer(encoding: Encoding, dimensions: Option<u64>) -> serde_json::Value {
        let value = Tensor::from_f32([2, 2], &[3.0, 4.0, 0.5, -1.0]).unwrap().into();
        let request_id = RequestId::new("r-1");
        let spent = Spent { input_tokens: 7, output_tokens: 0 };
        let told = Told { request_id: &request_id, spent };
        let response = exchange(encoding, dimensions).answer(&value, told);
        serde_json::from_slice(&response.body().bytes).unwrap()
    }

    #[test]
    fn vectors_are_lists_or_base64() {
        let json = answer(Encoding::Float, None);
        let expected = serde_json::json!({
            "object": "list",
            "data": [
                {"object": "embedding", "index": 0, "embedding": [3.0, 4.0]},
                {"object": "embedding", "index": 1, "embedding": [0.5, -1.0]},
            ],
            "model": "p/d",
            "usage": {"prompt_tokens": 7, "total_tokens": 7},
        });
        assert_eq!(json, expected);
        let json = answer(Encoding::Base64, None);
        let bytes = STANDARD.decode(json["data"][1]["embedding"].as_str().unwrap()).unwrap();
        assert_eq!(bytes, [0.5_f32.to_le_bytes(), (-1.0_f32).to_le_bytes()].concat());
    }

    #[test]
    fn texts_are_for_what_voyage_and_jina_say() {
        let read = |more: &str| {
            let (head, ()) = http::Request::post("/v1/embeddings").body(()).unwrap().into_parts();
            let body = format!(r#"{{"model": "p/d", "input": "a"{more}}}"#);
            Embeddings.read(&head, body.into()).map(drop).map_err(|problem| problem.text())
        };
        for good in [
            "",
            r#", "task": "retrieval.query", "truncate": true, "late_chunking": false"#,
            r#", "task": "retrieval.passage", "truncate": false"#,
            r#", "task": null, "truncate": null"#,
        ] {
            assert_eq!(read(good), Ok(()), "{good}");
        }
        for (bad, said) in [
            (r#", "task": "separation""#, "`task`: no model here does this task; give `retrieval.query`"),
            (r#", "task": 1"#, "`task`: "),
            (r#", "truncate": "END""#, "`truncate`: "),
        ] {
            let found = read(bad).unwrap_err();
            assert!(found.starts_with(said), "{found}");
        }
        let cut = |body: &str| serde_json::from_str::<EmbeddingBody>(body).unwrap().cut().unwrap();
        assert_eq!(cut(r#"{"model": "m", "input": "a"}"#), Cut::NEVER);
        assert_eq!(cut(r#"{"model": "m", "input": "a", "truncate": true}"#), Cut::END);
        assert_eq!(cut(r#"{"model": "m", "input": "a", "truncate": false}"#), Cut::NEVER);
    }

    #[test]
    fn shorter_vectors_have_length_1_and_longer_ones_are_refused() {
        assert_eq!(answer(Encoding::Float, Some(1))["data"][1]["embedding"], serde_json::json!([1.0]));
        assert_eq!(answer(Encoding::Float, Some(2))["data"][0]["embedding"], serde_json::json!([3.0, 4.0]));
        assert_eq!(answer(Encoding::Float, Some(3))["error"]["param"], "dimensions");
    }
}
