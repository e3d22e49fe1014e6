//! Errors in OpenAI's form.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use millstream_proto::RequestId;
use serde::Serialize;

use super::super::{Last, Problem};

#[derive(Serialize)]
struct Document<'a> {
    error: Error<'a>,
}

#[derive(Serialize)]
struct Error<'a> {
    message: String,
    r#type: &'static str,
    param: Option<String>,
    code: &'a str,
}

/// The status in this API: what does not fit is 400, as there is no 422.
fn status(problem: &Problem) -> StatusCode {
    match problem.status() {
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        status => status,
    }
}

fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "server_error",
    }
}

/// The document.
pub(super) fn json(problem: &Problem, request_id: &RequestId) -> Vec<u8> {
    let first = problem.errors().first();
    let mut message = match problem.errors() {
        [] => problem.detail().to_owned(),
        faults => {
            let faults = faults.iter().map(|fault| format!("`{}`: {}", param(&fault.path), fault.message));
            faults.collect::<Vec<_>>().join("; ")
        }
    };
    message.push_str(&format!(" (request id {request_id})"));
    let code = match problem.status() {
        StatusCode::NOT_FOUND if first.is_none() => "model_not_found",
        StatusCode::UNAUTHORIZED => "invalid_api_key",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_exceeded",
        _ => problem.name(),
    };
    let param = first.map(|fault| param(&fault.path));
    let error = Error { message, r#type: kind(status(problem)), param, code };
    serde_json::to_vec(&Document { error }).expect("texts have a JSON form")
}

/// The document as an answer.
pub(super) fn document(problem: &Problem, request_id: &RequestId) -> Response<Last> {
    let bytes = Bytes::from(json(problem, request_id));
    let mut response = Response::new(Last::from(bytes));
    *response.status_mut() = status(problem);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// `/messages/0/content` as the API writes it: `messages[0].content`.
fn param(pointer: &str) -> String {
    let mut param = String::new();
    for part in pointer.split('/').skip(1) {
        match part.parse::<usize>() {
            Ok(index) => param.push_str(&format!("[{index}]")),
            Err(_) => {
                if !param.is_empty() {
                    param.push('.');
                }
                param.push_str(part);
            }
        }
    }
    param
}

#[cfg(test)]
mod tests {
    use millstream_proto::ErrorClass;
    use serde_json::{Value, json as value};

    use super::*;
    use crate::model::Failure;

    fn shown(problem: &Problem) -> (u16, Value) {
        let response = document(problem, &RequestId::new("r-1"));
        (response.status().as_u16(), serde_json::from_slice(&response.body().bytes).unwrap())
    }

    #[test]
    fn a_fault_names_the_field() {
        let (status, json) = shown(&Problem::bad_field("/messages/0/content", "is `1`"));
        assert_eq!(status, 400);
        assert_eq!(
            json["error"],
            value!({
                "message": "`messages[0].content`: is `1` (request id r-1)", "type": "invalid_request_error",
                "param": "messages[0].content", "code": "malformed",
            })
        );
    }

    #[test]
    fn every_class_has_its_type() {
        let of = |class| shown(&Problem::from(Failure::new(class, "x")));
        for (class, status, kind) in [
            (ErrorClass::Invalid, 400, "invalid_request_error"),
            (ErrorClass::NotFound, 404, "invalid_request_error"),
            (ErrorClass::RateLimited, 429, "rate_limit_error"),
            (ErrorClass::Overloaded, 503, "server_error"),
            (ErrorClass::DeadlineExceeded, 504, "server_error"),
            (ErrorClass::Internal, 500, "server_error"),
        ] {
            let (found, json) = of(class);
            assert_eq!((found, &json["error"]["type"]), (status, &value!(kind)), "{class}");
            assert_eq!(json["error"]["param"], Value::Null);
        }
    }
}
