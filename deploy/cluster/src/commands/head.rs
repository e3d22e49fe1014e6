//! `cluster head`: the heads of a cluster, and how another one comes to lead.

use std::time::Duration;

use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::NOTHING;
use millstream_proto::head::HeadStatus;
use serde_json::json;

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;

/// How long another head may take to lead.
const TAKEOVER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often is looked whether one does.
const POLL: Duration = Duration::from_millis(20);

/// Flags of `cluster head`.
#[derive(Debug, Args)]
pub(crate) struct HeadArgs {
    #[command(subcommand)]
    action: HeadAction,
}

/// What can be done about heads.
#[derive(Debug, Subcommand)]
enum HeadAction {
    /// Show the heads, and which of them leads.
    List,
    /// Let another head lead, such as before the machine of the one that leads is stopped. Nothing that serves notices.
    StepDown,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &HeadArgs) -> Result<(), Failure> {
    let output = Output::of(global);
    let mut client = Client::connect(global).await?;
    match args.action {
        HeadAction::List => {
            let heads = client.heads().await?;
            output.show(&json!({"heads": heads}), || table(&heads))
        }
        HeadAction::StepDown => {
            let began = millstream_clock::now();
            let before = client.step_down().await?;
            let status = loop {
                match client.status().await {
                    Ok(status) if status.epoch > before => break status,
                    Err(failure) if millstream_clock::since(began) > TAKEOVER_TIMEOUT => return Err(failure),
                    Ok(_) | Err(_) => tokio::time::sleep(POLL).await,
                }
            };
            let took = millstream_clock::since(began).as_millis();
            let (head, epoch) = (&status.leader, status.epoch);
            output.show(&json!({"head": head, "epoch": epoch, "took_ms": took}), || {
                format!("head `{head}` leads since {took} ms after the order, in epoch {epoch}")
            })
        }
    }
}

fn table(heads: &[HeadStatus]) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["HEAD", "LEADS", "CONTROL", "DASHBOARD"]);
    for head in heads {
        let leads = if head.leads { "yes" } else { "-" };
        table.add_row([&head.name, leads, &head.control, &head.dashboard]);
    }
    table.trim_fmt()
}
