//! What a bundle has from the head that leads.

use std::collections::{BTreeMap, BTreeSet};

use millstream_proto::series::Series;
use millstream_proto::status::{ClusterStatus, PipelineStatus};
use serde_json::{Value, json};

use crate::client::Client;
use crate::debug_bundle::{Bundle, file};
use crate::exit::Failure;

/// Steps of the series, in seconds: as they were recorded, else coarser, where there are too many for one answer.
const STEPS_S: [u32; 2] = [1, 10];

/// Files that only a head has, each with what it is.
const FILES: [(&str, &str); 7] = [
    (file::STATUS, "nodes, devices, pipelines, deployments, replicas, rollouts: `cluster status --json`"),
    (file::EVENTS, "all decisions that are kept: `cluster explain --json`"),
    (file::SERIES, "the last hour in numbers, second by second"),
    (file::TRACES, "where the time of requests went; without their contents"),
    (file::STAGES, "the calls of each stage in the last minute"),
    (file::HEAD, "versions of head and workers, the alarm, routes"),
    (file::REVISIONS, "the kept revisions of each pipeline, and when they were deployed"),
];

fn what(path: &str) -> &'static str {
    FILES.iter().find(|(name, _)| *name == path).map_or("", |(_, what)| what)
}

/// Says of all of them why they could not be had.
pub(super) fn missing(bundle: &mut Bundle, why: &str) {
    FILES.iter().for_each(|(path, _)| bundle.miss(*path, why));
}

/// Takes them.
pub(super) async fn collect(client: &mut Client, bundle: &mut Bundle) {
    let status = client.status().await;
    let pipelines = status.as_ref().map(|status| status.pipelines.clone()).unwrap_or_default();
    let mut add = |path: &str, found: Result<Value, Failure>| bundle.add_json(path, what(path), found);
    add(file::STATUS, status.and_then(|status: ClusterStatus| value(&status)));
    let events = client.explain("").await;
    add(file::EVENTS, events.map(|(events, _)| json!({ "events": events })));
    add(file::SERIES, series(client).await.and_then(|series| value(&series)));
    let traces = client.whole_traces("").await;
    add(file::TRACES, traces.map(|traces| json!({ "traces": traces })));
    add(file::STAGES, stages(client, &pipelines).await);
    add(file::HEAD, client.inspect().await.and_then(|head| value(&head)));
    add(file::REVISIONS, revisions(client, &pipelines).await);
    if bundle.takes_pipelines() {
        for pipeline in &pipelines {
            files(client, pipeline, bundle).await;
        }
    }
}

fn value(document: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(document).map_err(|error| Failure::failed(error.to_string()))
}

async fn series(client: &mut Client) -> Result<Series, Failure> {
    let mut found = client.series(STEPS_S[0]).await;
    for step in &STEPS_S[1..] {
        if found.is_err() {
            found = client.series(*step).await;
        }
    }
    found
}

async fn stages(client: &mut Client, pipelines: &[PipelineStatus]) -> Result<Value, Failure> {
    let mut all = BTreeMap::new();
    for pipeline in pipelines {
        all.insert(pipeline.name.clone(), client.stages(&pipeline.name).await?);
    }
    value(&all)
}

async fn revisions(client: &mut Client, pipelines: &[PipelineStatus]) -> Result<Value, Failure> {
    let mut all = BTreeMap::new();
    for pipeline in pipelines {
        let kept = client.revisions(&pipeline.name).await?.into_iter().map(|kept| {
            json!({
                "revision": kept.revision, "file_name": kept.file_name,
                "deployed_at_ms": kept.deployed_at_ms, "by": kept.by,
            })
        });
        all.insert(pipeline.name.clone(), kept.collect::<Vec<_>>());
    }
    value(&all)
}

/// The files of the revisions that serve, are to serve, or that a rollout may go back to.
async fn files(client: &mut Client, pipeline: &PipelineStatus, bundle: &mut Bundle) {
    let rollout = pipeline.rollout.iter().flat_map(|rollout| [rollout.revision, rollout.baseline]);
    let wanted = pipeline.serving_revision.into_iter().chain([pipeline.revision]).chain(rollout);
    for revision in wanted.collect::<BTreeSet<_>>() {
        let path = file::pipeline(&pipeline.name, revision);
        match client.revision(&pipeline.name, Some(revision)).await {
            Ok(found) => {
                let stored = found.pipeline.unwrap_or_default();
                bundle.add(path, format!("`{}` as deployed", stored.file_name), stored.source.as_bytes());
            }
            Err(failure) => bundle.miss(path, failure.message()),
        }
    }
}
