//! `POST /v1/embeddings`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_pipelines::{Plan, Task};
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use millstream_values::{DType, Map, Tensor};
use serde::{Deserialize, Serialize};

use super::super::fields::{Texts, read};
use super::super::task::check_task;
use super::super::{Asked, Exchange, Form, Last, Problem, Protocol, Target, Told, json};
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
        let EmbeddingBody { model, input, encoding_format, dimensions } = read(&body)?;
        let texts = input.all();
        if texts.is_empty() {
            return Err(Problem::bad_field("/input", "there is no text; give at least one"));
        }
        let encoding = match encoding_format.as_deref() {
            None | Some("float") => Encoding::Float,
            Some("base64") => Encoding::Base64,
            Some(_) => return Err(Problem::bad_field("/encoding_format", "give `float` or `base64`")),
        };
        let dimensions = match dimensions {
            None => None,
            Some(0) => return Err(Problem::bad_field("/dimensions", "is 0; give at least 1")),
            Some(dimensions) => Some(usize::try_from(dimensions).unwrap_or(usize::MAX)),
        };
        let fields = Map::from_iter([("texts".into(), Value::list(texts.into_iter().map(Value::from)))]);
        Ok(Box::new(EmbeddingExchange { model, fields, encoding, dimensions }))
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
}

/// How numbers are told.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Encoding {
    /// As a list.
    Float,
    /// As base64 of 32-bit floats, least significant byte first.
    Base64,
}

struct EmbeddingExchange {
    model: String,
    fields: Map,
    encoding: Encoding,
    dimensions: Option<usize>,
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

impl EmbeddingExchange {
    /// A vector of these numbers, 32-bit floats as they are stored.
    fn vector(&self, row: &[u8]) -> Vector {
        let shortened = self.dimensions.filter(|dimensions| 4 * dimensions < row.len());
        let numbers = || {
            let (numbers, _) = row.as_chunks::<4>();
            let numbers: Vec<f32> = numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            shortened.map_or(numbers.clone(), |dimensions| shorten(&numbers, dimensions))
        };
        match (self.encoding, shortened) {
            (Encoding::Float, _) => Vector::Float(numbers()),
            (Encoding::Base64, None) => Vector::Base64(STANDARD.encode(row)),
            (Encoding::Base64, Some(_)) => {
                let bytes: Vec<u8> = numbers().into_iter().flat_map(f32::to_le_bytes).collect();
                Vector::Base64(STANDARD.encode(bytes))
            }
        }
    }
}

/// The numbers of vectors, as they are stored, and how many there are in each.
fn rows_of(tensor: &Tensor) -> Option<(&Bytes, usize)> {
    match (tensor.dtype(), tensor.shape()) {
        (DType::F32, &[_, width]) if width > 0 => Some((tensor.data(), width)),
        _ => None,
    }
}

/// The first numbers of a vector, of length 1 again: what models that were trained for it (Matryoshka representations, Kusupati
/// and others, 2022) leave most of the meaning in.
fn shorten(row: &[f32], dimensions: usize) -> Vec<f32> {
    let kept = &row[..dimensions];
    let norm = kept.iter().map(|number| number * number).sum::<f32>().sqrt();
    kept.iter().map(|number| if norm > 0.0 { number / norm } else { *number }).collect()
}

impl Exchange for EmbeddingExchange {
    fn target(&self) -> Option<Target<'_>> {
        Some(Target::Named { name: &self.model, version: None })
    }

    fn ask(&self, plan: &Plan) -> Result<Asked, Problem> {
        check_task(plan, Task::Embed, &self.model)?;
        let request = plan.check_request(self.fields.clone())?;
        Ok(Asked { fields: request.fields, num_values: request.num_values, form: Form::Whole })
    }

    fn asked(&mut self) {
        self.fields = Map::new();
    }

    fn answer(&mut self, value: &Value, told: Told<'_>) -> Response<Last> {
        let refuse = |problem: &Problem| error::document(problem, told.request_id);
        let Some((data, width)) = value.as_tensor().and_then(rows_of) else {
            return refuse(&Problem::internal("the model gave no vectors"));
        };
        if let Some(asked) = self.dimensions.filter(|asked| *asked > width) {
            let text = format!("the model's vectors have {width} numbers, fewer than {asked}");
            return refuse(&Problem::bad_field("/dimensions", text));
        }
        let data = data.chunks_exact(4 * width).enumerate().map(|(index, row)| Embedding {
            object: "embedding",
            index,
            embedding: self.vector(row),
        });
        let usage = Usage::of_input(told.spent);
        json(&Document { object: "list", data: data.collect(), model: &self.model, usage })
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::Spent;
    use super::*;

    fn exchange(encoding: Encoding, dimensions: Option<usize>) -> EmbeddingExchange {
        EmbeddingExchange { model: "p/d".into(), fields: Map::new(), encoding, dimensions }
    }

    fn answer(encoding: Encoding, dimensions: Option<usize>) -> serde_json::Value {
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
    fn shorter_vectors_have_length_1_and_longer_ones_are_refused() {
        assert_eq!(answer(Encoding::Float, Some(1))["data"][1]["embedding"], serde_json::json!([1.0]));
        assert_eq!(answer(Encoding::Float, Some(2))["data"][0]["embedding"], serde_json::json!([3.0, 4.0]));
        assert_eq!(answer(Encoding::Float, Some(3))["error"]["param"], "dimensions");
    }
}
