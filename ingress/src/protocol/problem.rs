//! Errors as clients see them: `application/problem+json` (RFC 9457). The one place where a class becomes a status.

use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use millstream_pipelines::{FieldFault, RequestError};
use millstream_proto::{ErrorClass, RequestId};
use serde::Serialize;

use super::Last;
use crate::model::{Failure, Origin, Refused};

/// Why a request was turned away before it ran.
pub(crate) const REFUSED: HeaderName = HeaderName::from_static("x-millstream-refused");

/// What a client is told to wait when nothing better is known.
const DEFAULT_RETRY_AFTER_S: u32 = 1;

/// [`RETRY_AFTER`] in milliseconds, which clients of OpenAI read first.
pub(crate) const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// A kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// The status.
    pub status: StatusCode,
    /// Last part of the type's URN, `urn:millstream:problem:NAME`.
    pub name: &'static str,
    /// When a client gets it, for people.
    pub help: &'static str,
}

macro_rules! kinds {
    ($($kind:ident = $status:ident $name:literal $help:literal;)*) => {
        $(const $kind: Kind = Kind { status: StatusCode::$status, name: $name, help: $help };)*
        /// All kinds, by status.
        pub const KINDS: &[&Kind] = &[$(&$kind),*];
    };
}

kinds! {
    MALFORMED = BAD_REQUEST "malformed" "The body is not JSON, or a header has a value that it cannot have.";
    UNAUTHORIZED = UNAUTHORIZED "unauthorized" "The API key is unknown, or the ingress requires one and none was sent.";
    FORBIDDEN = FORBIDDEN "forbidden" "A page of another site, or a `Host` that is not this machine, on an ingress on loopback that needs no API key; at `/mcp` every page that is not of this machine, the server or `--mcp-origin`.";
    NOT_FOUND = NOT_FOUND "not-found" "No pipeline has the route or the name, the API key may not call it, or `x-revision` names a revision that takes no requests.";
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED "method-not-allowed" "The path answers other methods; `allow` lists them.";
    SLOW_BODY = REQUEST_TIMEOUT "slow-body" "The body did not arrive in time.";
    CONFLICT = CONFLICT "conflict" "The call was meant for another state of the cluster than the current one.";
    TOO_LARGE = PAYLOAD_TOO_LARGE "too-large" "The body, or a value computed from it, is larger than allowed.";
    URI_TOO_LONG = URI_TOO_LONG "uri-too-long" "The path and query are longer than allowed.";
    UNSUPPORTED_MEDIA_TYPE = UNSUPPORTED_MEDIA_TYPE "unsupported-media-type" "The body is compressed, or `content-type` is missing or not JSON.";
    INVALID = UNPROCESSABLE_ENTITY "invalid" "The body does not fit the pipeline's `[request]`, or a model refuses the input.";
    RATE_LIMITED = TOO_MANY_REQUESTS "rate-limited" "The API key is over its rate, at its concurrency limit or over its limits of tokens.";
    HEADERS_TOO_LARGE = REQUEST_HEADER_FIELDS_TOO_LARGE "headers-too-large" "There are more headers, or longer ones, than allowed.";
    INTERNAL = INTERNAL_SERVER_ERROR "internal" "The server or a model failed.";
    OVERLOADED = SERVICE_UNAVAILABLE "overloaded" "The queue of a deployment is full, or the deadline would pass in it.";
    UNAVAILABLE = SERVICE_UNAVAILABLE "unavailable" "No replica can be reached, the ingress has no routes yet, or it is shutting down.";
    DEADLINE_EXCEEDED = GATEWAY_TIMEOUT "deadline-exceeded" "The deadline of the request has passed.";
}

