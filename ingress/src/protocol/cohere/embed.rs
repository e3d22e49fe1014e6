//! `POST /v2/embed` and `/v1/embed`: vectors in one or several forms.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::cut::Cut;
use super::super::fields::{Items, Unsupported, read, refuse};
use super::super::task::{TaskAnswer, TaskCall, texts};
use super::super::vectors::{Dimensions, Vectors, binary, int8, ubinary, uint8};
use super::super::{Exchange, Last, Problem, Protocol, Told, json as json_answer};

const ENDPOINTS: [Endpoint; 2] = [
    Endpoint {
        methods: "POST",
        path: "/v2/embed",
        access: Access::ApiKey,
        help: "Cohere's embeddings: a vector for each text, in the forms that `embedding_types` lists.",
    },
    Endpoint {
        methods: "POST",
        path: "/v1/embed",
        access: Access::ApiKey,
        help: "The same for older clients: without `embedding_types` the vectors come as a plain list.",
    },
];

const UNSUPPORTED: &[Unsupported] = &[
    Unsupported { name: "images", neutral: &[] },
    Unsupported { name: "inputs", neutral: &[] },
    Unsupported { name: "priority", neutral: &[] },
];

/// See the module.
pub(crate) struct Embed;

impl Protocol for Embed {
    fn endpoints(&self) -> &'static [Endpoint] {
        &ENDPOINTS
    }

    fn read(&self, head: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        refuse(&body, UNSUPPORTED)?;
        let body: EmbedBody = read(&body)?;
        let cut = body.cut()?;
        let EmbedBody { model, texts: given, input_type, embedding_types, output_dimension, .. } = body;
        if given.0.is_empty() {
            return Err(Problem::bad_field("/texts", "there is no text; give at least one"));
        }
        if input_type == Some(InputType::Image) {
            return Err(Problem::bad_field("/input_type", "no model here reads images; give texts"));
        }
        let dimensions = Dimensions::read("/output_dimension", output_dimension)?;
        let version = if head.uri.path().starts_with("/v1/") { Version::One } else { Version::Two };
        let kinds = embedding_types.map(|kinds| once(kinds.0)).unwrap_or_default();
        let texts = texts(given.0);
        let call = TaskCall::embed(model, texts.clone()).input_type(input_type.map(InputType::kind)).cut(cut);
        Ok(call.answered_by(EmbedAnswer { texts, kinds, dimensions, version }))
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        super::refuse(problem, request_id)
    }
}

#[derive(Deserialize)]
struct EmbedBody {
    model: Option<String>,
    texts: Items<String>,
    input_type: Option<InputType>,
    embedding_types: Option<Items<Kind>>,
    output_dimension: Option<u64>,
    max_tokens: Option<u64>,
    truncate: Option<Truncate>,
}

impl EmbedBody {
    fn cut(&self) -> Result<Cut, Problem> {
        if self.max_tokens == Some(0) {
            return Err(Problem::bad_field("/max_tokens", "is 0; give at least 1"));
        }
        let cut = match self.truncate {
            None | Some(Truncate::End) => Cut::END,
            Some(Truncate::Start) => Cut::START,
            Some(Truncate::None) => Cut::NEVER,
        };
        Ok(Cut { max_tokens: self.max_tokens, ..cut })
    }
}

/// Where texts that are too long are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Truncate {
    End,
    Start,
    None,
}

/// What texts are for: a model may have a prompt for it. Other words are refused, as they are mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum InputType {
    SearchDocument,
    SearchQuery,
    Classification,
    Clustering,
    Image,
}

impl InputType {
    /// As engines know it.
    fn kind(self) -> &'static str {
        match self {
            Self::SearchDocument => "document",
            Self::SearchQuery => "query",
            Self::Classification => "classification",
            Self::Clustering => "clustering",
            Self::Image => "image",
        }
    }
}

/// A form of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Float,
    Int8,
    Uint8,
    Binary,
    Ubinary,
    Base64,
}

/// Each form once: a long list of one form would have it made as often.
fn once(kinds: Vec<Kind>) -> Vec<Kind> {
    let mut once = Vec::new();
    for kind in kinds {
        if !once.contains(&kind) {
            once.push(kind);
        }
    }
    once
}

/// Of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

struct EmbedAnswer {
    /// The answer repeats them.
    texts: Value,
    kinds: Vec<Kind>,
    dimensions: Dimensions,
    version: Version,
}

#[derive(Serialize)]
struct Document<'a> {
    id: &'a str,
    embeddings: Embeddings,
    texts: &'a Value,
    meta: serde_json::Value,
    response_type: &'static str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Embeddings {
    Floats(Vec<Vec<f32>>),
    ByType(Box<ByType>),
}

#[derive(Serialize, Default)]
struct ByType {
    #[serde(skip_serializing_if = "Option::is_none")]
    float: Option<Vec<Vec<f32>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    int8: Option<Vec<Vec<i8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uint8: Option<Vec<Vec<u8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary: Option<Vec<Vec<i8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ubinary: Option<Vec<Vec<u8>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<Vec<String>>,
}

