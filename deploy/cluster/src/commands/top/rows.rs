//! The rows of the table: each pipeline, with its deployments below it; which are shown, and in which order.

use std::cmp::Ordering;

use millstream_proto::status::{DeploymentStatus, PipelineState, PipelineStatus, TrafficStatus};

use super::known::Known;
use crate::commands::status::num_ready;

/// A row of the table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    /// `rag` or `rag/embedder`: what `cluster explain` takes.
    pub(super) target: String,
    /// What it shows.
    pub(super) figures: Figures,
}

/// What a row shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Figures {
    /// Of a pipeline.
    Pipeline(PipelineFigures),
    /// Of a deployment.
    Deployment(DeploymentFigures),
}

/// What the row of a pipeline shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PipelineFigures {
    /// Whether it serves.
    pub(super) state: PipelineState,
    /// Its requests of the last minute.
    pub(super) traffic: TrafficStatus,
}

/// What the row of a deployment shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DeploymentFigures {
    /// Its name in its pipeline.
    pub(super) name: String,
    /// Requests at its replicas.
    pub(super) ongoing: u64,
    /// Requests waiting at ingresses.
    pub(super) queued: u64,
    /// Replicas that answer.
    pub(super) ready: u32,
    /// Replicas wanted, as decided.
    pub(super) target_replicas: u32,
    /// Replicas that the requests of this moment ask for.
    pub(super) desired_replicas: u32,
    /// Ongoing requests per replica that the autoscaler aims at.
    pub(super) target_ongoing_requests: f64,
    /// Parts of GPUs that its replicas hold together.
    pub(super) gpu_shares: f64,
}

/// What rows are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    /// Names, a to z.
    Name,
    /// Ongoing requests and those that wait, the most first.
    Ongoing,
    /// Requests a second of pipelines.
    Rate,
    /// p99 of pipelines.
    P99,
    /// Replicas that are ready.
    Replicas,
    /// Shares of GPUs.
    GpuShares,
}

impl Column {
    /// The next one.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Name => Self::Ongoing,
            Self::Ongoing => Self::Rate,
            Self::Rate => Self::P99,
            Self::P99 => Self::Replicas,
            Self::Replicas => Self::GpuShares,
            Self::GpuShares => Self::Name,
        }
    }

    /// Its name, for people.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Ongoing => "ongoing requests",
            Self::Rate => "requests/s",
            Self::P99 => "p99",
            Self::Replicas => "replicas",
            Self::GpuShares => "GPU shares",
        }
    }
}

/// How rows are ordered: pipelines among each other, and the deployments of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    /// By what.
    pub(super) by: Column,
    /// Whether the other way round.
    pub(super) reversed: bool,
}

impl Order {
    /// The order in words, such as `name, z to a`.
    pub(super) fn words(self) -> String {
        let direction = match (self.by, self.reversed) {
            (Column::Name, false) => "a to z",
            (Column::Name, true) => "z to a",
            (_, false) => "most first",
            (_, true) => "least first",
        };
        format!("{}, {direction}", self.by.word())
    }

    fn compare(self, a: &Key, b: &Key) -> Ordering {
        let by_name = a.name.cmp(&b.name);
        match (self.by, self.reversed) {
            (Column::Name, false) => by_name,
            (Column::Name, true) => by_name.reverse(),
            (_, false) => b.value.total_cmp(&a.value).then(by_name),
            (_, true) => a.value.total_cmp(&b.value).then(by_name),
        }
    }
}

/// What a row is ordered by; equal ones by name.
struct Key {
    value: f64,
    name: String,
}

