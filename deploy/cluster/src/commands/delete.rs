//! `cluster delete`.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use clap::Args;
use serde_json::json;

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;
use crate::style;

/// Flags of `cluster delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Names of pipelines.
    #[arg(value_name = "PIPELINE", required = true)]
    names: Vec<String>,
    /// Do not ask, whatever requests come.
    #[arg(long, short)]
    yes: bool,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &DeleteArgs) -> Result<(), Failure> {
    let output = Output::of(global);
    let mut client = Client::connect(global).await?;
    let is_asked =
        !args.yes && output == Output::Text && io::stdin().is_terminal() && style::stderr_is_terminal();
    if is_asked {
        confirm(&mut client, &args.names).await?;
    }
    for name in &args.names {
        client.delete(name).await?;
        if output == Output::Text {
            output.text(&format!(
                "{name} is deleted; `cluster rollout undo {name}` brings it back, within an hour"
            ))?;
        }
    }
    output.show(&json!({"deleted": args.names}), String::new)
}

/// Asks before what is called is deleted.
async fn confirm(client: &mut Client, names: &[String]) -> Result<(), Failure> {
    let status = client.status().await?;
    let called = status
        .pipelines
        .iter()
        .filter(|pipeline| names.contains(&pipeline.name) && pipeline.traffic.requests_per_second > 0.0);
    let called: Vec<_> = called
        .map(|it| format!("{} gets {:.1} requests/s", it.name, it.traffic.requests_per_second))
        .collect();
    if called.is_empty() {
        return Ok(());
    }
    let _ = write!(io::stderr(), "{}; delete all the same? [y/N] ", called.join(", "));
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(Failure::refused("nothing is deleted")),
    }
}
