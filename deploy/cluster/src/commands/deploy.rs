//! `cluster deploy`: check here, store there, wait until it serves.

use std::time::Duration;

use millstream_proto::v1::DeployResponse;
use serde_json::json;

use crate::cli::{DeployArgs, Global};
use crate::client::Client;
use crate::commands::{PipelineFile, read_files};
use crate::exit::Failure;
use crate::{progress, style};

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &DeployArgs) -> Result<(), Failure> {
    let files = read_files(&args.files, global)?;
    let mut client = Client::connect(global).await?;
    let answers = store(&mut client, files).await?;
    if !args.no_wait {
        wait(&mut client, &answers, args.timeout).await?;
    }
    report(global, &answers, args.no_wait);
    Ok(())
}

/// Stores pipelines, in order.
pub(crate) async fn store(
    client: &mut Client,
    files: Vec<PipelineFile>,
) -> Result<Vec<DeployResponse>, Failure> {
    let mut answers = Vec::with_capacity(files.len());
    for file in files {
        answers.push(client.deploy(file.request).await?);
    }
    Ok(answers)
}

/// Waits until the pipelines of these answers serve.
pub(crate) async fn wait(
    client: &mut Client,
    answers: &[DeployResponse],
    timeout: Duration,
) -> Result<(), Failure> {
    let wanted: Vec<_> = answers.iter().map(|answer| (answer.name.clone(), answer.revision)).collect();
    let mut watch = client.watch_status().await?;
    progress::until_ready(&mut watch, &wanted, timeout).await
}

fn report(global: &Global, answers: &[DeployResponse], no_wait: bool) {
    if global.json {
        let pipelines: Vec<_> = answers
            .iter()
            .map(
                |answer| json!({"name": answer.name, "revision": answer.revision, "changed": answer.changed}),
            )
            .collect();
        println!("{}", json!({"pipelines": pipelines, "ready": !no_wait}));
        return;
    }
    for answer in answers {
        let what = match (answer.changed, no_wait) {
            (false, _) => "is unchanged",
            (true, true) => "is stored",
            (true, false) => "is ready",
        };
        println!("{} revision {} {}", style::strong(&answer.name), answer.revision, style::good(what));
    }
}
