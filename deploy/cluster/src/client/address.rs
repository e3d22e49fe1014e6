//! Where the head is, and whether the admin token may go there. There is no TLS: what goes to another machine can be
//! read on the way.

use std::net::IpAddr;

use tonic::transport::Uri;

use crate::data_dir::DataDir;
use crate::exit::Failure;
use crate::global::Global;

/// Where a head listens unless somebody says otherwise.
const DEFAULT_CONTROL: &str = "127.0.0.1:7400";

/// The address of the head that the flags mean.
///
/// # Errors
/// When it is on another machine, and nobody has accepted the risk.
pub(super) fn of(global: &Global, data_dir: &DataDir) -> Result<String, Failure> {
    if let Some(address) = &global.cluster {
        check(address, global)?;
        return Ok(address.clone());
    }
    let Some(endpoints) = data_dir.endpoints()? else { return Ok(DEFAULT_CONTROL.to_owned()) };
    // The process of this data directory listens on this machine, whatever its address.
    if !endpoints.has_head() {
        check(&endpoints.control, global)?;
    }
    Ok(endpoints.control)
}

/// Refuses to send the token in clear to another machine.
pub(crate) fn check(address: &str, global: &Global) -> Result<(), Failure> {
    let not_one = || Failure::usage(format!("`{address}` is not an address; write it as HOST:PORT"));
    let uri: Uri = format!("http://{address}").parse().map_err(|_| not_one())?;
    let host = uri.host().filter(|host| !host.is_empty());
    let (Some(host), Some(port)) = (host, uri.port_u16()) else { return Err(not_one()) };
    if global.insecure || is_this_machine(host) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "there is no TLS, so the admin token would go to `{address}` in clear text; tunnel the port (`ssh -L \
         {port}:{host}:{port} {host}`, then `--cluster 127.0.0.1:{port}`), or accept the risk with --insecure"
    )))
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
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn check_line(address: &str, more: &[&str]) -> Result<(), Failure> {
        let line = ["cluster", "status", "--cluster", address];
        check(address, &Cli::try_parse_from(line.iter().chain(more)).unwrap().global)
    }

    #[test]
    fn the_token_stays_on_this_machine_unless_asked() {
        for own in
            ["127.0.0.1:7400", "127.9.9.9:1", "localhost:7400", "LOCALHOST:1", "[::1]:7400", "0.0.0.0:1"]
        {
            assert!(check_line(own, &[]).is_ok(), "{own}");
        }
        for other in [
            "192.0.2.1:7400",
            "head:7400",
            "localhost.evil.example:7400",
            "127.0.0.1@192.0.2.1:7400",
            "[2001:db8::1]:7400",
            "[::ffff:192.0.2.1]:7400",
        ] {
            let failure = check_line(other, &[]).unwrap_err();
            assert_eq!(failure.code(), 2, "{other}");
            assert!(check_line(other, &["--insecure"]).is_ok(), "{other}");
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused_whatever_is_accepted() {
        for bad in ["127.0.0.1", "a b:1", "", ":7400", "127.0.0.1:port"] {
            assert!(check_line(bad, &["--insecure"]).is_err(), "{bad}");
        }
    }
}
