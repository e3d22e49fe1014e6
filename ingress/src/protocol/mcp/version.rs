//! Revisions of the protocol, and what a request has to say of itself in each.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::message::{Request, RpcError};

/// The revision of the request.
pub(crate) const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The method of the request's body, for what stands before the server.
pub(crate) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// The tool that its body names.
pub(crate) const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// The revisions that there are here, oldest first.
pub(super) const VERSIONS: [&str; 4] = ["2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];
/// The newest that begins with `initialize`.
pub(super) const NEWEST_WITH_HANDSHAKE: &str = VERSIONS[2];

/// How a request is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Era {
    /// 2025-03-26: several messages may come at once.
    Batches,
    /// 2025-06-18 and 2025-11-25.
    Handshake,
    /// Since 2026-07-28: a request stands alone.
    Alone,
}

impl Era {
    /// By the header; without it the oldest, as the protocol has it.
    ///
    /// # Errors
    /// For a revision that there is not.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, RpcError> {
        let Some(value) = headers.get(&VERSION) else { return Ok(Self::Batches) };
        let text = String::from_utf8_lossy(value.as_bytes());
        match VERSIONS.iter().position(|version| **version == *text) {
            Some(0) => Ok(Self::Batches),
            Some(1 | 2) => Ok(Self::Handshake),
            Some(_) => Ok(Self::Alone),
            None => Err(RpcError::unsupported_version(&text, &VERSIONS)),
        }
    }
}

/// The revision of a session that asks for this one.
pub(super) fn negotiated(asked: &str) -> &'static str {
    let known = VERSIONS.iter().find(|version| **version == asked && **version <= NEWEST_WITH_HANDSHAKE);
    known.copied().unwrap_or(NEWEST_WITH_HANDSHAKE)
}

#[derive(Deserialize)]
struct Params<'b> {
    #[serde(borrow)]
    name: Option<Cow<'b, str>>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Envelope<'b> {
    #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
    version: Option<Cow<'b, str>>,
    #[serde(borrow, rename = "io.modelcontextprotocol/clientCapabilities")]
    capabilities: Option<&'b RawValue>,
}

/// Whether a request says by its body that it stands alone.
pub(super) fn is_alone(request: &Request) -> bool {
    envelope(request).is_some()
}

/// The tool that a request names, and its revision, where it has all that a request alone must have.
fn envelope(request: &Request) -> Option<(Option<Cow<'_, str>>, Cow<'_, str>)> {
    let Params { name, meta } = serde_json::from_slice(&request.params).ok()?;
    let meta = meta.map(RawValue::get).filter(|meta| meta.starts_with('{'))?;
    let Envelope { version, capabilities } = serde_json::from_str(meta).ok()?;
    Some((name, version.filter(|_| capabilities.is_some())?))
}

/// Whether headers and body of a request that stands alone say the same.
///
/// # Errors
/// What is missing, or does not agree.
pub(super) fn check_alone(headers: &HeaderMap, request: &Request) -> Result<(), RpcError> {
    let Some((name, version)) = envelope(request) else {
        return Err(RpcError::invalid_params(
            "`params._meta` must have `io.modelcontextprotocol/protocolVersion` and `io.modelcontextprotocol/clientCapabilities`",
        ));
    };
    let name = name.filter(|_| request.method == "tools/call");
    let expected = [(&VERSION, Some(version)), (&METHOD, Some(Cow::from(&*request.method))), (&NAME, name)];
    for (header, expected) in expected {
        let mut values = headers.get_all(header).iter();
        let value = values.next().and_then(|value| decoded(value.to_str().ok()?));
        if values.next().is_some() || expected.is_some_and(|expected| value.as_deref() != Some(&*expected)) {
            let text = format!("the header `{header}` must be there once, and say what the body says");
            return Err(RpcError::header_mismatch(text));
        }
    }
    Ok(())
}

/// A value as it is, or from `=?base64?…?=`, in which clients put what headers cannot hold.
fn decoded(value: &str) -> Option<Cow<'_, str>> {
    let packed = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
    let Some(packed) = packed else { return Some(value.into()) };
    Some(String::from_utf8(STANDARD.decode(packed).ok()?).ok()?.into())
}
