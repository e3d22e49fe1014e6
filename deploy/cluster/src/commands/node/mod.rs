//! `cluster node`: the machines of the cluster, how one is kept free or emptied, and how one that is gone for good is taken
//! out of it.

mod drain;

use clap::{Args, Subcommand};
use millstream_proto::v1;
use millstream_proto::v1::change_node_request::Change;
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
    /// Place nothing new on nodes; what runs there stays. Ends a drain.
    Cordon {
        /// Names or ids of nodes.
        #[arg(value_name = "NODE", required = true)]
        nodes: Vec<String>,
    },
    /// Let nodes take replicas again. Ends a drain.
    Uncordon {
        /// Names or ids of nodes.
        #[arg(value_name = "NODE", required = true)]
        nodes: Vec<String>,
    },
    /// Move what runs on a node to other nodes, and wait until nothing runs there: each replica is replaced before it stops, and
    /// finishes its calls. What fits nowhere else stays. The node is cordoned from then on.
    Drain(drain::DrainArgs),
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
        NodeAction::Cordon { nodes } => change(&mut client, output, nodes, Change::Cordon).await,
        NodeAction::Uncordon { nodes } => change(&mut client, output, nodes, Change::Uncordon).await,
        NodeAction::Drain(args) => drain::run(&mut client, output, args).await,
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

/// Cordons nodes, or lets them take replicas again.
async fn change(
    client: &mut Client,
    output: Output,
    nodes: &[String],
    change: Change,
) -> Result<(), Failure> {
    let mut done = Vec::new();
    for node in nodes {
        let v1::ChangeNodeResponse { node, changed } = client.change_node(node, change).await?;
        let already = if changed { "" } else { " already" };
        let text = match change {
            Change::Uncordon if changed => format!("{node} takes replicas again"),
            Change::Uncordon => format!("{node} was not cordoned"),
            _ => format!(
                "{node} is cordoned{already}: nothing new is placed there; `cluster node uncordon {node}` takes it back"
            ),
        };
        if output == Output::Text {
            output.text(&text)?;
        }
        done.push(json!({"node": node, "changed": changed}));
    }
    output.show(&json!({"nodes": done}), String::new)
}
