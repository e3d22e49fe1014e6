//! Errors as clients see them: `application/problem+json` (RFC 9457). The one place where a class becomes a status.

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode, Version};
use millstream_pipelines::{FieldFault, RequestError};
use millstream_proto::{ErrorClass, RequestId};
use serde::Serialize;

use super::answer::EdgeBody;
use crate::execute::Failure;

/// What a client is told to wait when nothing better is known.
const DEFAULT_RETRY_AFTER_S: u32 = 1;

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    status: StatusCode,
    /// Last part of the type's URN.
    kind: &'static str,
    detail: String,
    errors: Vec<FieldFault>,
    retry_after_s: Option<u32>,
    allow: Option<&'static str>,
    /// Whether the client is told how to show who it is.
    challenges: bool,
    /// Whether the connection is of no more use: the rest of a body may still be coming.
    ends_connection: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    request_id: &'a RequestId,
    #[serde(skip_serializing_if = "<[FieldFault]>::is_empty")]
    errors: &'a [FieldFault],
}

impl Problem {
    fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: None,
            allow: None,
            challenges: false,
            ends_connection: false,
        }
    }

    /// 400.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", detail)
    }

    /// 401.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self { challenges: true, ..Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail) }
    }

    /// 404.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// 405.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this path answers {allow}");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail) }
    }

    /// 408.
    pub(crate) fn slow_body(detail: impl Into<String>) -> Self {
        Self { ends_connection: true, ..Self::new(StatusCode::REQUEST_TIMEOUT, "slow-body", detail) }
    }

    /// 413.
    pub(crate) fn body_too_large(detail: impl Into<String>) -> Self {
        Self { ends_connection: true, ..Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail) }
    }

    /// 414.
    pub(crate) fn uri_too_long(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::URI_TOO_LONG, "uri-too-long", detail)
    }

    /// 415.
    pub(crate) fn unsupported_media(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail)
    }

    /// 431.
    pub(crate) fn headers_too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers-too-large", detail)
    }

    /// 503 while no route is known yet.
    pub(crate) fn starting() -> Self {
        Self::from(Failure {
            class: ErrorClass::Unavailable,
            message: "this ingress is starting and has not heard of any pipeline yet".to_owned(),
            retry_after_s: None,
        })
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The document, as JSON.
    pub(crate) fn to_json(&self, request_id: &RequestId) -> Vec<u8> {
        let document = Document {
            r#type: format!("urn:millstream:problem:{}", self.kind),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            request_id,
            errors: &self.errors,
        };
        serde_json::to_vec(&document).expect("a struct of texts and numbers has a JSON form")
    }

    /// The response.
    pub(crate) fn into_response(self, request_id: &RequestId, version: Version) -> Response<EdgeBody> {
        let body = EdgeBody::whole(Bytes::from(self.to_json(request_id)));
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.challenges {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.ends_connection && version <= Version::HTTP_11 {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Malformed { message } => Self::malformed(message),
            RequestError::Invalid(errors) => {
                let detail = "the body does not fit the pipeline's `[request]`; see `errors`";
                Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail) }
            }
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let (status, kind) = match failure.class {
            ErrorClass::Malformed => (StatusCode::BAD_REQUEST, "malformed"),
            ErrorClass::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            ErrorClass::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            ErrorClass::NotFound => (StatusCode::NOT_FOUND, "not-found"),
            ErrorClass::Conflict => (StatusCode::CONFLICT, "conflict"),
            ErrorClass::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "rate-limited"),
            ErrorClass::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            ErrorClass::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            ErrorClass::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, "deadline-exceeded"),
            // A replica that ends a call nobody cancelled: not the client's doing.
            ErrorClass::Cancelled | ErrorClass::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        let waits = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let retry_after_s = waits.then(|| failure.retry_after_s.unwrap_or(DEFAULT_RETRY_AFTER_S));
        Self { retry_after_s, ..Self::new(status, kind, failure.message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(class: ErrorClass) -> Failure {
        Failure { class, message: "x".to_owned(), retry_after_s: Some(7) }
    }

    #[test]
    fn every_class_has_its_status_and_only_waits_say_when_to_come_back() {
        use ErrorClass::*;
        let table = [
            (Malformed, 400, None),
            (TooLarge, 413, None),
            (Invalid, 422, None),
            (NotFound, 404, None),
            (Conflict, 409, None),
            (RateLimited, 429, Some(7)),
            (Overloaded, 503, Some(7)),
            (Unavailable, 503, Some(7)),
            (DeadlineExceeded, 504, None),
            (Cancelled, 500, None),
            (Internal, 500, None),
        ];
        for (class, status, retry_after_s) in table {
            let problem = Problem::from(failure(class));
            assert_eq!((problem.status.as_u16(), problem.retry_after_s), (status, retry_after_s), "{class}");
        }
    }

    #[test]
    fn a_problem_is_a_document_with_all_faults() {
        let fault = FieldFault { path: "/documents/3".to_owned(), message: "is `null`".to_owned() };
        let problem = Problem::from(RequestError::Invalid(vec![fault]));
        let json: serde_json::Value =
            serde_json::from_slice(&problem.to_json(&RequestId::new("r-1"))).unwrap();
        assert_eq!(json["type"], "urn:millstream:problem:invalid");
        assert_eq!(json["title"], "Unprocessable Entity");
        assert_eq!((&json["status"], &json["request_id"]), (&422.into(), &"r-1".into()));
        assert_eq!(json["errors"], serde_json::json!([{"path": "/documents/3", "message": "is `null`"}]));
    }
}
