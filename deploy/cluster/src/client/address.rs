//! Where the heads are, and whether they may be asked from here. There is no TLS: what goes to another machine can be read
//! on the way, and changed.

use std::net::{IpAddr, UdpSocket};

use millstream_connect::Heads;
use tonic::transport::Uri;

use crate::data_dir::DataDir;
use crate::exit::Failure;
use crate::global::{ClearText, Global};

/// Where a head listens unless somebody says otherwise.
const DEFAULT_CONTROL: &str = "127.0.0.1:7400";

/// The heads that the flags mean.
///
/// # Errors
/// When one is on another machine, and nobody has accepted the risk.
pub(super) fn of(global: &Global, data_dir: &DataDir) -> Result<Heads, Failure> {
    if let Some(heads) = &global.cluster {
        check(heads.addresses(), global.clear_text())?;
        return Ok(heads.clone());
    }
    let endpoints = data_dir.endpoints()?;
    // Whoever names a directory means that one, and not whichever cluster has the usual address.
    if endpoints.is_none() && global.data_dir.is_some() {
        let path = data_dir.path().display();
        return Err(Failure::unreachable(format!(
            "no cluster runs with the data directory `{path}`: there is no `endpoints.json`; start it with `cluster up --data-dir \
             {path}`, or name another with --data-dir or --cluster"
        )));
    }
    let control = endpoints.as_ref().map_or(DEFAULT_CONTROL, |endpoints| &endpoints.control);
    let heads: Heads = control.parse().map_err(|error| {
        Failure::failed(format!("`endpoints.json` in `{}`: {error}", data_dir.path().display()))
    })?;
    // The process of this data directory listens on this machine, whatever its address.
    if endpoints.is_some_and(|endpoints| !endpoints.has_head()) {
        check(heads.addresses(), global.clear_text())?;
    }
    Ok(heads)
}

/// Refuses to talk in clear text to another machine, unless somebody has accepted that.
pub(crate) fn check(addresses: &[String], clear_text: ClearText) -> Result<(), Failure> {
    for address in addresses {
        let uri: Option<Uri> = format!("http://{address}").parse().ok();
        let parts = uri.as_ref().and_then(|uri| Some((uri.host()?, uri.port_u16()?)));
        let Some((host, port)) = parts else {
            return Err(Failure::usage(format!("`{address}` is not an address; write it as HOST:PORT")));
        };
        if clear_text == ClearText::Here && !is_this_machine(host) {
            return Err(Failure::usage(format!(
                "there is no TLS, so all that is said to `{address}` would go there in clear text, and could be \
                 changed on the way; tunnel the port (`ssh -L {port}:{host}:{port} {host}`, then `--cluster \
                 127.0.0.1:{port}`), or accept the risk with --insecure"
            )));
        }
    }
    Ok(())
}

/// The ports of heads on this machine.
pub(crate) fn local_ports(heads: &Heads) -> Vec<u16> {
    let uris = heads.addresses().iter().filter_map(|address| format!("http://{address}").parse::<Uri>().ok());
    let is_here = |host: &str| is_this_machine(host) || has_address(host);
    uris.filter(|uri| uri.host().is_some_and(is_here)).filter_map(|uri| uri.port_u16()).collect()
}

/// Whether this machine has the address: only then can something listen on it.
fn has_address(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    ip.is_ok_and(|ip| UdpSocket::bind((ip, 0)).is_ok())
}

/// Whether what is sent to this host stays on this machine. Names are not looked up: the answer could be another the next
/// time.
fn is_this_machine(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    match literal.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        Ok(ip) => ip.is_loopback() || ip.is_unspecified(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(address: &str, clear_text: ClearText) -> Result<(), Failure> {
        check(&[address.to_owned()], clear_text)
    }

    #[test]
    fn nothing_leaves_this_machine_in_clear_text_unless_asked() {
        for own in
            ["127.0.0.1:7400", "127.9.9.9:1", "localhost:7400", "LOCALHOST:1", "[::1]:7400", "0.0.0.0:1"]
        {
            assert!(check_one(own, ClearText::Here).is_ok(), "{own}");
        }
        for other in [
            "192.0.2.1:7400",
            "head:7400",
            "localhost.evil.example:7400",
            "127.0.0.1@192.0.2.1:7400",
            "[2001:db8::1]:7400",
            "[::ffff:192.0.2.1]:7400",
        ] {
            assert_eq!(check_one(other, ClearText::Here).unwrap_err().code(), 2, "{other}");
            assert!(check_one(other, ClearText::Anywhere).is_ok(), "{other}");
        }
        let both = ["127.0.0.1:1".to_owned(), "192.0.2.1:2".to_owned()];
        assert!(check(&both, ClearText::Here).is_err(), "one of several is enough");
    }

    #[test]
    fn ports_of_this_machine_are_told_from_others() {
        let heads = "127.0.0.1:7400,192.0.2.1:7401,localhost:7402".parse().unwrap();
        assert_eq!(local_ports(&heads), [7400, 7402]);
    }
}
