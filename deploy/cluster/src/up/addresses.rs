//! Refuses listeners that other machines reach, unless the person accepts what that means.

use std::net::SocketAddr;

use crate::exit::Failure;
use crate::global::Global;
use crate::up::args::{ListenArgs, Role};

/// Checks the addresses of the roles that will listen; names every flag at fault.
pub(crate) fn check(global: &Global, listen: &ListenArgs, roles: &[Role]) -> Result<(), Failure> {
    let mut listeners: Vec<(&str, SocketAddr)> = vec![("--admin", listen.admin)];
    if roles.contains(&Role::Head) {
        listeners.extend([("--control", listen.control), ("--dashboard", listen.dashboard)]);
    }
    if roles.contains(&Role::Worker) {
        listeners.push(("--worker", listen.worker));
    }
    if roles.contains(&Role::Ingress) {
        listeners.push(("--ingress", listen.ingress));
    }
    let open: Vec<String> = listeners
        .into_iter()
        .filter(|(_, address)| !address.ip().is_loopback())
        .map(|(flag, address)| format!("{flag} {address}"))
        .collect();
    if open.is_empty() || global.insecure {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "other machines can reach {}, and there is no TLS: what is said there can be read and changed on the way; listen \
         on 127.0.0.1, or accept the risk with --insecure",
        open.join(" and ")
    )))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn check_line(line: &[&str]) -> bool {
        let cli = Cli::try_parse_from(line).unwrap();
        match cli.command {
            Command::Up(args) => check(&cli.global, &args.listen, &args.roles()).is_ok(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_loopback_is_accepted_unless_asked() {
        assert!(check_line(&["cluster", "up"]));
        assert!(!check_line(&["cluster", "up", "--ingress", "0.0.0.0:8000"]));
        assert!(check_line(&["cluster", "up", "--ingress", "0.0.0.0:8000", "--insecure"]));
        assert!(check_line(&["cluster", "up", "--ingress", "[::1]:8000"]));
        // Every process has an admin address, whatever its roles.
        assert!(!check_line(&["cluster", "up", "--join", "127.0.0.1:1", "--admin", "0.0.0.0:9464"]));
        assert!(check_line(&["cluster", "up", "--admin", "0.0.0.0:9464", "--insecure"]));
        // A role that is not played does not listen.
        assert!(check_line(&["cluster", "up", "--join", "127.0.0.1:1", "--ingress", "0.0.0.0:8000"]));
    }
}
