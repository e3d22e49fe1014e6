//! `cluster status`: the cluster in tables, one of its parts in lines, or either as JSON.

mod describe;
mod tables;

use clap::Args;

use crate::client::Client;
use crate::commands::watch::watch;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;
use crate::table::terminal;

#[cfg(test)]
pub(super) use tables::tests::cluster as example_cluster;
pub(super) use tables::{nodes, num_ready};

/// Flags of `cluster status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// A pipeline (`rag`), a deployment (`rag/embedder`), a replica or a node; the whole cluster without it.
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Show it again at each change, until Ctrl-C.
    #[arg(long, short)]
    watch: bool,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &StatusArgs) -> Result<(), Failure> {
    let output = Output::of(global);
    let mut client = Client::connect(global).await?;
    let width = || terminal().map(|(columns, _)| columns);
    match &args.name {
        None if args.watch => {
            watch(&client, output, |status, screen| {
                screen.show(output, status, || tables::overview(status, width()))
            })
            .await
        }
        None => {
            let status = client.status().await?;
            output.show(&status, || tables::overview(&status, width()))
        }
        Some(name) if args.watch => {
            watch(&client, output, |status, screen| {
                let found = describe::find(status, name)?;
                screen.show(output, &found, || found.text(status, width()))
            })
            .await
        }
        Some(name) => {
            let status = client.status().await?;
            let found = describe::find(&status, name)?;
            output.show(&found, || found.text(&status, width()))
        }
    }
}
