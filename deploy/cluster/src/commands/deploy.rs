//! `cluster deploy`: check here, store there, wait until it serves.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use millstream_pipelines::parse_duration;
use millstream_proto::status::{ClusterStatus, RolloutMode};
use millstream_proto::v1::deploy_request::Beside;
use millstream_proto::v1::{DeployedPipeline, StoredPipeline};
use serde_json::json;

use crate::client::Client;
use crate::commands::deploy_plan;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;
use crate::pipeline_file::PipelineFile;
use crate::served::Served;
use crate::{progress, style};

/// Flags of `cluster deploy`.
#[derive(Debug, Args)]
pub(crate) struct DeployArgs {
    /// Pipeline files; a folder stands for its `.toml` files, `-` for standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Return once the cluster has stored the pipelines, before they are ready.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait until they are ready.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
    timeout: Duration,
    /// Give the new revision this part of the requests until `cluster rollout promote` or `abort`.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, conflicts_with = "shadow")]
    canary: Option<u16>,
    /// Give the new revision copies of this part of the requests, whose answers nobody sees but which are compared,
    /// until `cluster rollout promote` or `abort`; of all requests when no percentage is given.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent, num_args = 0..=1, require_equals = true,
        default_missing_value = "100%")]
    shadow: Option<u16>,
    /// Print what would start, stop and change, and change nothing.
    #[arg(long, conflicts_with = "no_wait")]
    dry_run: bool,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &DeployArgs) -> Result<(), Failure> {
    let files = PipelineFile::read_all(&args.files)?;
    let beside = match (args.canary, args.shadow) {
        (Some(permille), _) => Some(Beside::CanaryPermille(permille.into())),
        (None, Some(permille)) => Some(Beside::ShadowPermille(permille.into())),
        (None, None) => None,
    };
    let request = PipelineFile::request(files, beside);
    let mut client = Client::connect(global).await?;
    if args.dry_run {
        return deploy_plan::run(global, &mut client, request).await;
    }
    let answers = client.deploy(request).await?;
    let (status, calls) = if args.no_wait {
        (None, String::new())
    } else {
        wait(&mut client, &answers, args.timeout).await?;
        let status = client.status().await?;
        let calls = calls(&mut client, &answers, &status).await?;
        (Some(status), calls)
    };
    let lines = answers.iter().map(|answer| line(answer, args, status.as_ref()));
    let lines: Vec<_> = lines.collect();
    report(
        global,
        &answers,
        args,
        &format!("{}{}{calls}", lines.join("\n"), if calls.is_empty() { "" } else { "\n" }),
    )
}

/// A line to paste for each of these pipelines that has changed.
async fn calls(
    client: &mut Client,
    answers: &[DeployedPipeline],
    status: &ClusterStatus,
) -> Result<String, Failure> {
    let Some(ingress) = status.ingresses.first().map(|ingress| ingress.entrance.url("")) else {
        return Ok(String::new());
    };
    let has_changed =
        |stored: &StoredPipeline| answers.iter().any(|answer| answer.changed && answer.name == stored.name);
    let stored = client.pipelines().await?.into_iter().filter(has_changed);
    let served = stored.filter_map(|stored| Served::of(stored, status));
    Ok(served.map(|served| served.call(&ingress)).collect())
}

/// Waits until the pipelines of these answers serve.
pub(crate) async fn wait(
    client: &mut Client,
    answers: &[DeployedPipeline],
    timeout: Duration,
) -> Result<(), Failure> {
    let wanted: Vec<_> = answers.iter().map(|answer| (answer.name.clone(), answer.revision)).collect();
    let mut watch = client.watch_status().await?;
    progress::until_ready(&mut watch, &wanted, timeout).await
}

fn report(
    global: &Global,
    answers: &[DeployedPipeline],
    args: &DeployArgs,
    text: &str,
) -> Result<(), Failure> {
    let pipelines = answers
        .iter()
        .map(|answer| json!({"name": answer.name, "revision": answer.revision, "changed": answer.changed}));
    let json = json!({"pipelines": pipelines.collect::<Vec<_>>(), "ready": !args.no_wait});
    Output::of(global).show(&json, || text.to_owned())
}

fn line(answer: &DeployedPipeline, args: &DeployArgs, status: Option<&ClusterStatus>) -> String {
    let pipeline = status.and_then(|status| status.pipelines.iter().find(|it| it.name == answer.name));
    let mode = pipeline.and_then(|pipeline| pipeline.rollout.as_ref()).map(|rollout| rollout.mode);
    let what = match (answer.changed, args.no_wait) {
        (false, _) => "is unchanged",
        (true, true) => "is stored",
        (true, false) if args.canary.or(args.shadow).is_some() => {
            "runs beside the one that serves; `cluster rollout promote` or `abort` decides"
        }
        (true, false) if mode == Some(RolloutMode::Steps) => {
            "takes over by the steps of its file; `cluster rollout status` shows how far it is"
        }
        (true, false) => "is ready",
    };
    format!("{} revision {} {}", style::strong(&answer.name), answer.revision, style::good(what))
}

/// Thousandths out of `10%` or `0.5%`.
pub(super) fn parse_percent(text: &str) -> Result<u16, String> {
    let help = || format!("`{text}` is not a part of the requests; write 0.1% to 100%, such as 10%");
    let number = text.strip_suffix('%').ok_or_else(help)?;
    let percent: f64 = number.trim().parse().map_err(|_| help())?;
    let permille = (percent * 10.0).round();
    if !(1.0..=1000.0).contains(&permille) {
        return Err(help());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 1 to 1000")]
    let permille = permille as u16;
    Ok(permille)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_requests_are_percents() {
        assert_eq!(
            ["10%", "0.1%", "33.3 %", "100%"].map(|text| parse_percent(text).unwrap()),
            [100, 1, 333, 1000]
        );
        for text in ["10", "0%", "100.1%", "-5%", "NaN%", "inf%", "%", ""] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
    }
}
