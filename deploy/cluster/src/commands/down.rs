//! `cluster down`: every process of the cluster finishes what it has and ends.

use std::time::Duration;

use crate::cli::{DownArgs, Global};
use crate::client::Client;
use crate::exit::Failure;

/// Time that the processes may take beyond the drain.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &DownArgs) -> Result<(), Failure> {
    let mut client = Client::connect(global).await?;
    let mut watch = client.watch_status().await?;
    client.shutdown(args.drain_timeout).await?;
    let gone = async { while matches!(watch.next().await, Ok(Some(_))) {} };
    if tokio::time::timeout(args.drain_timeout + GRACE, gone).await.is_err() {
        return Err(Failure::failed(format!(
            "the cluster on `{}` still runs {} after it was asked to stop",
            client.address(),
            humantime::format_duration(args.drain_timeout + GRACE)
        )));
    }
    if global.json {
        println!("{}", serde_json::json!({"stopped": true}));
    } else {
        println!("the cluster on {} has stopped", client.address());
    }
    Ok(())
}
