//! `cluster scale`: bounds on a deployment's replicas in place of its file's.

use clap::Args;
use millstream_proto::v1;
use serde_json::json;

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;

/// Flags of `cluster scale`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct ScaleArgs {
    /// The deployment.
    #[arg(value_name = "PIPELINE/DEPLOYMENT")]
    deployment: String,
    /// Exactly this many replicas: the same as --min N --max N.
    #[arg(long, value_name = "N", group = "what", conflicts_with_all = ["min", "max", "reset"])]
    replicas: Option<u32>,
    /// Fewest replicas; 0 lets it idle to none.
    #[arg(long, value_name = "N", group = "what")]
    min: Option<u32>,
    /// Most replicas.
    #[arg(long, value_name = "N", group = "what")]
    max: Option<u32>,
    /// Go back to what the file says.
    #[arg(long, group = "what", conflicts_with_all = ["min", "max"])]
    reset: bool,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &ScaleArgs) -> Result<(), Failure> {
    let (min_replicas, max_replicas) = (args.replicas.or(args.min), args.replicas.or(args.max));
    if let (Some(min), Some(max)) = (min_replicas, max_replicas)
        && min > max
    {
        return Err(Failure::usage(format!(
            "--min {min} is more than --max {max}; swap them, or make them equal"
        )));
    }
    let mut client = Client::connect(global).await?;
    let deployment = args.deployment.clone();
    let request = v1::ScaleRequest { deployment, min_replicas, max_replicas, reset: args.reset };
    let v1::ScaleResponse { min_replicas, max_replicas, changed } = client.scale(request).await?;
    let name = &args.deployment;
    let answer = json!({"deployment": name, "min_replicas": min_replicas, "max_replicas": max_replicas,
        "changed": changed});
    Output::of(global).show(&answer, || {
        let replicas = match (min_replicas, max_replicas) {
            (1, 1) => "1 replica".to_owned(),
            (min, max) if min == max => format!("{min} replicas"),
            (min, max) => format!("{min} to {max} replicas"),
        };
        let already = if changed { "" } else { " already" };
        let after = match args.reset {
            true => "as its file says".to_owned(),
            false => format!("`cluster scale {name} --reset` goes back to its file"),
        };
        format!("{name} has {replicas}{already}; {after}")
    })
}
