//! `cluster explain`: the last decisions as sentences, or as JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use millstream_pipelines::parse_duration;
use millstream_proto::event::{Decision, Event};

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::local_time::local_time;
use crate::output::Output;
use crate::style;

/// Flags of `cluster explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A deployment (`rag/embedder`) or a pipeline (`rag`); everything without it.
    #[arg(value_name = "TARGET", default_value = "")]
    target: String,
    /// Only what was decided since then.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    since: Option<Duration>,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &ExplainArgs) -> Result<(), Failure> {
    let mut client = Client::connect(global).await?;
    let (mut events, head_now) = client.explain(&args.target).await?;
    if let Some(since) = args.since {
        // Events carry the head's time, and this machine's clock may show another.
        let start = head_now.unwrap_or_else(millstream_clock::system_time).checked_sub(since);
        events.retain(|event| start.is_none_or(|start| at(event) >= start));
    }
    // What is about the whole pipeline or the cluster concerns a target that is a slip of the pen too.
    if events.iter().all(|event| event.subject() != args.target) {
        known(&mut client, &args.target).await?;
    }
    Output::of(global).show(&serde_json::json!({ "events": events }), || match &events[..] {
        [] => "nothing was decided about it in that time".to_owned(),
        events => events.iter().map(line).collect::<Vec<_>>().join("\n"),
    })
}

/// Refuses a target that nothing has the name of.
async fn known(client: &mut Client, target: &str) -> Result<(), Failure> {
    let status = client.status().await?;
    let mut names = Vec::new();
    for pipeline in &status.pipelines {
        names.push(pipeline.name.clone());
        names.extend(pipeline.deployments.iter().map(|deployment| deployment.full_name.clone()));
    }
    if target.is_empty() || names.iter().any(|name| name == target) {
        return Ok(());
    }
    let there = if names.is_empty() {
        "nothing is deployed".into()
    } else {
        format!("there are {}", names.join(", "))
    };
    Err(Failure::refused(format!("there is no pipeline or deployment `{target}`; {there}")))
}

/// When it was decided, by the head's clock.
fn at(event: &Event) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(event.at_ms)).unwrap_or(UNIX_EPOCH)
}

fn line(event: &Event) -> String {
    let at = local_time(event.at_ms);
    let sentence = event.decision.to_string().replace('\n', "\n      ");
    let sentence = match event.decision {
        Decision::RolledBack { .. } | Decision::Evicted { .. } | Decision::Alarm { raised: true } => {
            style::bad(sentence)
        }
        Decision::Pending { .. } | Decision::Shed { .. } | Decision::Aborted { .. } => style::warn(sentence),
        _ => sentence,
    };
    format!("{at}  {}  {sentence}", style::strong(event.subject()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_what_and_why() {
        owo_colors::set_override(false);
        let event = Event {
            sequence: 1,
            at_ms: 1_764_000_000_000,
            pipeline: Some("rag".into()),
            deployment: Some("embedder".into()),
            decision: Decision::Pending { reasons: vec!["a: needs a GPU, has none".into()] },
        };
        let line = line(&event);
        assert!(
            line.ends_with("  rag/embedder  a wanted replica fits nowhere: a: needs a GPU, has none"),
            "{line}"
        );
        assert!(line.starts_with("2025-11-2"), "{line}");
    }
}
