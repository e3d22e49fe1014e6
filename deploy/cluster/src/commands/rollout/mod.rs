//! `cluster rollout`: how new revisions take over.

mod history;

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use millstream_pipelines::parse_duration;
use millstream_proto::status::{PipelineStatus, RolloutMode, RolloutPhase, RolloutStatus};
use millstream_proto::v1::RolloutResponse;
use serde_json::{Value, json};

use crate::client::Client;
use crate::commands::deploy::parse_percent;
use crate::commands::watch::watch;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::{Output, note};
use crate::words::{self, percent, traffic};
use crate::{progress, style};

/// Flags of `cluster rollout`.
#[derive(Debug, Args)]
pub(crate) struct RolloutArgs {
    /// What to do.
    #[command(subcommand)]
    action: RolloutAction,
}

/// What can be done with rollouts.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutAction {
    /// Show how revisions take over, and why others do not serve.
    Status {
        /// The pipeline; all of them without it.
        #[arg(value_name = "PIPELINE")]
        name: Option<String>,
        /// Show it again at each change, until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// List the revisions that are kept, with what became of them and how much each changed.
    History {
        /// The pipeline.
        #[arg(value_name = "PIPELINE")]
        name: String,
    },
    /// Give the canary or shadow, or a revision on the steps of its file, another part of the requests.
    Set {
        /// The pipeline.
        #[arg(value_name = "PIPELINE")]
        name: String,
        /// The part, such as 60%.
        #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
        percent: u16,
    },
    /// Let the canary or shadow take over, from the part on that it has.
    Promote {
        /// The pipeline.
        #[arg(value_name = "PIPELINE")]
        name: String,
    },
    /// Take back the revision that takes over; the one before serves on.
    Abort {
        /// The pipeline.
        #[arg(value_name = "PIPELINE")]
        name: String,
    },
    /// Go back to the revision before, or to the one given, and wait until it serves. Brings back a pipeline that was deleted within
    /// the last hour.
    Undo {
        /// The pipeline.
        #[arg(value_name = "PIPELINE")]
        name: String,
        /// The revision to go back to.
        #[arg(long, value_name = "REVISION")]
        to: Option<u64>,
        /// Return once the cluster has stored it.
        #[arg(long)]
        no_wait: bool,
        /// How long to wait until it serves.
        #[arg(long, value_name = "TIME", default_value = "5m", value_parser = parse_duration)]
        timeout: Duration,
    },
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &RolloutArgs) -> Result<(), Failure> {
    let output = Output::of(global);
    let mut client = Client::connect(global).await?;
    match &args.action {
        RolloutAction::Status { name, watch: false } => {
            let status = client.status().await?;
            let shown = chosen(&status.pipelines, name.as_deref())?;
            output.show(&as_json(&shown), || as_text(&shown))
        }
        RolloutAction::Status { name, watch: true } => {
            watch(&client, output, |status, screen| {
                let shown = chosen(&status.pipelines, name.as_deref())?;
                screen.show(output, &as_json(&shown), || as_text(&shown))
            })
            .await
        }
        RolloutAction::History { name } => history::run(output, &mut client, name).await,
        RolloutAction::Set { name, percent } => {
            let revision = client.set_rollout(name, *percent).await?;
            let part = words::percent(f64::from(*percent) / 1000.0);
            say(output, name, revision, &format!("gets {part} of the requests once it has replicas for them"))
        }
        RolloutAction::Promote { name } => {
            let revision = client.promote_rollout(name).await?;
            say(output, name, revision, "is promoted and takes over")
        }
        RolloutAction::Abort { name } => {
            let revision = client.abort_rollout(name).await?;
            say(output, name, revision, "serves; the other is aborted")
        }
        RolloutAction::Undo { name, to, no_wait, timeout } => {
            undo(output, &mut client, name, *to, (!no_wait).then_some(*timeout)).await
        }
    }
}

/// Goes back; with a timeout, waits until what it goes back to serves.
async fn undo(
    output: Output,
    client: &mut Client,
    name: &str,
    to: Option<u64>,
    wait: Option<Duration>,
) -> Result<(), Failure> {
    let RolloutResponse { revision, text_of, warning } = client.undo_rollout(name, to).await?;
    if !warning.is_empty() {
        note(format_args!("{} revision {text_of} did not serve before: {warning}", style::error("warning:")));
    }
    if let Some(timeout) = wait {
        let mut status = client.watch_status().await?;
        progress::until_ready(&mut status, &[(name.to_owned(), revision)], timeout).await?;
    }
    let json = json!({"name": name, "revision": revision, "text_of": text_of, "ready": wait.is_some()});
    output.show(&json, || {
        let name = style::strong(name);
        match revision == text_of {
            true => format!("{name} is back to revision {revision}"),
            false => format!("{name} is back to what revision {text_of} was, as revision {revision}"),
        }
    })
}

fn say(output: Output, name: &str, revision: u64, what: &str) -> Result<(), Failure> {
    output.show(&json!({"name": name, "revision": revision}), || {
        format!("{} revision {revision} {}", style::strong(name), style::good(what))
    })
}

/// The pipeline of this name, or all of them.
fn chosen<'a>(
    pipelines: &'a [PipelineStatus],
    name: Option<&str>,
) -> Result<Vec<&'a PipelineStatus>, Failure> {
    let wanted = |pipeline: &&PipelineStatus| name.is_none_or(|name| pipeline.name == name);
    let shown: Vec<_> = pipelines.iter().filter(wanted).collect();
    match (name, &shown[..]) {
        (Some(name), []) => Err(Failure::refused(format!(
            "there is no pipeline `{name}`; `cluster status` lists those there are"
        ))),
        _ => Ok(shown),
    }
}

