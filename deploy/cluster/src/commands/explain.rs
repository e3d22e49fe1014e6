//! `cluster explain`: the last decisions as sentences, or as JSON.

use std::time::{Duration, UNIX_EPOCH};

use millstream_proto::event::{Decision, Event};

use crate::cli::{ExplainArgs, Global};
use crate::client::Client;
use crate::exit::Failure;
use crate::{clock, style};

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &ExplainArgs) -> Result<(), Failure> {
    let mut client = Client::connect(global).await?;
    let since = args.since.map_or(Duration::ZERO, |since| clock::since_epoch().saturating_sub(since));
    let events = client.explain(&args.target, u64::try_from(since.as_millis()).unwrap_or(u64::MAX)).await?;
    // What is about the whole pipeline or the cluster concerns a target that is a slip of the pen too.
    if events.iter().all(|event| event.subject() != args.target) {
        known(&mut client, &args.target).await?;
    }
    if global.json {
        println!("{}", serde_json::json!({ "events": events }));
    } else if events.is_empty() {
        println!("nothing was decided about it in that time");
    } else {
        events.iter().for_each(|event| println!("{}", line(event)));
    }
    Ok(())
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

fn line(event: &Event) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(event.at_ms);
    let at = humantime::format_rfc3339_seconds(at);
    let sentence = event.decision.to_string();
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
        assert_eq!(
            line(&event),
            "2025-11-24T16:00:00Z  rag/embedder  a wanted replica fits nowhere: a: needs a GPU, has none"
        );
    }
}
