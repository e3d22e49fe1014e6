//! `cluster node`: the machines of the cluster, and how one that is gone for good is taken out of it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::status;
use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;
use crate::table::terminal;

/// Flags of `cluster node`.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    action: NodeAction,
}

/// What can be done about nodes.
#[derive(Debug, Subcommand)]
enum NodeAction {
    /// Show the nodes and their devices.
    List,
    /// Take nodes for gone that are not heard any more: what they had is placed elsewhere at once. A node that comes back
    /// joins as any other.
    Remove {
        /// Names or ids of nodes.
        #[arg(value_name = "NODE", required = true)]
        nodes: Vec<String>,
    },
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &NodeArgs) -> Result<(), Failure> {
    let output = Output::of(global);
    let mut client = Client::connect(global).await?;
    match &args.action {
        NodeAction::List => {
            let nodes = client.status().await?.nodes;
            output.show(&json!({"nodes": nodes}), || {
                status::nodes(&nodes, terminal().map(|(columns, _)| columns)).trim_start().to_owned()
            })
        }
        NodeAction::Remove { nodes } => {
            let mut removed = Vec::new();
            for node in nodes {
                removed.push(client.remove_node(node).await?);
                if output == Output::Text {
                    output.text(&format!("{node} is removed"))?;
                }
            }
            output.show(&json!({"removed": removed}), String::new)
        }
    }
}
