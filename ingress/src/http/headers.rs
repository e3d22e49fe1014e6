//! What request headers mean to the edge, as plain functions.

use std::time::Duration;

use http::header::{
    ACCEPT, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderName, RETRY_AFTER, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue};
use millstream_pipelines::parse_duration;
use millstream_proto::RequestId;
use millstream_proto::call::{Priority, TraceContext};
use millstream_proto::endpoint::Header;

use crate::keys::{Allowance, TokenAllowance};
use crate::protocol::Problem;
use crate::protocol::inference::HEADER_LENGTH;
use crate::protocol::mcp;
use crate::protocol::problem::{REFUSED, RETRY_AFTER_MS};
use crate::protocol::sse::ACCEL_BUFFERING;
use crate::routes::split::Asked;

/// The id of a request, accepted or made, and always answered.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// How long a request may take: `250ms`, `2s`, a bare number of seconds.
pub(crate) const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
/// The same, as gRPC's own clients say it: up to eight digits and a unit.
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The revision that a request is to run on (`stable`, `canary` or a number), and in the response the one it ran on.
pub(crate) const REVISION: HeaderName = HeaderName::from_static("x-revision");
/// Requests with one key run on one revision while two take requests.
pub(crate) const STICKY_KEY: HeaderName = HeaderName::from_static("x-sticky-key");
/// Who goes first where requests wait: `high`, `normal` or `low`.
pub(crate) const PRIORITY: HeaderName = HeaderName::from_static("x-priority");
/// The trace that a request belongs to (W3C Trace Context).
pub(crate) const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// What other systems add to it.
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
/// Longest `tracestate` that is passed on, as the specification has it.
const MAX_TRACE_STATE_BYTES: usize = 512;
/// Asks for [`SERVER_TIMING`] in the response.
const WANTS_TIMING: HeaderName = HeaderName::from_static("x-server-timing");
/// Where the time of a request went.
pub(crate) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// `off` keeps a request out of captures.
const CAPTURE: HeaderName = HeaderName::from_static("x-capture");
/// An API key, as an alternative to `authorization: Bearer …`; of both, this one counts.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The same, for clients of Azure.
const AZURE_API_KEY: HeaderName = HeaderName::from_static("api-key");

/// What a key with a rate may still do, as OpenAI's API says it.
const RATE_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit-requests");
const RATE_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining-requests");
const RATE_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset-requests");

/// The same of tokens.
const TOKEN_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const TOKENS_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining-tokens");
const TOKEN_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset-tokens");

/// Adds what the key of a request may still do.
pub(crate) fn add_allowance(headers: &mut HeaderMap, allowance: &Allowance) {
    let Allowance { limit, remaining, reset } = allowance;
    let texts = [
        (RATE_LIMIT, limit.floor().to_string()),
        (RATE_REMAINING, remaining.to_string()),
        (RATE_RESET, format!("{}ms", reset.as_millis())),
    ];
    add(headers, texts);
}

/// Adds how many tokens the key of a request may still use.
pub(crate) fn add_token_allowance(headers: &mut HeaderMap, allowance: &TokenAllowance) {
    let TokenAllowance { limit, remaining, reset } = allowance;
    let texts = [
        (TOKEN_LIMIT, limit.to_string()),
        (TOKENS_REMAINING, remaining.to_string()),
        (TOKEN_RESET, format!("{}ms", reset.as_millis())),
    ];
    add(headers, texts);
}

fn add(headers: &mut HeaderMap, texts: [(HeaderName, String); 3]) {
    for (name, text) in texts {
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(name, value);
        }
    }
}

