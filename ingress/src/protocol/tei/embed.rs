//! `POST /embed`: a bare list of vectors.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::endpoint::{Access, Endpoint};
use millstream_proto::{RequestId, Value};
use serde::Deserialize;

use super::super::cut::Direction;
use super::super::fields::{Texts, read};
use super::super::task::{TaskAnswer, TaskCall, texts};
use super::super::vectors::{Dimensions, Vectors, normalize};
use super::super::{Exchange, Last, Problem, Protocol, Told, json};

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/embed",
    access: Access::ApiKey,
    help: "Embeddings as Text Embeddings Inference has them: a list of vectors, by the only deployment that embeds, or by the one that `model` names.",
};

/// See the module.
pub(crate) struct Embed;

impl Protocol for Embed {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn yields(&self) -> bool {
        true
    }

    fn read(&self, _: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let EmbedBody { model, inputs, prompt_name, normalize, dimensions, truncate, truncation_direction } =
            read(&body)?;
        let inputs = inputs.all();
        if inputs.is_empty() {
            return Err(Problem::bad_field("/inputs", "there is no text; give at least one"));
        }
        let dimensions = Dimensions::read("/dimensions", dimensions)?;
        let length = if normalize == Some(false) { Length::AsGiven } else { Length::One };
        let cut = Direction::cut(truncation_direction, truncate);
        let call = TaskCall::embed(model, texts(inputs)).prompt_name(prompt_name).cut(cut);
        Ok(call.answered_by(EmbedAnswer { dimensions, length }))
    }

    fn problem(&self, problem: &Problem, _: &RequestId) -> Response<Last> {
        super::refuse(problem)
    }
}

#[derive(Deserialize)]
struct EmbedBody {
    model: Option<String>,
    inputs: Texts,
    prompt_name: Option<String>,
    normalize: Option<bool>,
    dimensions: Option<u64>,
    truncate: Option<bool>,
    truncation_direction: Option<Direction>,
}

/// Of vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    One,
    AsGiven,
}

struct EmbedAnswer {
    dimensions: Dimensions,
    length: Length,
}

impl TaskAnswer for EmbedAnswer {
    fn answer(&self, _: &str, value: &Value, _: Told<'_>) -> Response<Last> {
        let vectors = match Vectors::of(value, self.dimensions) {
            Ok(vectors) => vectors,
            Err(problem) => return super::refuse(&problem),
        };
        let mut rows: Vec<_> = vectors.floats().collect();
        if self.length == Length::One {
            rows.iter_mut().for_each(|row| normalize(row));
        }
        json(&rows)
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use millstream_values::Tensor;
    use serde_json::json as value;

    use super::super::super::Spent;
    use super::*;

    fn read(body: &serde_json::Value) -> Result<Box<dyn Exchange>, String> {
        let (head, ()) = Request::post("/embed").body(()).unwrap().into_parts();
        let read = Embed.read(&head, body.to_string().into());
        read.map_err(|problem| problem.errors().first().map(|it| it.path.clone()).unwrap_or_default())
    }

    fn answer(body: &serde_json::Value) -> serde_json::Value {
        let answer = Tensor::from_f32([1, 2], &[3.0, 4.0]).unwrap().into();
        let request_id = RequestId::new("r-1");
        let told = Told { request_id: &request_id, spent: Spent::default() };
        let response = read(body).unwrap().answer(&answer, told);
        serde_json::from_slice(&response.body().bytes).unwrap()
    }

    #[test]
    fn vectors_have_length_1_unless_the_request_says_otherwise() {
        assert_eq!(answer(&value!({"inputs": "a", "truncate": true})), value!([[0.6, 0.8]]));
        assert_eq!(answer(&value!({"inputs": ["a"], "normalize": false})), value!([[3.0, 4.0]]));
        assert_eq!(answer(&value!({"inputs": "a", "dimensions": 1})), value!([[1.0]]));
        let refused = answer(&value!({"inputs": "a", "dimensions": 3}));
        assert_eq!(refused["error_type"], "Validation");
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (body, path) in [
            (value!({"inputs": []}), "/inputs"),
            (value!({"inputs": [1, 2]}), "/inputs/0"),
            (value!({"inputs": "a", "prompt_name": 1}), "/prompt_name"),
            (value!({"inputs": "a", "truncation_direction": "up"}), "/truncation_direction"),
            (value!({"inputs": "a", "truncate": "END"}), "/truncate"),
            (value!({"inputs": "a", "normalize": "yes"}), "/normalize"),
            (value!({"inputs": "a", "dimensions": 0}), "/dimensions"),
            (value!({}), ""),
        ] {
            assert_eq!(read(&body).err().as_deref(), Some(path), "{body}");
        }
        assert!(read(&value!({"inputs": "a", "prompt_name": null, "truncation_direction": "Right"})).is_ok());
        assert!(read(&value!({"inputs": "a", "prompt_name": "query", "truncate": false})).is_ok());
    }
}
