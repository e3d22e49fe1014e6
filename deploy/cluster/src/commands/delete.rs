//! `cluster delete`.

use clap::Args;
use serde_json::json;

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;

/// Flags of `cluster delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Names of pipelines.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &DeleteArgs) -> Result<(), Failure> {
    let output = Output::of(global);
    let mut client = Client::connect(global).await?;
    for name in &args.names {
        client.delete(name).await?;
        if output == Output::Text {
            output.text(&format!("{name} is deleted"))?;
        }
    }
    output.show(&json!({"deleted": args.names}), String::new)
}