fn as_json(pipelines: &[&PipelineStatus]) -> Value {
    let of = |pipeline: &&PipelineStatus| {
        json!({
            "name": pipeline.name, "revision": pipeline.revision, "newest_revision": pipeline.newest_revision,
            "serving_revision": pipeline.serving_revision, "rollout": pipeline.rollout, "verdicts": pipeline.verdicts,
        })
    };
    json!({"pipelines": pipelines.iter().map(of).collect::<Vec<_>>()})
}

fn as_text(pipelines: &[&PipelineStatus]) -> String {
    pipelines.iter().map(|pipeline| render(pipeline)).collect()
}

fn render(pipeline: &PipelineStatus) -> String {
    let mut text = String::new();
    let serving = pipeline.serving_revision.map_or_else(|| "none".to_owned(), |serving| serving.to_string());
    let name = style::strong(&pipeline.name);
    let _ = writeln!(text, "{name} revision {} is wanted, {serving} serves", pipeline.revision);
    for line in lines(pipeline).lines() {
        let _ = writeln!(text, "  {line}");
    }
    text
}

/// How a revision takes over, and why others do not serve.
pub(super) fn lines(pipeline: &PipelineStatus) -> String {
    let mut text = String::new();
    if let Some(rollout) = &pipeline.rollout {
        rollout_lines(&mut text, rollout);
    }
    for verdict in &pipeline.verdicts {
        let outcome = verdict.outcome.replace('_', " ");
        let _ =
            writeln!(text, "revision {} was {}: {}", verdict.revision, style::bad(outcome), verdict.reason);
    }
    text
}

fn rollout_lines(text: &mut String, rollout: &RolloutStatus) {
    let RolloutStatus { revision, baseline, .. } = rollout;
    let phase = match (rollout.phase, rollout.mode) {
        (RolloutPhase::Starting, _) => "starts beside",
        (RolloutPhase::Trial, RolloutMode::Rolling) => "is on trial beside",
        (RolloutPhase::Trial, RolloutMode::Canary) => "is a canary beside",
        (RolloutPhase::Trial, RolloutMode::Shadow) => "is a shadow of",
        (RolloutPhase::Trial, RolloutMode::Steps) => "takes over by steps from",
        (RolloutPhase::Moving, _) => "takes over from",
        (RolloutPhase::Watching, _) => "has taken over from",
    };
    let since = humantime::format_duration(Duration::from_secs(rollout.phase_ms / 1000));
    let part = percent(rollout.traffic_ratio);
    let _ =
        writeln!(text, "revision {revision} {phase} {baseline}, for {since}, with {part} of the requests");
    if let Some(next) = &rollout.next_step {
        let after = humantime::format_duration(Duration::from_secs(next.in_ms.div_ceil(1000)));
        let _ = writeln!(text, "  next: {} in {after}", percent(next.traffic_ratio));
    }
    let _ = writeln!(text, "  verdict so far: {}", rollout.judgement);
    for (number, counts) in [(revision, &rollout.new), (baseline, &rollout.old)] {
        let _ = writeln!(
            text,
            "  revision {number}: {}; since the trial began {} requests answered, {} failed, {} calls to replicas failed",
            traffic(&counts.traffic),
            counts.requests_answered,
            counts.requests_failed,
            counts.calls_failed
        );
    }
    if rollout.mode == RolloutMode::Shadow {
        let _ = writeln!(
            text,
            "  copies of {} of the requests: {} compared, {} differ, {} failed",
            percent(rollout.shadow.shadow_ratio),
            rollout.shadow.compared,
            rollout.shadow.different,
            rollout.shadow.shadow_failed
        );
    }
}

#[cfg(test)]
mod tests {
    use millstream_proto::status::{
        NextStepStatus, OutcomeCounts, PipelineState, ShadowStatus, TrafficStatus, VerdictStatus,
    };

    use super::*;

    #[test]
    fn a_canary_its_outcomes_and_old_verdicts_are_shown() {
        let counts = |requests_answered, requests_failed| OutcomeCounts {
            requests_answered,
            requests_failed,
            calls_answered: requests_answered,
            calls_failed: requests_failed,
            traffic: TrafficStatus::default(),
        };
        let pipeline = PipelineStatus {
            name: "rag".into(),
            route: None,
            revision: 3,
            newest_revision: 3,
            serving_revision: Some(1),
            state: PipelineState::Ready,
            mismatch: None,
            traffic: TrafficStatus::default(),
            deployed_at_ms: 0,
            rollout: Some(RolloutStatus {
                revision: 3,
                baseline: 1,
                phase: RolloutPhase::Trial,
                mode: RolloutMode::Steps,
                traffic_ratio: 0.1,
                phase_ms: 65_000,
                next_step: Some(NextStepStatus { traffic_ratio: 0.25, in_ms: 59_001 }),
                judgement: "too few requests to judge by".into(),
                new: OutcomeCounts {
                    traffic: TrafficStatus {
                        requests_per_second: 1.25,
                        failed_ratio: 0.091,
                        p50_ms: Some(4.2),
                        p95_ms: Some(81.0),
                        p99_ms: None,
                    },
                    ..counts(10, 1)
                },
                old: counts(99, 0),
                shadow: ShadowStatus::default(),
            }),
            verdicts: vec![VerdictStatus {
                revision: 2,
                outcome: "rolled_back".into(),
                reason: "no such model".into(),
                at_ms: 1,
            }],
            deployments: vec![],
        };
        owo_colors::set_override(false);
        insta::assert_snapshot!(render(&pipeline));
    }
}