/// The request headers that the edge reads.
#[must_use]
pub fn request_headers() -> Vec<Header> {
    let rows = [
        (
            CONTENT_TYPE,
            "`application/json` or another JSON type. The Open Inference Protocol also takes `application/octet-stream`, and none.",
        ),
        (
            HEADER_LENGTH,
            "How many bytes of the body are JSON, where the bytes of tensors follow. Only of the Open Inference Protocol.",
        ),
        (ACCEPT, "`text/event-stream` asks for server-sent events, as `\"stream\": true` in the body does."),
        (AUTHORIZATION, "`Bearer KEY`: an API key. Other schemes are ignored."),
        (API_KEY, "An API key. When several of these headers are there, this one counts."),
        (AZURE_API_KEY, "The same, as clients of Azure's OpenAI send it."),
        (
            REQUEST_ID,
            "An id for logs and the response: at most 128 letters, digits and `-_.:/+=@`. Another one is replaced.",
        ),
        (
            REQUEST_TIMEOUT,
            "The deadline: `250ms`, `2s`, `1m`, or a number of seconds; at most 600 s. Without it the pipeline's `timeout`, else 60 s.",
        ),
        (
            GRPC_TIMEOUT,
            "The same, as clients of gRPC send it by themselves: `250m`, `2S`. The shorter one counts.",
        ),
        (PRIORITY, "Who goes first where requests wait: `high`, `normal` or `low`."),
        (REVISION, "The revision to run on: `stable`, `canary` or a number."),
        (STICKY_KEY, "Requests with the same value run on the same revision while two take requests."),
        (
            TRACE_PARENT,
            "The trace that the request belongs to (W3C Trace Context); goes along with its calls, as `tracestate` does.",
        ),
        (WANTS_TIMING, "`1` asks for `server-timing` in the response."),
        (CAPTURE, "`off` keeps the request out of captures (`[capture]`)."),
        (
            mcp::VERSION,
            "The revision of the Model Context Protocol, at `/mcp` alone; without it `2025-03-26`. Others than those there are get 400.",
        ),
        (
            mcp::METHOD,
            "The method of the body. Needed since revision 2026-07-28 of that protocol, as the next; both must agree with the body.",
        ),
        (mcp::NAME, "The tool that the body names."),
    ];
    rows.map(|(name, help)| Header { name: name.to_string(), help }).into()
}

/// The response headers that the edge answers.
#[must_use]
pub fn response_headers() -> Vec<Header> {
    let rows = [
        (
            CONTENT_TYPE,
            "`application/json`, `text/event-stream`, `application/octet-stream` for tensors in binary, or `application/problem+json` for an error.",
        ),
        (
            HEADER_LENGTH,
            "How many bytes of the body are JSON; the bytes of tensors follow. Only of the Open Inference Protocol.",
        ),
        (REQUEST_ID, "The id of the request: its own, or a new one. Every response has it."),
        (REVISION, "The revision that the request ran on."),
        (
            SERVER_TIMING,
            "Where the time went, in milliseconds, when the request asks for it; not for streams.",
        ),
        (
            RATE_LIMIT,
            "Requests that the key may send at once, at this ingress; only for a key with a rate, as the next two.",
        ),
        (RATE_REMAINING, "Those that it may send now."),
        (RATE_RESET, "How long it takes until it may send all of them again, such as `1500ms`."),
        (
            TOKEN_LIMIT,
            "Tokens that the key may use at once, at this ingress, of a minute or of a day, whichever has less left; only for a key with a limit of tokens, as the next two.",
        ),
        (
            TOKENS_REMAINING,
            "Those that it may use now: what requests under way are expected to need is taken off.",
        ),
        (TOKEN_RESET, "How long it takes until it may use all of them again."),
        (
            REFUSED,
            "Why a request was turned away before it ran: `saturated` (the queue or the memory is full), `displaced` (it waited, and one that goes first took its place in the full queue), `late` (its deadline would pass while it waits), `no-replica` (none can start), `quota` (of its key) or `shutting-down` (the process finishes what it has).",
        ),
        (RETRY_AFTER, "Seconds to wait before the next try; with 429 and 503."),
        (RETRY_AFTER_MS, "The same in milliseconds, as clients of OpenAI read it."),
        (ALLOW, "The methods that the path answers; with 405."),
        (WWW_AUTHENTICATE, "`Bearer`; with 401."),
        (CONNECTION, "`close` when the rest of a body was not read; with 408 and 413 over HTTP/1."),
        (CACHE_CONTROL, "`no-cache`; with streams, and with the files of pages."),
        (ACCEL_BUFFERING, "`no`: proxies are asked not to hold events back; with streams."),
        (ETAG, "What a file of a page is known by, for `if-none-match`."),
        (CONTENT_ENCODING, "`gzip`; with the largest of these files."),
        (CONTENT_SECURITY_POLICY, "With pages: nothing from elsewhere, and no scripts inside a page."),
        (X_CONTENT_TYPE_OPTIONS, "`nosniff`; with pages and their files."),
        (VARY, "`accept`; with `/`, which is JSON or a page."),
    ];
    rows.map(|(name, help)| Header { name: name.to_string(), help }).into()
}

