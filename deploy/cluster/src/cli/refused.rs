//! Command lines that cannot be read: what other tools of the field call a command, and the answer in the form that was asked for.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::exit::Failure;

/// Commands that other tools have, and what to type here.
const FOREIGN: &[(&[&str], &str)] = &[
    (&["serve", "start", "run"], "`cluster up FILE` brings up a cluster and serves the pipeline"),
    (&["stop", "shutdown"], "`cluster down` stops the cluster"),
    (&["apply", "create", "update"], "`cluster deploy FILE` deploys a pipeline, or its next revision"),
    (&["rm", "remove", "destroy", "undeploy"], "`cluster delete NAME` removes a pipeline"),
    (&["rollback", "undo"], "`cluster rollout undo NAME` goes back to the revision before"),
    (
        &["logs", "log"],
        "a process logs on its own stderr; `cluster up --log info` and `--access-log` log more",
    ),
    (&["events", "why"], "`cluster explain NAME` shows each decision and its reason"),
    (
        &["support", "diagnose", "dump", "bundle"],
        "`cluster debug bundle` writes all that is known into one file",
    ),
    (&["init", "new"], "a pipeline is one TOML file: begin with an example of `pipelines/examples`"),
    (&["htop", "monitor", "watch"], "`cluster top` shows deployments live"),
    (&["nodes"], "`cluster node list` lists the nodes"),
    (&["lint", "check"], "`cluster validate FILE` checks pipeline files"),
];

/// What a command line that cannot be read is answered with; `None` for help and version, which are no failures.
pub(crate) fn failure(error: &clap::Error) -> Option<Failure> {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        return None;
    }
    let text = tip(error).unwrap_or_else(|| {
        let mut text = error.render().to_string();
        // What stands in the environment is shown as if it had to be written.
        for from_environment in ["--cluster <HOST:PORT,…> ", "--data-dir <DIR> ", "--log <FILTER> "] {
            text = text.replace(from_environment, "");
        }
        text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
    });
    Some(Failure::usage(text))
}

fn tip(error: &clap::Error) -> Option<String> {
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let word = word(ContextKind::InvalidSubcommand)?;
            let (_, tip) = FOREIGN.iter().find(|(words, _)| words.contains(&word))?;
            Some(format!("there is no command `{word}`: {tip}"))
        }
        ErrorKind::UnknownArgument if word(ContextKind::InvalidArg) == Some("--port") => {
            Some("there is no `--port`: `--ingress 9000` is where requests come in".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::*;
    use crate::cli::Cli;

    fn refused(line: &[&str]) -> Option<String> {
        let error = Cli::try_parse_from(line).unwrap_err();
        failure(&error)
            .map(|failure| failure.to_json().unwrap()["error"]["message"].as_str().unwrap().to_owned())
    }

    #[test]
    fn commands_of_other_tools_lead_to_those_there_are() {
        assert!(refused(&["cluster", "logs"]).unwrap().contains("logs on its own stderr"));
        assert!(refused(&["cluster", "up", "--port", "9000"]).unwrap().contains("--ingress 9000"));
        assert!(refused(&["cluster", "stattus"]).unwrap().contains("'status'"));
        assert_eq!(refused(&["cluster", "--help"]), None);
        let cli = Cli::command();
        for word in FOREIGN.iter().flat_map(|(words, _)| *words) {
            assert!(cli.find_subcommand(word).is_none(), "`{word}` is a command");
        }
    }
}
