//! The Open Inference Protocol 2.0, as KServe and Triton have it: tensors in and out; over HTTP as JSON or as their bytes behind the
//! JSON, over gRPC in `grpc`. A model is a pipeline, whose request fields are the inputs and whose response fields are the outputs, or a deployment by its full
//! name.
//!
//! What calls nothing (health, metadata, the index of models) is answered by the ingress as its own pages are; here is what these
//! pages say. `request` and `message` read a body, `inputs` makes fields of its tensors, `exchange` and `outputs` make the answer.

mod contents;
mod data;
mod datatype;
mod error;
mod exchange;
mod grpc;
mod inputs;
mod message;
pub(crate) mod metadata;
mod outputs;
pub(crate) mod page;
pub(crate) mod path;
pub(crate) mod question;
mod request;
mod tensors;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Response};
use millstream_proto::RequestId;
use millstream_proto::endpoint::{Access, Endpoint};

use self::exchange::InferExchange;
pub(crate) use self::grpc::{MODEL_INFER, StreamedInfer};
pub(crate) use self::outputs::LONE_OUTPUT;
use self::path::{Action, InferencePath, ModelPath};
pub(crate) use self::request::HEADER_LENGTH;
use super::{Exchange, Last, Problem, Protocol, Target, pipeline};

const INFER: Endpoint = Endpoint {
    methods: "POST",
    path: "/v2/models/{model}/infer",
    access: Access::ApiKey,
    help: "The Open Inference Protocol: runs a pipeline or a deployment on tensors, as JSON or binary. Behind the model's name there may be `/versions/{revision}`, here and for its other paths.",
};

/// See the module.
pub(crate) struct Inference;

impl Inference {
    fn infer(path: &str) -> Option<ModelPath<'_>> {
        match path::parse(path)? {
            InferencePath::Model(model) if model.action == Action::Infer => Some(model),
            _ => None,
        }
    }
}

impl Protocol for Inference {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[INFER]
    }

    /// All that is left under `/v2`, so that errors there are in its form; no pipeline may have a route there.
    fn takes(&self, path: &str) -> bool {
        path == "/v2" || path.starts_with("/v2/")
    }

    fn methods(&self, _: &str) -> &'static str {
        INFER.methods
    }

    /// A name that is not written plainly in the path is told by the exchange.
    fn target<'r>(&self, head: &'r Parts) -> Option<Target<'r>> {
        let path = head.uri.path();
        match Self::infer(path) {
            None => Some(Target::Route(path)),
            Some(model) => model.plain_target(),
        }
    }

    fn tells_usage(&self) -> bool {
        false
    }

    /// Beside JSON, bytes, which pages of other sites cannot send unasked. Some clients send JSON without a type; no page does, as
    /// browsers say where a page is from.
    fn check_content(&self, head: &Parts) -> Result<(), Problem> {
        let headers = &head.headers;
        let is_bytes = |kind: &HeaderValue| kind.as_bytes().eq_ignore_ascii_case(b"application/octet-stream");
        let is_own = match headers.get(CONTENT_TYPE) {
            Some(kind) => is_bytes(kind),
            None => !headers.contains_key(ORIGIN),
        };
        if is_own && !headers.contains_key(CONTENT_ENCODING) {
            return Ok(());
        }
        pipeline::check_json(headers)
    }

    fn read(&self, head: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        let Some(model) = Self::infer(head.uri.path()) else {
            return Err(Problem::not_found("there is nothing here"));
        };
        let length = head.headers.get(HEADER_LENGTH).map(header_length).transpose()?;
        let request = request::read(&body, length)?;
        let version = model.revision()?;
        Ok(Box::new(InferExchange::new(model.name.into_owned(), version, request)))
    }

    fn problem(&self, problem: &Problem, _: &RequestId) -> Response<Last> {
        error::document(problem)
    }
}

fn header_length(value: &HeaderValue) -> Result<usize, Problem> {
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| {
        Problem::malformed(format!("header `{HEADER_LENGTH}` is not a number; give the bytes of the JSON"))
    })
}

#[cfg(test)]
mod tests;