/// Longest request id that is accepted.
const MAX_ID_LENGTH: usize = 128;

/// The client's request id if it is harmless in logs and headers, else a new one.
pub(crate) fn request_id(headers: &HeaderMap) -> RequestId {
    match headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|text| is_id(text)) {
        Some(text) => RequestId::new(text),
        None => RequestId::random(),
    }
}

fn is_id(text: &str) -> bool {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte);
    (1..=MAX_ID_LENGTH).contains(&text.len()) && text.bytes().all(harmless)
}

/// What a header says, where it is there.
///
/// # Errors
/// A problem (400) that says what to give when it says something else.
fn parsed<T>(
    headers: &HeaderMap,
    name: &HeaderName,
    parse: impl FnOnce(&str) -> Option<T>,
    give: &str,
) -> Result<Option<T>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    value.to_str().ok().and_then(parse).map(Some).ok_or_else(|| {
        let found = String::from_utf8_lossy(&value.as_bytes()[..value.len().min(40)]);
        Problem::malformed(format!("header `{name}` is `{found}`; give {give}"))
    })
}

/// How long the client gives the request; the shorter time where it says two.
///
/// # Errors
/// A problem (400) when a header is not a positive time.
pub(crate) fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Problem> {
    let give = "a time above zero such as `250ms`, `2s` or `2` (seconds)";
    let own = parsed(headers, &REQUEST_TIMEOUT, |text| parse_timeout(text.trim()), give)?;
    let give = "up to eight digits and one of `H`, `M`, `S`, `m`, `u`, `n`";
    let of_grpc = parsed(headers, &GRPC_TIMEOUT, parse_grpc_timeout, give)?;
    Ok(own.into_iter().chain(of_grpc).min())
}

/// The revision that the client asks for.
///
/// # Errors
/// A problem (400) when the header names none.
pub(crate) fn revision(headers: &HeaderMap) -> Result<Option<Asked>, Problem> {
    parsed(headers, &REVISION, Asked::parse, "`stable`, `canary` or a number")
}

/// The trace that the request belongs to. As the specification has it, what cannot be read is not a trace.
pub(crate) fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    let mut trace = TraceContext::parse(headers.get(TRACE_PARENT)?.to_str().ok()?)?;
    let state = headers.get(TRACE_STATE).and_then(|state| state.to_str().ok());
    trace.state = state.filter(|state| state.len() <= MAX_TRACE_STATE_BYTES).map(Into::into);
    Some(trace)
}

/// The priority that the client asks for.
///
/// # Errors
/// A problem (400) when the header names none.
pub(crate) fn priority(headers: &HeaderMap) -> Result<Option<Priority>, Problem> {
    parsed(headers, &PRIORITY, |name| Priority::from_name(name.trim()), "`high`, `normal` or `low`")
}

/// Whether the client wants to know where the time goes.
pub(crate) fn wants_timing(headers: &HeaderMap) -> bool {
    let off = |value: &http::HeaderValue| matches!(value.as_bytes(), b"0" | b"false" | b"off");
    headers.get(WANTS_TIMING).is_some_and(|value| !off(value))
}

/// Whether the client lets the request be captured.
///
/// # Errors
/// A problem (400) when the header says something else than `on` or `off`: who wants to be left out is told.
pub(crate) fn may_be_captured(headers: &HeaderMap) -> Result<bool, Problem> {
    let word = |text: &str| match text.trim() {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    };
    Ok(parsed(headers, &CAPTURE, word, "`on` or `off`")?.unwrap_or(true))
}

/// The API key that the client shows. Other schemes of `authorization` are not ours and not looked at.
pub(crate) fn secret(headers: &HeaderMap) -> Option<&[u8]> {
    if let Some(key) = headers.get(API_KEY).or_else(|| headers.get(AZURE_API_KEY)) {
        return Some(key.as_bytes().trim_ascii());
    }
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked(b"bearer".len())?;
    let ends = rest.first().is_none_or(u8::is_ascii_whitespace);
    (scheme.eq_ignore_ascii_case(b"bearer") && ends).then(|| rest.trim_ascii())
}

