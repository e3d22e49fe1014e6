//! Refuses listeners that other machines reach, unless the person accepts what that means, and addresses that are taken.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;

use millstream_proto::status::AcceptedRisk;

use crate::exit::Failure;
use crate::global::Global;
use crate::up::args::{ListenArgs, Role, UpArgs};
use crate::up::port_holder::holder_of;

const INGRESS: &str = "--ingress";
/// Accepts what there is no other flag for.
const INSECURE: &str = "--insecure";

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
        listeners.push((INGRESS, listen.ingress));
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

/// What a listener that other machines reach was allowed to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Its flag.
    listener: &'static str,
    address: SocketAddr,
    /// What can go wrong there.
    pub(crate) risk: AcceptedRisk,
    /// The flag that accepts it.
    by: &'static str,
}

impl Display for Accepted {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {} ({})", self.listener, self.address, self.risk, self.by)
    }
}

/// Who may reach this process, and how.
#[derive(Debug, Default)]
pub(crate) struct Exposure {
    /// Whether the ingress asks for API keys.
    pub(crate) require_api_key: bool,
    /// What was accepted for that.
    pub(crate) accepted: Vec<Accepted>,
}

impl Exposure {
    /// What was accepted for the ingress.
    pub(crate) fn of_ingress(&self) -> Vec<AcceptedRisk> {
        self.accepted
            .iter()
            .filter(|accepted| accepted.listener == INGRESS)
            .map(|accepted| accepted.risk)
            .collect()
    }

    /// Writes what was accepted to the log.
    pub(crate) fn warn(&self) {
        for Accepted { listener, address, risk, by } in &self.accepted {
            match risk {
                AcceptedRisk::ClearText => {
                    tracing::warn!(listener, %address, accepted_by = by, "other machines reach a listener in clear text");
                }
                AcceptedRisk::Anonymous => {
                    tracing::warn!(listener, %address, accepted_by = by, "other machines need no API key");
                }
            }
        }
    }
}

