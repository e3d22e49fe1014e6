//! Keeps pages of other sites away from an ingress that needs no key: on loopback anybody's browser can reach it, and a page may have
//! made its own name resolve to this machine. With API keys required this is not needed: a page has none.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use millstream_connect::{is_own_host, is_own_origin};

use super::state::EntryRules;
use crate::protocol::Problem;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// No other address is this listener's own: it is asked on loopback alone.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Refuses requests to a host that is not this machine, and those that a page of another site makes.
///
/// # Errors
/// 403.
pub(crate) fn check(head: &Parts) -> Result<(), Problem> {
    let text = |name: &HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    // HTTP/2 has the host in the URI. HTTP/1.0 may have none, and no browser speaks that.
    let host = text(&HOST).or_else(|| head.uri.authority().map(Authority::as_str));
    if !host.is_none_or(|host| is_own_host(host, LOOPBACK)) {
        return Err(Problem::forbidden(
            "the `Host` header names another machine; an ingress on loopback that needs no API key answers its own names alone",
        ));
    }
    let is_foreign = match text(&ORIGIN) {
        origin @ Some(_) => !is_own_origin(origin, host),
        None => text(&SEC_FETCH_SITE).is_some_and(|site| matches!(site, "cross-site" | "same-site")),
    };
    if is_foreign {
        return Err(Problem::forbidden(
            "a page of another site may not call an ingress that needs no API key; start it with --require-api-key",
        ));
    }
    Ok(())
}

/// Refuses what a page asks that is not of this machine, not of the address it calls and not of a listed origin. With the name that a
/// page calls it by, the page may have made it up: that counts only where a page would need a key as well.
///
/// # Errors
/// 403.
pub(crate) fn check_origin(head: &Parts, entry: &EntryRules) -> Result<(), Problem> {
    let text = |name: &HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(&HOST).or_else(|| head.uri.authority().map(Authority::as_str));
    let is_known = |origin: &str| {
        let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let is_address = |name: &str| name.parse::<SocketAddr>().is_ok() || name.parse::<IpAddr>().is_ok();
        let is_own = is_own_origin(Some(origin), host) && (entry.require_key || name.is_some_and(is_address));
        is_own
            || name.is_some_and(|name| is_own_host(name, LOOPBACK))
            || entry.mcp_origins.iter().any(|listed| listed.eq_ignore_ascii_case(origin))
    };
    let mut origins = head.headers.get_all(ORIGIN).iter();
    if origins.all(|origin| origin.to_str().is_ok_and(is_known)) {
        return Ok(());
    }
    Err(Problem::forbidden(
        "pages of this `Origin` may not call tools here; `cluster up --mcp-origin` names those that may",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_called_by_known_pages_alone() {
        let keys = |require_key: bool| EntryRules {
            own_site_only: false,
            require_key,
            mcp_origins: vec!["https://agent.example".to_owned()],
        };
        let host = "tools.example:8000";
        let table = [
            (host, None, true, true),
            (host, Some("http://localhost:6274"), true, true),
            (host, Some("http://127.0.0.1"), true, true),
            (host, Some("https://AGENT.example"), true, true),
            (host, Some("http://agent.example"), false, false),
            (host, Some("http://tools.example:8000"), false, true),
            ("10.0.0.7:8000", Some("http://10.0.0.7:8000"), true, true),
            ("10.0.0.7:8000", Some("http://10.0.0.8:8000"), false, false),
            (host, Some("https://evil.example"), false, false),
            (host, Some("http://localhost.evil.example"), false, false),
            (host, Some("null"), false, false),
            (host, Some("file://"), false, false),
            (host, Some(""), false, false),
        ];
        for (host, origin, without_keys, with_keys) in table {
            let mut request = http::Request::builder().header("host", host);
            if let Some(origin) = origin {
                request = request.header("origin", origin);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            let found = [false, true].map(|needed| check_origin(&head, &keys(needed)).is_ok());
            assert_eq!(found, [without_keys, with_keys], "{host} {origin:?}");
        }
    }

    #[test]
    fn only_this_machines_names_and_pages_are_answered() {
        let table = [
            (&[("host", "127.0.0.1:8000")][..], true),
            (&[("host", "localhost:8000")], true),
            (&[("host", "LOCALHOST")], true),
            (&[("host", "[::1]:8000")], true),
            (&[], true),
            (&[("host", "10.0.0.7:8000")], false),
            (&[("host", "rebound.example:8000")], false),
            (&[("host", "127.0.0.1.example")], false),
            (&[("host", "localhost"), ("origin", "http://localhost")], true),
            (&[("host", "localhost:8000"), ("origin", "http://localhost:3000")], false),
            (&[("host", "localhost"), ("origin", "https://evil.example")], false),
            (&[("host", "localhost"), ("origin", "null")], false),
            (&[("host", "localhost"), ("sec-fetch-site", "cross-site")], false),
            (&[("host", "localhost"), ("sec-fetch-site", "none")], true),
            (&[("host", "localhost"), ("sec-fetch-site", "same-origin")], true),
        ];
        for (headers, answered) in table {
            let mut request = http::Request::builder();
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let (head, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(check(&head).is_ok(), answered, "{headers:?}");
        }
    }
}