impl ByType {
    fn of(vectors: Vectors<'_>, kinds: &[Kind]) -> Self {
        let mut by_type = Self::default();
        for kind in kinds {
            let rows = vectors.floats();
            match kind {
                Kind::Float => by_type.float = Some(rows.collect()),
                Kind::Int8 => by_type.int8 = Some(rows.map(|row| int8(&row)).collect()),
                Kind::Uint8 => by_type.uint8 = Some(rows.map(|row| uint8(&row)).collect()),
                Kind::Binary => by_type.binary = Some(rows.map(|row| binary(&row)).collect()),
                Kind::Ubinary => by_type.ubinary = Some(rows.map(|row| ubinary(&row)).collect()),
                Kind::Base64 => by_type.base64 = Some(vectors.base64().collect()),
            }
        }
        by_type
    }
}

impl TaskAnswer for EmbedAnswer {
    fn answer(&self, _: &str, value: &Value, told: Told<'_>) -> Response<Last> {
        let vectors = match Vectors::of(value, self.dimensions) {
            Ok(vectors) => vectors,
            Err(problem) => return super::refuse(&problem, told.request_id),
        };
        let (embeddings, response_type) = match (&self.kinds[..], self.version) {
            ([], Version::One) => (Embeddings::Floats(vectors.floats().collect()), "embeddings_floats"),
            (kinds, _) => {
                let kinds = if kinds.is_empty() { &[Kind::Float] } else { kinds };
                (Embeddings::ByType(Box::new(ByType::of(vectors, kinds))), "embeddings_by_type")
            }
        };
        let version = match self.version {
            Version::One => "1",
            Version::Two => "2",
        };
        let meta = json!({
            "api_version": { "version": version },
            "billed_units": { "input_tokens": told.spent.input_tokens },
        });
        let id = told.request_id.as_str();
        json_answer(&Document { id, embeddings, texts: &self.texts, meta, response_type })
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use millstream_values::Tensor;

    use super::super::super::Spent;
    use super::*;

    fn answer(path: &str, more: &str) -> Result<serde_json::Value, String> {
        let (head, ()) = Request::post(path).body(()).unwrap().into_parts();
        let body = format!(r#"{{"model": "p/d", "texts": ["a", "b"]{more}}}"#);
        let mut exchange = Embed
            .read(&head, body.into())
            .map_err(|problem| problem.errors().first().map(|it| it.path.clone()).unwrap_or_default())?;
        exchange.asked();
        let value = Tensor::from_f32([2, 2], &[0.6, 0.8, 0.0, -1.0]).unwrap().into();
        let request_id = RequestId::new("r-1");
        let spent = Spent { input_tokens: 7, output_tokens: 0 };
        let response = exchange.answer(&value, Told { request_id: &request_id, spent });
        Ok(serde_json::from_slice(&response.body().bytes).unwrap())
    }

    #[test]
    fn vectors_come_in_the_forms_that_are_asked_for() {
        let types = r#", "input_type": "search_query", "embedding_types": ["float", "int8", "uint8", "binary", "ubinary"]"#;
        let expected = json!({
            "id": "r-1",
            "embeddings": {
                "float": [[0.6, 0.8], [0.0, -1.0]],
                "int8": [[76, 102], [0, -127]],
                "uint8": [[204, 230], [128, 1]],
                "binary": [[64], [-128]],
                "ubinary": [[192], [0]],
            },
            "texts": ["a", "b"],
            "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 7}},
            "response_type": "embeddings_by_type",
        });
        assert_eq!(answer("/v2/embed", types).unwrap(), expected);
        let base64 = answer("/v1/embed", r#", "embedding_types": ["base64"]"#).unwrap();
        assert!(base64["embeddings"]["base64"][1].is_string() && base64["embeddings"]["float"].is_null());
        assert_eq!(base64["meta"]["api_version"]["version"], "1");
    }

    #[test]
    fn a_form_that_is_listed_often_is_made_once() {
        assert_eq!(once([Kind::Float, Kind::Int8].repeat(30_000)), [Kind::Float, Kind::Int8]);
    }

    #[test]
    fn without_types_the_first_version_has_a_plain_list() {
        let one = answer("/v1/embed", "").unwrap();
        assert_eq!(one["response_type"], "embeddings_floats");
        assert_eq!(one["embeddings"], json!([[0.6, 0.8], [0.0, -1.0]]));
        let two =
            answer("/v2/embed", r#", "output_dimension": 1, "truncate": "END", "images": null"#).unwrap();
        assert_eq!(two["embeddings"], json!({"float": [[1.0], [0.0]]}));
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (more, path) in [
            (r#", "embedding_types": ["float", "hex"]"#, "/embedding_types/1"),
            (r#", "truncate": "MIDDLE""#, "/truncate"),
            (r#", "images": ["data:"]"#, "/images"),
            (r#", "max_tokens": 0"#, "/max_tokens"),
            (r#", "input_type": "image""#, "/input_type"),
            (r#", "input_type": "story""#, "/input_type"),
            (r#", "output_dimension": 0"#, "/output_dimension"),
        ] {
            assert_eq!(answer("/v2/embed", more).unwrap_err(), path, "{more}");
        }
        assert_eq!(
            answer("/v2/embed", r#", "output_dimension": 3"#).unwrap()["message"],
            "`output_dimension`: the model's vectors have 2 numbers, fewer than 3"
        );
    }
}
