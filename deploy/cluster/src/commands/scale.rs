//! `cluster scale`: bounds on a deployment's replicas in place of its file's.

use millstream_proto::v1;
use serde_json::json;

use crate::cli::{Global, ScaleArgs};
use crate::client::Client;
use crate::exit::Failure;

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
    if global.json {
        let answer = json!({"deployment": name, "min_replicas": min_replicas, "max_replicas": max_replicas,
            "changed": changed});
        println!("{answer}");
        return Ok(());
    }
    let replicas = if min_replicas == max_replicas {
        format!("{min_replicas} replica{}", if min_replicas == 1 { "" } else { "s" })
    } else {
        format!("{min_replicas} to {max_replicas} replicas")
    };
    let already = if changed { "" } else { " already" };
    println!("{name} has {replicas}{already}; `cluster scale {name} --reset` goes back to its file");
    Ok(())
}