/// Checks the addresses of the roles that will listen; names every flag at fault, with the one that accepts it.
pub(crate) fn check(global: &Global, args: &UpArgs, roles: &[Role]) -> Result<Exposure, Failure> {
    let mut exposure = Exposure { require_api_key: args.entrance.require_api_key, accepted: Vec::new() };
    let mut faults = Vec::new();
    let listeners = listeners(&args.listen, roles).into_iter();
    for (listener, address) in listeners.filter(|(_, address)| !address.ip().is_loopback()) {
        let mut accept = |risk, by| exposure.accepted.push(Accepted { listener, address, risk, by });
        if listener == INGRESS {
            let door = &args.entrance;
            // As before there were flags for it: that flag alone lets everybody in.
            let alone = global.insecure && door.tls_cert.is_none() && !door.ingress_clear_text;
            match (&door.tls_cert, door.ingress_clear_text, global.insecure) {
                (Some(_), ..) => {}
                (None, true, _) => accept(AcceptedRisk::ClearText, "--ingress-clear-text"),
                (None, false, true) => accept(AcceptedRisk::ClearText, INSECURE),
                (None, false, false) => faults.push(format!(
                    "  {listener} {address}: give it a certificate with --tls-cert and --tls-key, or accept the risk with \
                     --ingress-clear-text, where a proxy before it speaks TLS"
                )),
            }
            match (door.require_api_key, door.anonymous, alone) {
                (true, ..) => {}
                (false, true, _) => accept(AcceptedRisk::Anonymous, "--anonymous"),
                (false, false, true) => accept(AcceptedRisk::Anonymous, INSECURE),
                (false, false, false) => exposure.require_api_key = true,
            }
        } else if global.insecure {
            accept(AcceptedRisk::ClearText, INSECURE);
        } else {
            faults
                .push(format!("  {listener} {address}: it has no TLS yet; accept the risk with {INSECURE}"));
        }
    }
    match &faults[..] {
        [] => Ok(exposure),
        faults => Err(Failure::usage(format!(
            "other machines can reach this, and what is said there can be read and changed on the way:\n{}\nor listen on \
             127.0.0.1",
            faults.join("\n")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn check_line(line: &str) -> Result<Exposure, String> {
        let cli = Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        let Command::Up(args) = cli.command else { panic!("{line}") };
        let told = |failure: Failure| failure.to_json().unwrap()["error"]["message"].to_string();
        check(&cli.global, &args, &args.roles()).map_err(told)
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
    fn other_machines_are_let_in_as_the_flags_accept() {
        // What is accepted for the ingress, and whether it asks for keys.
        let table = [
            ("", "", false),
            ("--require-api-key", "", true),
            ("--anonymous", "", false),
            ("--ingress [::1]:8000", "", false),
            ("--tls-cert c --tls-key k", "", false),
            ("--ingress 0.0.0.0:8000 --tls-cert c --tls-key k", "", true),
            ("--ingress 0.0.0.0:8000 --tls-cert c --tls-key k --anonymous", "--anonymous", false),
            ("--ingress 0.0.0.0:8000 --tls-cert c --tls-key k --insecure", "", true),
            ("--ingress 0.0.0.0:8000 --ingress-clear-text", "--ingress-clear-text", true),
            ("--ingress 0.0.0.0:8000 --ingress-clear-text --insecure", "--ingress-clear-text", true),
            (
                "--ingress 0.0.0.0:8000 --ingress-clear-text --anonymous",
                "--ingress-clear-text --anonymous",
                false,
            ),
            ("--ingress 0.0.0.0:8000 --insecure", "--insecure --insecure", false),
            ("--ingress 0.0.0.0:8000 --insecure --require-api-key", "--insecure", true),
            ("--admin 0.0.0.0:9464 --insecure", "--insecure", false),
            // A role that is not played does not listen.
            ("--join 127.0.0.1:1 --ingress 0.0.0.0:8000", "", false),
        ];
        for (flags, accepted, asks_for_keys) in table {
            let exposure = check_line(format!("cluster up {flags}").trim()).unwrap();
            let by: Vec<_> = exposure.accepted.iter().map(|accepted| accepted.by).collect();
            assert_eq!((&*by.join(" "), exposure.require_api_key), (accepted, asks_for_keys), "{flags}");
        }
    }

    #[test]
    fn every_flag_at_fault_is_named_with_the_one_that_accepts_it() {
        let told = check_line("cluster up --ingress 0.0.0.0:80 --control 0.0.0.0:81 --worker 0.0.0.0:82")
            .unwrap_err();
        let [ingress, control, worker] =
            ["--ingress 0.0.0.0:80: ", "--control 0.0.0.0:81: ", "--worker 0.0.0.0:82: "]
                .map(|at| told.find(at).unwrap());
        assert!(
            told[ingress..].contains("--tls-cert and --tls-key") && told.contains("--ingress-clear-text"),
            "{told}"
        );
        assert!(told[control..].contains("--insecure") && told[worker..].contains("--insecure"), "{told}");
        assert!(check_line("cluster up --ingress 0.0.0.0:80 --anonymous").is_err(), "it is in clear text");
        // Every process has an admin address, whatever its roles.
        assert!(check_line("cluster up --join 127.0.0.1:1 --admin 0.0.0.0:9464").is_err());
        assert!(check_line("cluster up --admin 0.0.0.0:9464 --tls-cert c --tls-key k").is_err());
    }

    #[test]
    fn flags_that_need_or_exclude_one_another_are_refused() {
        for flags in [
            "--tls-cert c",
            "--tls-key k",
            "--tls-cert c --tls-key k --ingress-clear-text",
            "--anonymous --require-api-key",
        ] {
            assert!(check_line(&format!("cluster up {flags}")).is_err(), "{flags}");
        }
    }
}