/// The rows whose pipeline or deployment has the filter in its name. A pipeline's row is there when one of its deployments is.
pub(super) fn rows(known: &Known, order: Order, filter: &str) -> Vec<Row> {
    let shares = known.gpu_shares();
    let pipelines = known.status().into_iter().flat_map(|status| &status.pipelines);
    let mut groups: Vec<(Key, Vec<Row>)> = Vec::new();
    for pipeline in pipelines {
        let mut deployments: Vec<_> = pipeline
            .deployments
            .iter()
            .filter(|deployment| deployment.full_name.contains(filter))
            .map(|deployment| {
                let share = shares.get(&*deployment.full_name).copied().unwrap_or(0.0);
                let figures = figures(deployment, share);
                (Key { value: value(order.by, &figures), name: deployment.name.clone() }, figures)
            })
            .collect();
        if deployments.is_empty() && !pipeline.name.contains(filter) {
            continue;
        }
        deployments.sort_by(|(a, _), (b, _)| order.compare(a, b));
        let sum = deployments.iter().map(|(key, _)| key.value).sum();
        let key = Key { value: of_pipeline(order.by, pipeline, sum), name: pipeline.name.clone() };
        let own = PipelineFigures { state: pipeline.state, traffic: pipeline.traffic };
        let own = Row { target: pipeline.name.clone(), figures: Figures::Pipeline(own) };
        let below = deployments.into_iter().map(|(key, figures)| Row {
            target: format!("{}/{}", pipeline.name, key.name),
            figures: Figures::Deployment(figures),
        });
        groups.push((key, std::iter::once(own).chain(below).collect()));
    }
    groups.sort_by(|(a, _), (b, _)| order.compare(a, b));
    groups.into_iter().flat_map(|(_, rows)| rows).collect()
}

fn figures(deployment: &DeploymentStatus, gpu_shares: f64) -> DeploymentFigures {
    DeploymentFigures {
        name: deployment.name.clone(),
        ongoing: deployment.ongoing,
        queued: deployment.queued,
        ready: num_ready(deployment),
        target_replicas: deployment.target_replicas,
        desired_replicas: deployment.autoscaling.desired_replicas,
        target_ongoing_requests: deployment.autoscaling.target_ongoing_requests,
        gpu_shares,
    }
}

/// A deployment's value; nothing where only its pipeline has one.
#[expect(clippy::cast_precision_loss, reason = "to compare counts of requests")]
fn value(by: Column, figures: &DeploymentFigures) -> f64 {
    match by {
        Column::Name | Column::Rate | Column::P99 => 0.0,
        Column::Ongoing => figures.ongoing.saturating_add(figures.queued) as f64,
        Column::Replicas => figures.ready.into(),
        Column::GpuShares => figures.gpu_shares,
    }
}

/// A pipeline's value: its own, or the sum of its deployments'.
fn of_pipeline(by: Column, pipeline: &PipelineStatus, sum: f64) -> f64 {
    match by {
        Column::Rate => pipeline.traffic.requests_per_second,
        Column::P99 => pipeline.traffic.p99_ms.unwrap_or(0.0),
        Column::Name | Column::Ongoing | Column::Replicas | Column::GpuShares => sum,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::cluster;
    use super::*;

    fn targets(by: Column, reversed: bool, filter: &str) -> String {
        let mut known = Known::default();
        known.observe(cluster());
        let rows = rows(&known, Order { by, reversed }, filter);
        rows.into_iter().map(|row| row.target).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pipelines_are_ordered_among_each_other_and_deployments_in_each() {
        for (by, reversed, expected) in [
            (Column::Name, false, "chat chat/model rag rag/embedder rag/reranker"),
            (Column::Name, true, "rag rag/reranker rag/embedder chat chat/model"),
            (Column::Ongoing, false, "rag rag/embedder rag/reranker chat chat/model"),
            (Column::Ongoing, true, "chat chat/model rag rag/reranker rag/embedder"),
            (Column::Rate, false, "rag rag/embedder rag/reranker chat chat/model"),
            (Column::P99, true, "chat chat/model rag rag/embedder rag/reranker"),
            (Column::GpuShares, false, "rag rag/reranker rag/embedder chat chat/model"),
            (Column::Replicas, false, "rag rag/reranker rag/embedder chat chat/model"),
        ] {
            assert_eq!(targets(by, reversed, ""), expected, "{by:?} {reversed}");
        }
    }

    #[test]
    fn a_filter_keeps_deployments_with_their_pipeline() {
        assert_eq!(targets(Column::Name, false, "rank"), "rag rag/reranker");
        assert_eq!(targets(Column::Name, false, "chat"), "chat chat/model");
        assert_eq!(targets(Column::Name, false, "g/e"), "rag rag/embedder");
        assert_eq!(targets(Column::Name, false, "nothing"), "");
    }

    #[test]
    fn all_columns_come_in_turn() {
        let mut column = Column::Name;
        let mut words = Vec::new();
        for _ in 0..6 {
            words.push(column.word());
            column = column.next();
        }
        assert_eq!(column, Column::Name);
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), 6);
        assert_eq!(Order { by: Column::P99, reversed: true }.words(), "p99, least first");
    }
}
