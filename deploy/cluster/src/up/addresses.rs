//! Refuses listeners that other machines reach, unless the person accepts what that means, and addresses that are taken.

use std::net::SocketAddr;

use crate::exit::Failure;
use crate::global::Global;
use crate::up::args::{ListenArgs, Role};
use crate::up::port_holder::holder_of;

/// The addresses of the roles that will listen, with their flags.
fn listeners(listen: &ListenArgs, roles: &[Role]) -> Vec<(&'static str, SocketAddr)> {
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
    listeners
}

/// Checks that all addresses are free, and this machine's; names every one that is not, with who has it. One may be taken a moment
/// later all the same, which is told as well.
pub(crate) fn check_free(listen: &ListenArgs, roles: &[Role]) -> Result<(), Failure> {
    let mut bound = Vec::new();
    let mut faults = Vec::new();
    for (flag, address) in listeners(listen, roles) {
        if address.port() == 0 {
            continue;
        }
        match std::net::TcpListener::bind(address) {
            Ok(listener) => bound.push((flag, address, listener)),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let ours = bound.iter().find(|(_, taken, _)| taken.port() == address.port());
                let holder = match ours {
                    Some((other, ..)) => Some(format!("{other} of this command")),
                    None => holder_of(address),
                };
                let holder = holder.unwrap_or_else(|| "a process of another user".to_owned());
                faults.push(format!("{flag} {address} is taken by {holder}"));
            }
            Err(error) => faults.push(format!("{flag} {address} cannot be listened on: {error}")),
        }
    }
    match &faults[..] {
        [] => Ok(()),
        faults => {
            Err(Failure::failed(format!("{}\nstop what is there, or choose others", faults.join("\n"))))
        }
    }
}

/// Checks the addresses of the roles that will listen; names every flag at fault.
pub(crate) fn check(global: &Global, listen: &ListenArgs, roles: &[Role]) -> Result<(), Failure> {
    let open: Vec<String> = listeners(listen, roles)
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
    fn all_addresses_that_are_taken_are_named_at_once() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let line =
            ["cluster", "up", "--ingress", &address, "--control", "127.0.0.1:0", "--dashboard", &address];
        let Command::Up(args) = Cli::try_parse_from(line).unwrap().command else { panic!("up") };
        let failure = check_free(&args.listen, &args.roles()).unwrap_err();
        let text = failure.to_json().unwrap()["error"]["message"].to_string();
        for flag in ["--ingress", "--dashboard"] {
            assert!(
                text.contains(&format!("{flag} {address} is taken by process {}", std::process::id())),
                "{text}"
            );
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
