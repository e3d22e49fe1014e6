//! `cluster deploy`: check here, store there, wait until it serves.

use std::time::Duration;

use millstream_proto::v1::DeployResponse;
use millstream_proto::v1::deploy_request::Beside;
use serde_json::json;

use crate::cli::{DeployArgs, Global};
use crate::client::Client;
use crate::commands::{PipelineFile, deploy_plan, read_files};
use crate::exit::Failure;
use crate::{progress, style};

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &DeployArgs) -> Result<(), Failure> {
    let mut files = read_files(&args.files, global)?;
    let beside = match (args.canary, args.shadow) {
        (Some(permille), _) => Some(Beside::CanaryPermille(permille.into())),
        (None, Some(permille)) => Some(Beside::ShadowPermille(permille.into())),
        (None, None) => None,
    };
    files.iter_mut().for_each(|file| file.request.beside = beside);
    let mut client = Client::connect(global).await?;
    if args.dry_run {
        return deploy_plan::run(global, &mut client, files).await;
    }
    let answers = store(&mut client, files).await?;
    if !args.no_wait {
        wait(&mut client, &answers, args.timeout).await?;
    }
    report(global, &answers, args);
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

fn report(global: &Global, answers: &[DeployResponse], args: &DeployArgs) {
    let no_wait = args.no_wait;
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
            (true, false) if args.canary.or(args.shadow).is_some() => {
                "runs beside the one that serves; `cluster rollout promote` or `abort` decides"
            }
            (true, false) => "is ready",
        };
        println!("{} revision {} {}", style::strong(&answer.name), answer.revision, style::good(what));
    }
}
