//! The API of Text Embeddings Inference: embeddings, reranking and classification by deployments. Its bodies name no model; one
//! may add `model`, and has to where several deployments do the task.

mod embed;
mod predict;
mod rerank;
mod tokens;

pub(crate) use self::embed::Embed;
pub(crate) use self::predict::Predict;
pub(crate) use self::rerank::read_rerank;
pub(crate) use self::tokens::{Decode, read_tokenize};

use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::fields::Unsupported;
use super::{Last, Problem};

/// What no model that ranks or classifies can do here.
const UNSUPPORTED: &[Unsupported] =
    &[Unsupported { name: "raw_scores", neutral: &[] }, Unsupported { name: "prompt_name", neutral: &[] }];

/// An error.
fn document(problem: &Problem) -> Value {
    let kind = match problem.status() {
        StatusCode::TOO_MANY_REQUESTS => "Overloaded",
        StatusCode::SERVICE_UNAVAILABLE if problem.name() == "overloaded" => "Overloaded",
        StatusCode::SERVICE_UNAVAILABLE => "Unhealthy",
        status if status.is_client_error() => "Validation",
        _ => "Backend",
    };
    json!({ "error": problem.text(), "error_type": kind })
}

/// An error at a route that another API has too: what does not fit may be of either, so it has the fields of both.
pub(crate) fn refuse_for_both(problem: &Problem, other: Value) -> Response<Last> {
    let mut document = document(problem);
    if let (Some(fields), Value::Object(other)) = (document.as_object_mut(), other) {
        fields.extend(other);
    }
    problem.with_document_of_400(&document)
}

fn refuse(problem: &Problem) -> Response<Last> {
    problem.with_document_of_400(&document(problem))
}

#[cfg(test)]
mod tests {
    use millstream_proto::ErrorClass;

    use super::*;
    use crate::model::Failure;

    #[test]
    fn every_class_has_its_type() {
        for (class, kind) in [
            (ErrorClass::Invalid, "Validation"),
            (ErrorClass::NotFound, "Validation"),
            (ErrorClass::RateLimited, "Overloaded"),
            (ErrorClass::Overloaded, "Overloaded"),
            (ErrorClass::Unavailable, "Unhealthy"),
            (ErrorClass::DeadlineExceeded, "Backend"),
            (ErrorClass::Internal, "Backend"),
        ] {
            let problem = Problem::from(Failure::new(class, "x"));
            assert_eq!(document(&problem)["error_type"], kind, "{class}");
        }
    }
}