/// What a failure of that class is for a client.
#[must_use]
pub fn kind_of(class: ErrorClass) -> &'static Kind {
    match class {
        ErrorClass::Malformed => &MALFORMED,
        ErrorClass::TooLarge => &TOO_LARGE,
        ErrorClass::Invalid => &INVALID,
        ErrorClass::NotFound => &NOT_FOUND,
        ErrorClass::Conflict => &CONFLICT,
        ErrorClass::RateLimited => &RATE_LIMITED,
        ErrorClass::Overloaded => &OVERLOADED,
        ErrorClass::Unavailable => &UNAVAILABLE,
        ErrorClass::DeadlineExceeded => &DEADLINE_EXCEEDED,
        // A replica that ends a call nobody cancelled: not the client's doing.
        ErrorClass::Cancelled | ErrorClass::Internal => &INTERNAL,
    }
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    kind: &'static Kind,
    detail: String,
    errors: Vec<FieldFault>,
    retry_after_s: Option<u32>,
    refused: Option<Refused>,
    /// Where it came up, for the log alone.
    origin: Option<Origin>,
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
    fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: None,
            refused: None,
            origin: None,
            allow: None,
            challenges: false,
            ends_connection: false,
        }
    }

    /// 400.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(&MALFORMED, detail)
    }

    /// 400 for a field, by its JSON pointer.
    pub(crate) fn bad_field(path: impl Into<String>, message: impl Into<String>) -> Self {
        let fault = FieldFault { path: path.into(), message: message.into() };
        let detail = "the fields of the request do not fit; see `errors`";
        Self { errors: vec![fault], ..Self::new(&MALFORMED, detail) }
    }

    /// 500.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(&INTERNAL, detail)
    }

    /// 401.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self { challenges: true, ..Self::new(&UNAUTHORIZED, detail) }
    }

    /// 403.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(&FORBIDDEN, detail)
    }

    /// 404.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(&NOT_FOUND, detail)
    }

    /// 404 for what a field names, by its JSON pointer.
    pub(crate) fn no_such(path: impl Into<String>, message: impl Into<String>) -> Self {
        let fault = FieldFault { path: path.into(), message: message.into() };
        Self { errors: vec![fault.clone()], ..Self::new(&NOT_FOUND, fault.message) }
    }

    /// The same, with fields by the names that another API has for them: `[("/messages", "/input")]`.
    pub(crate) fn with_fields_named(mut self, names: &[(&str, &str)]) -> Self {
        for fault in &mut self.errors {
            let renamed = names.iter().find_map(|(ours, theirs)| {
                let rest =
                    fault.path.strip_prefix(ours).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
                Some(format!("{theirs}{rest}"))
            });
            fault.path = renamed.unwrap_or_else(|| std::mem::take(&mut fault.path));
        }
        self
    }

    /// 405.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this path answers {allow}");
        Self { allow: Some(allow), ..Self::new(&METHOD_NOT_ALLOWED, detail) }
    }

    /// 408.
    pub(crate) fn slow_body(detail: impl Into<String>) -> Self {
        Self { ends_connection: true, ..Self::new(&SLOW_BODY, detail) }
    }

    /// 413.
    pub(crate) fn body_too_large(detail: impl Into<String>) -> Self {
        Self { ends_connection: true, ..Self::new(&TOO_LARGE, detail) }
    }

    /// 414.
    pub(crate) fn uri_too_long(detail: impl Into<String>) -> Self {
        Self::new(&URI_TOO_LONG, detail)
    }

    /// 415.
    pub(crate) fn unsupported_media(detail: impl Into<String>) -> Self {
        Self::new(&UNSUPPORTED_MEDIA_TYPE, detail)
    }

    /// 431.
    pub(crate) fn headers_too_large(detail: impl Into<String>) -> Self {
        Self::new(&HEADERS_TOO_LARGE, detail)
    }

    /// 503 while no route is known yet.
    pub(crate) fn starting() -> Self {
        let message = "this ingress is starting and has not heard of any pipeline yet";
        Self::from(Failure::new(ErrorClass::Unavailable, message))
    }

    /// 503 while requests hold as much memory as they may.
    pub(crate) fn out_of_memory() -> Self {
        let message = "the requests under way hold as much memory as they may";
        let refused = Some(Refused::Saturated);
        Self::from(Failure { refused, ..Failure::new(ErrorClass::Overloaded, message) })
    }

    /// 503 while the process finishes what it has.
    pub(crate) fn shutting_down() -> Self {
        let message = "this ingress is shutting down and takes no more requests; send them to another one";
        let refused = Some(Refused::ShuttingDown);
        let failure = Failure { refused, ..Failure::new(ErrorClass::Unavailable, message) };
        Self { ends_connection: true, ..Self::from(failure) }
    }

    /// Whether it was turned away before it ran.
    pub(crate) fn is_refusal(&self) -> bool {
        self.refused.is_some()
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.kind.status
    }

    /// Its name among [`KINDS`].
    pub(crate) fn name(&self) -> &'static str {
        self.kind.name
    }

    /// Whether there is too much to do at this moment.
    pub(crate) fn is_overload(&self) -> bool {
        self.kind == &OVERLOADED
    }

    /// The stage and the replica where it came up.
    pub(crate) fn origin(&self) -> Option<&Origin> {
        self.origin.as_ref()
    }

    /// What is wrong, for the client.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// Its faults, by field.
    pub(crate) fn errors(&self) -> &[FieldFault] {
        &self.errors
    }

    /// All that is wrong, in one text: for APIs whose errors have no place for a list.
    pub(crate) fn text(&self) -> String {
        let fault =
            |fault: &FieldFault| format!("`{}`: {}", fault.path.trim_start_matches('/'), fault.message);
        match &self.errors[..] {
            [] => self.detail.clone(),
            faults => faults.iter().map(fault).collect::<Vec<_>>().join("; "),
        }
    }

    /// An answer with its status and the document of another API.
    pub(crate) fn with_document(&self, document: &serde_json::Value) -> Response<Last> {
        let mut response = Response::new(Last::from(document.to_string().into_bytes()));
        *response.status_mut() = self.status();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    /// The same for an API in which what does not fit is 400, as what a model refuses is too.
    pub(crate) fn with_document_of_400(&self, document: &serde_json::Value) -> Response<Last> {
        let mut response = self.with_document(document);
        if response.status() == StatusCode::UNPROCESSABLE_ENTITY {
            *response.status_mut() = StatusCode::BAD_REQUEST;
        }
        response
    }

    /// The document, as JSON.
    pub(crate) fn to_json(&self, request_id: &RequestId) -> Vec<u8> {
        let document = Document {
            r#type: format!("urn:millstream:problem:{}", self.kind.name),
            title: self.kind.status.canonical_reason().unwrap_or("Error"),
            status: self.kind.status.as_u16(),
            detail: &self.detail,
            request_id,
            errors: &self.errors,
        };
        serde_json::to_vec(&document).expect("a struct of texts and numbers has a JSON form")
    }

    /// The document as an answer.
    pub(crate) fn document(&self, request_id: &RequestId) -> Response<Last> {
        let mut bytes = self.to_json(request_id);
        bytes.push(b'\n');
        let mut response = Response::new(bytes.into());
        *response.status_mut() = self.kind.status;
        let kind = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response
    }

    /// Adds the headers that go with it, whatever the API.
    pub(crate) fn add_headers(&self, headers: &mut HeaderMap, version: Version) {
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(u64::from(seconds) * 1000));
        }
        if let Some(refused) = self.refused {
            headers.insert(REFUSED, HeaderValue::from_static(refused.as_str()));
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
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Malformed { message } => Self::malformed(message),
            RequestError::Invalid(errors) => {
                let detail = "the fields of the request do not fit; see `errors`";
                Self { errors, ..Self::new(&INVALID, detail) }
            }
        }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let kind = kind_of(failure.class);
        let waits = matches!(kind.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let retry_after_s = waits.then(|| failure.retry_after_s.unwrap_or(DEFAULT_RETRY_AFTER_S));
        let Failure { refused, origin, .. } = failure;
        Self { retry_after_s, refused, origin, ..Self::new(kind, failure.message) }
    }
}

/// As much of a client's text as belongs in an answer.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(class: ErrorClass) -> Failure {
        Failure { retry_after_s: Some(7), ..Failure::new(class, "x") }
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
            assert_eq!(
                (problem.status().as_u16(), problem.retry_after_s),
                (status, retry_after_s),
                "{class}"
            );
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
