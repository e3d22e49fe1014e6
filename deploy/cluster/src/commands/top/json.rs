//! The lines of `cluster top --json`.

use millstream_proto::event::Event;
use millstream_proto::summary::Health;
use serde::Serialize;

use super::known::Known;

/// The cluster at a second.
#[derive(Debug, Serialize)]
pub(super) struct Line<'a> {
    /// When it was so by this machine's clock, in milliseconds since the Unix epoch.
    at_ms: u64,
    /// Whether all is well.
    health: Health,
    /// How long the head has not answered; the rest is then as old. Absent while it answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    head_lost_ms: Option<u64>,
    /// All deployments, by name.
    deployments: Vec<DeploymentLine<'a>>,
}

/// A deployment at a second. Rate and latencies are those of its pipeline.
#[derive(Debug, Serialize)]
struct DeploymentLine<'a> {
    deployment: &'a str,
    ongoing: u64,
    queued: u64,
    #[serde(flatten)]
    replicas: Replicas,
    requests_per_second: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    gpu_shares: f64,
    last_decision: Option<&'a Event>,
}

/// Numbers of a deployment's replicas.
#[derive(Debug, Serialize)]
struct Replicas {
    target_replicas: u32,
    desired_replicas: u32,
    ready_replicas: u32,
}

/// What is known at that time; `None` until the head has told its status.
pub(super) fn line(known: &Known, now_ms: u64) -> Option<Line<'_>> {
    let health = known.health()?;
    let shares = known.gpu_shares();
    let deployments = known.deployments().map(|(pipeline, deployment)| DeploymentLine {
        deployment: &deployment.full_name,
        ongoing: deployment.ongoing,
        queued: deployment.queued,
        replicas: Replicas {
            target_replicas: deployment.target_replicas,
            desired_replicas: deployment.autoscaling.desired_replicas,
            ready_replicas: deployment.ready_replicas,
        },
        requests_per_second: pipeline.traffic.requests_per_second,
        p50_ms: pipeline.traffic.p50_ms,
        p99_ms: pipeline.traffic.p99_ms,
        // Shares are booked in thousandths.
        gpu_shares: (shares.get(&*deployment.full_name).copied().unwrap_or(0.0) * 1000.0).round() / 1000.0,
        last_decision: known.last_decision(&deployment.full_name),
    });
    Some(Line {
        at_ms: now_ms,
        health,
        head_lost_ms: known.lost().map(|lost| now_ms.saturating_sub(lost.since_ms)),
        deployments: deployments.collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fixture::{cluster, decisions};
    use super::*;

    #[test]
    fn a_line_has_every_deployment_with_what_was_decided_last() {
        let mut known = Known::default();
        assert!(line(&known, 1).is_none());
        known.observe(cluster());
        known.learn(decisions(), 1);
        let shown = serde_json::to_value(line(&known, 7)).unwrap();
        assert_eq!((&shown["at_ms"], &shown["health"]["state"]), (&json!(7), &json!("degraded")));
        assert_eq!(shown.get("head_lost_ms"), None);
        let mut embedder = shown["deployments"][1].clone();
        assert_eq!(embedder["last_decision"].take()["kind"], "pending");
        let expected = json!({
            "deployment": "rag/embedder", "ongoing": 12, "queued": 3,
            "target_replicas": 2, "desired_replicas": 7, "ready_replicas": 1,
            "requests_per_second": 132.64, "p50_ms": 2.1, "p99_ms": 1250.0,
            "gpu_shares": 0.5, "last_decision": null,
        });
        assert_eq!(embedder, expected);
        known.lose("why".into(), 10);
        assert_eq!(serde_json::to_value(line(&known, 1_510)).unwrap()["head_lost_ms"], 1_500);
    }
}
