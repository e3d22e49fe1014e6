//! `cluster down`: every process of the cluster finishes what it has and ends.

use std::time::Duration;

use clap::Args;
use millstream_head::DataDirLock;
use millstream_pipelines::parse_duration;
use serde_json::json;

use crate::client::Client;
use crate::data_dir::DataDir;
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

/// The data directory, if its process belongs to the cluster at that address: another `cluster up` can have it once that is gone.
fn own_dir(global: &Global, address: &str) -> Option<DataDir> {
    let dir = DataDir::of(global).ok()?;
    let endpoints = dir.endpoints().ok()??;
    (endpoints.control == address).then_some(dir)
}

/// Waits until the process that has the directory is gone: its last word to us is not its last.
async fn released(dir: &DataDir) -> Result<(), Failure> {
    let gone = async {
        while DataDirLock::is_held(dir.path()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(GRACE, gone).await;
    waited.map_err(|_| {
        let path = dir.path().display();
        Failure::failed(format!("the cluster has stopped, but its process that has `{path}` has not"))
    })
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &DownArgs) -> Result<(), Failure> {
    let mut client = Client::connect(global).await?;
    let mut watch = client.watch_status().await?;
    let own = own_dir(global, client.address());
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
    if let Some(dir) = own {
        released(&dir).await?;
    }
    Output::of(global).show(&json!({"stopped": true}), || format!("the cluster on {address} has stopped"))
}