/// A time with its unit; a bare number is seconds.
fn parse_timeout(text: &str) -> Option<Duration> {
    let is_bare = text.ends_with(|last: char| last.is_ascii_digit());
    let timeout = if is_bare { parse_duration(&format!("{text}s")) } else { parse_duration(text) };
    timeout.ok().filter(|timeout| !timeout.is_zero())
}

/// A deadline that is over before the call begins is one all the same.
fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::IntoHeaderName;

    use super::*;

    fn with(name: impl IntoHeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        headers
    }

    #[test]
    fn timeouts_are_times_above_zero() {
        let ms = Duration::from_millis;
        let table = [
            ("250ms", Some(ms(250))),
            ("2s", Some(ms(2000))),
            ("2", Some(ms(2000))),
            ("0.5", Some(ms(500))),
            ("1.5s", Some(ms(1500))),
            ("1m", Some(ms(60_000))),
            (" 3s ", Some(ms(3000))),
        ];
        for (text, expected) in table {
            assert_eq!(timeout(&with(REQUEST_TIMEOUT, text)).ok().flatten(), expected, "{text}");
        }
        for bad in ["", "0", "0ms", "-1", "abc", "1e9", "inf", "NaN", "1..2", "1ms2", "99999999999999999"] {
            let problem = timeout(&with(REQUEST_TIMEOUT, bad)).unwrap_err();
            assert_eq!(problem.status().as_u16(), 400, "{bad}");
        }
        assert_eq!(timeout(&HeaderMap::new()).ok(), Some(None));
    }

    #[test]
    fn deadlines_of_grpc_are_digits_and_a_unit() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("1H", ms(3_600_000)),
            ("2M", ms(120_000)),
            ("99999999S", ms(99_999_999_000)),
            ("250m", ms(250)),
            ("1000u", ms(1)),
            ("0n", ms(0)),
        ] {
            assert_eq!(timeout(&with(GRPC_TIMEOUT, text)).ok().flatten(), Some(expected), "{text}");
        }
        for bad in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "999999999S", "1é", "é"] {
            assert_eq!(timeout(&with(GRPC_TIMEOUT, bad)).unwrap_err().status().as_u16(), 400, "{bad}");
        }
        let mut both = with(GRPC_TIMEOUT, "2S");
        both.insert(REQUEST_TIMEOUT, HeaderValue::from_static("3s"));
        assert_eq!(timeout(&both).ok().flatten(), Some(ms(2000)));
    }

    #[test]
    fn a_client_may_keep_out_of_captures() {
        for (text, expected) in
            [("off", Some(false)), (" off ", Some(false)), ("on", Some(true)), ("no", None)]
        {
            assert_eq!(may_be_captured(&with(CAPTURE, text)).ok(), expected, "{text}");
        }
        assert_eq!(may_be_captured(&HeaderMap::new()).ok(), Some(true));
    }

    #[test]
    fn keys_are_found_in_both_headers() {
        for (text, expected) in [
            ("Bearer mk_a", Some("mk_a")),
            ("bearer   mk_a ", Some("mk_a")),
            ("Bearer", Some("")),
            ("Bearers mk_a", None),
            ("Basic mk_a", None),
            ("mk_a", None),
            ("", None),
        ] {
            assert_eq!(secret(&with("authorization", text)), expected.map(str::as_bytes), "{text}");
        }
        let mut both = with("authorization", "Bearer other");
        both.insert(API_KEY, HeaderValue::from_static(" mk_a"));
        assert_eq!(secret(&both), Some(&b"mk_a"[..]));
        assert_eq!(secret(&with("api-key", "mk_b")), Some(&b"mk_b"[..]), "as clients of Azure send it");
        assert_eq!(secret(&HeaderMap::new()), None);
    }

    #[test]
    fn harmless_ids_are_kept_and_others_replaced() {
        assert_eq!(request_id(&with(REQUEST_ID, "abc-1.2:3")).as_str(), "abc-1.2:3");
        for bad in ["", "a b", "<script>", "é", &"a".repeat(129)] {
            let made = request_id(&with(REQUEST_ID, bad));
            assert_eq!(made.as_str().len(), 32, "{bad}");
        }
        assert_ne!(request_id(&HeaderMap::new()), request_id(&HeaderMap::new()));
    }
}
