//! `cluster explain`: how something stands and why, and the decisions that led there; as sentences, or as JSON.

mod beside;
mod facts;
mod moves;
mod now;
mod sentences;
mod slow;
mod target;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use millstream_pipelines::{Plan, parse_duration};
use millstream_proto::event::{Decision, Event};
use millstream_proto::status::ClusterStatus;

use self::facts::Now;
use self::now::Known;
use self::target::{Kind, Target};
use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::local_time::local_time;
use crate::output::{Output, note};
use crate::style;

/// Flags of `cluster explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// A pipeline (`rag`), a deployment (`rag/embedder`), a replica or a node; every decision without it.
    #[arg(value_name = "TARGET", default_value = "")]
    target: String,
    /// What TARGET is, where a name is that of two things; without it the first of these that has the name.
    #[arg(long, value_enum, value_name = "KIND", requires = "target")]
    kind: Option<Kind>,
    /// Only what was decided since then.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    since: Option<Duration>,
}

/// Runs the command.
pub(crate) async fn run(global: &Global, args: &ExplainArgs) -> Result<(), Failure> {
    let mut client = Client::connect(global).await?;
    let (events, head_now) = client.explain("").await?;
    // Events carry the head's time, and this machine's clock may show another.
    let head_now = head_now.unwrap_or_else(millstream_clock::system_time);
    let start = args.since.and_then(|since| head_now.checked_sub(since));
    let since = |event: &&Event| start.is_none_or(|start| at(event) >= start);
    let output = Output::of(global);
    if args.target.is_empty() {
        let events: Vec<_> = events.iter().filter(since).collect();
        return output.show(&serde_json::json!({ "events": events }), || lines(&events));
    }
    let status = client.status().await?;
    let (target, others) = target::find(&status, &events, &args.target, args.kind)?;
    for other in others {
        let (name, other) = (&args.target, other.word());
        note(format_args!(
            "`{name}` is also the name of a {other}: `cluster explain {name} --kind {other}` is about that"
        ));
    }
    let known = known(&mut client, &target, events).await;
    let now = Now::of(&target, &args.target, &status, &known);
    let concerned = |event: &&Event| concerns(event, &target, &args.target, &status);
    let events: Vec<_> = known.events.iter().filter(since).filter(concerned).collect();
    output.show(&serde_json::json!({ "now": now, "events": events }), || {
        format!("{}\n\n{}", now.sentences.join("\n"), lines(&events))
    })
}

/// What is known beside the status: of those parts that cannot be had there is less to say.
async fn known(client: &mut Client, target: &Target<'_>, events: Vec<Event>) -> Known {
    let pipeline = match target {
        Target::Pipeline(pipeline) => pipeline.name.as_str(),
        Target::Deployment(deployment) | Target::Replica(deployment, _) => {
            deployment.full_name.split('/').next().unwrap_or_default()
        }
        Target::Node(_) | Target::Gone(_) => return Known { events, ..Known::default() },
    };
    let traces = client.whole_traces(pipeline).await.unwrap_or_default();
    let stages = client.stages(pipeline).await.unwrap_or_default();
    let stored = client.revision(pipeline, None).await.ok().and_then(|found| found.pipeline);
    let plan = stored.and_then(|stored| Plan::compile(&stored.file_name, &stored.source).ok());
    Known { events, traces, stages, plan }
}

/// Whether an event is to be told of a target.
fn concerns(event: &Event, target: &Target<'_>, name: &str, status: &ClusterStatus) -> bool {
    match target {
        Target::Pipeline(_) | Target::Deployment(_) => event.concerns(name),
        Target::Gone(Kind::Pipeline | Kind::Deployment) => event.concerns(name) && event.pipeline.is_some(),
        Target::Replica(_, replica) => event.concerns_replica(name, &replica.node),
        Target::Gone(Kind::Replica) => event.decision.replica() == Some(name),
        Target::Node(node) => {
            let its = |replica: &str| is_on(status, replica, &node.name);
            event.concerns_node(&node.name) || event.decision.replica().is_some_and(its)
        }
        Target::Gone(Kind::Node) => event.concerns_node(name),
    }
}

fn is_on(status: &ClusterStatus, replica: &str, node: &str) -> bool {
    let deployments = status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
    deployments
        .flat_map(|deployment| &deployment.replicas)
        .any(|it| it.id.as_str() == replica && it.node == node)
}

fn lines(events: &[&Event]) -> String {
    match events {
        [] => "nothing was decided about it in that time".to_owned(),
        events => events.iter().map(|event| line(event)).collect::<Vec<_>>().join("\n"),
    }
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
