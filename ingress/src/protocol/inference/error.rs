//! Errors in the protocol's form.

use http::{Response, StatusCode};
use serde_json::json;

use super::super::{Last, Problem, json as answer};

/// An error in the protocol's form. What does not fit is 400, as there is no 422.
pub(super) fn document(problem: &Problem) -> Response<Last> {
    let faults = problem.errors().iter().map(|fault| match fault.path.trim_start_matches('/') {
        "" => fault.message.clone(),
        path => format!("`{path}`: {}", fault.message),
    });
    let faults: Vec<_> = faults.collect();
    let message = if faults.is_empty() { problem.detail().to_owned() } else { faults.join("; ") };
    let mut response = answer(&json!({ "error": message }));
    *response.status_mut() = match problem.status() {
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        status => status,
    };
    response
}
