//! `cluster rollout`: how new revisions take over.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use millstream_proto::status::{ClusterStatus, PipelineStatus, RolloutMode, RolloutPhase, RolloutStatus};
use serde_json::{Value, json};

use crate::client::Client;
use crate::commands::watch::watch;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;
use crate::style;

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
    /// Let the canary or shadow take over.
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
    /// Go back to the revision before, or to the one given.
    Undo {
        /// The pipeline.
        #[arg(value_name = "PIPELINE")]
        name: String,
        /// The revision to go back to.
        #[arg(long, value_name = "REVISION")]
        to: Option<u64>,
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
            let show = |status: &ClusterStatus| {
                let shown = chosen(&status.pipelines, name.as_deref())?;
                output.show_again(&as_json(&shown), || as_text(&shown))
            };
            watch(&client, show).await
        }
        RolloutAction::Promote { name } => {
            let revision = client.promote_rollout(name).await?;
            say(output, name, revision, "is promoted and takes over")
        }
        RolloutAction::Abort { name } => {
            let revision = client.abort_rollout(name).await?;
            say(output, name, revision, "serves; the other is aborted")
        }
        RolloutAction::Undo { name, to } => {
            let revision = client.undo_rollout(name, *to).await?;
            say(output, name, revision, "is wanted again")
        }
    }
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
    if let Some(rollout) = &pipeline.rollout {
        rollout_lines(&mut text, rollout);
    }
    for verdict in &pipeline.verdicts {
        let outcome = verdict.outcome.replace('_', " ");
        let _ =
            writeln!(text, "  revision {} was {}: {}", verdict.revision, style::bad(outcome), verdict.reason);
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
        (RolloutPhase::Moving, _) => "takes over from",
        (RolloutPhase::Watching, _) => "has taken over from",
    };
    let since = humantime::format_duration(Duration::from_secs(rollout.phase_ms / 1000));
    let _ = writeln!(
        text,
        "  revision {revision} {phase} {baseline}, for {since}, with {:.1}% of the requests",
        rollout.traffic_ratio * 100.0
    );
    for (number, counts) in [(revision, &rollout.new), (baseline, &rollout.old)] {
        let _ = writeln!(
            text,
            "    revision {number}: {} requests answered, {} failed; {} calls answered, {} failed",
            counts.requests_answered, counts.requests_failed, counts.calls_answered, counts.calls_failed
        );
    }
    if rollout.mode == RolloutMode::Shadow {
        let _ = writeln!(
            text,
            "    copies of {:.1}% of the requests: {} compared, {} differ, {} failed",
            rollout.shadow_ratio * 100.0,
            rollout.compared,
            rollout.different,
            rollout.shadow_failed
        );
    }
}

#[cfg(test)]
mod tests {
    use millstream_proto::status::{OutcomeCounts, PipelineState, VerdictStatus};

    use super::*;

    #[test]
    fn a_canary_its_outcomes_and_old_verdicts_are_shown() {
        let counts = |requests_answered, requests_failed| OutcomeCounts {
            requests_answered,
            requests_failed,
            calls_answered: requests_answered,
            calls_failed: requests_failed,
        };
        let pipeline = PipelineStatus {
            name: "rag".into(),
            route: None,
            revision: 3,
            newest_revision: 3,
            serving_revision: Some(1),
            state: PipelineState::Ready,
            mismatch: None,
            rollout: Some(RolloutStatus {
                revision: 3,
                baseline: 1,
                phase: RolloutPhase::Trial,
                mode: RolloutMode::Canary,
                traffic_ratio: 0.1,
                shadow_ratio: 0.0,
                phase_ms: 65_000,
                new: counts(10, 1),
                old: counts(99, 0),
                compared: 0,
                different: 0,
                shadow_failed: 0,
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
        insta::assert_snapshot!(render(&pipeline), @r"
        rag revision 3 is wanted, 1 serves
          revision 3 is a canary beside 1, for 1m 5s, with 10.0% of the requests
            revision 3: 10 requests answered, 1 failed; 10 calls answered, 1 failed
            revision 1: 99 requests answered, 0 failed; 99 calls answered, 0 failed
          revision 2 was rolled back: no such model
        ");
    }
}
