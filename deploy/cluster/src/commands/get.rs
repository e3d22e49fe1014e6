//! `cluster get`: a pipeline's file as it was deployed.

use clap::Args;
use serde_json::json;

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;

/// Flags of `cluster get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// Name of a pipeline.
    #[arg(value_name = "PIPELINE")]
    name: String,
    /// Which of its revisions; the one that is to serve unless given.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    revision: Option<u64>,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &GetArgs) -> Result<(), Failure> {
    let mut client = Client::connect(global).await?;
    let found = client.revision(&args.name, args.revision).await?;
    let pipeline = found.pipeline.unwrap_or_default();
    let json = json!({
        "name": pipeline.name,
        "revision": pipeline.revision,
        "file_name": pipeline.file_name,
        "source_dir": found.source_dir,
        "deployed_at_ms": found.deployed_at_ms,
        "source": pipeline.source,
    });
    Output::of(global).show(&json, || pipeline.source)
}
