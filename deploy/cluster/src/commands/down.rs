//! `cluster down`: every process of the cluster finishes what it has and ends.

use std::time::Duration;

use clap::Args;
use millstream_pipelines::parse_duration;
use serde_json::json;

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;

/// Time that the processes may take beyond the drain.
const GRACE: Duration = Duration::from_secs(10);

/// Flags of `cluster down`.
#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// How long requests under way may take.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse_duration)]
    drain_timeout: Duration,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &DownArgs) -> Result<(), Failure> {
    let mut client = Client::connect(global).await?;
    let mut watch = client.watch_status().await?;
    client.shutdown(args.drain_timeout).await?;
    let address = client.address();
    let limit = args.drain_timeout + GRACE;
    let stopped = async {
        while watch.next().await?.is_some() {}
        Ok::<_, Failure>(())
    };
    match tokio::time::timeout(limit, stopped).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => {
            return Err(failure.and("it was asked to stop; whether all of it has, is not known"));
        }
        Err(_) => {
            return Err(Failure::failed(format!(
                "the cluster on `{address}` still runs {} after it was asked to stop",
                humantime::format_duration(limit)
            )));
        }
    }
    Output::of(global).show(&json!({"stopped": true}), || format!("the cluster on {address} has stopped"))
}
