//! Keeps pages of other sites away from an ingress that needs no key: on loopback anybody's browser can reach it, and a page may have
//! made its own name resolve to this machine. With API keys required this is not needed: a page has none.

use std::net::{IpAddr, Ipv4Addr};

use http::header::{HOST, HeaderName, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use millstream_connect::{is_own_host, is_own_origin};

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

#[cfg(test)]
mod tests {
    use super::*;

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
