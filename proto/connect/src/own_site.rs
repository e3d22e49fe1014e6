//! Which hosts and pages a listener for people takes for its own. The name of another site may have been made to resolve to this
//! machine, and then a browser sends that site's pages here.

use std::net::IpAddr;

use http::uri::Authority;

/// Whether a `Host` header names a listener that is bound to this address: a loopback name or address, or that one. The name of
/// another site that was made to resolve to this machine does not.
#[must_use]
pub fn is_own_host(host: &str, bound: IpAddr) -> bool {
    let Ok(host) = host.parse::<Authority>() else { return false };
    // A user has no place in `Host`, and what follows the name can only be a port.
    let is_bare = host.as_str().len() == host.host().len();
    if host.as_str().contains('@') || !is_bare && host.port_u16().is_none() {
        return false;
    }
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback() || ip == bound || bound.is_unspecified(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether an `Origin` header, if there is one, is the page that this listener serves itself under that `Host`.
#[must_use]
pub fn is_own_origin(origin: Option<&str>, host: Option<&str>) -> bool {
    let Some(origin) = origin else { return true };
    let name = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    name.zip(host).is_some_and(|(name, host)| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_hosts_and_origins_are_refused() {
        let bound: IpAddr = "10.0.0.5".parse().unwrap();
        for own in
            ["localhost", "LOCALHOST:8265", "127.0.0.1:8265", "127.9.9.9", "[::1]:8265", "10.0.0.5:8265"]
        {
            assert!(is_own_host(own, bound), "{own}");
        }
        for foreign in [
            "evil.example",
            "evil.example:8265",
            "10.0.0.6:8265",
            "localhost.evil.example",
            "",
            "[::2]:1",
            "me@localhost",
            "::1",
            "localhost:x",
            "localhost/",
        ] {
            assert!(!is_own_host(foreign, bound), "{foreign}");
        }
        assert!(is_own_host("10.0.0.6", "0.0.0.0".parse().unwrap()));
        assert!(is_own_origin(None, None));
        let own = Some("localhost:8265");
        assert!(is_own_origin(None, own));
        assert!(is_own_origin(Some("http://localhost:8265"), own));
        assert!(!is_own_origin(Some("http://localhost:8265"), None));
        for foreign in ["null", "http://evil.example", "http://localhost:8000", "localhost:8265"] {
            assert!(!is_own_origin(Some(foreign), own), "{foreign}");
        }
    }
}
