//! One pipeline, deployment, replica or node, with all that is known of it.

use std::fmt::Write as _;

use bytesize::ByteSize;
use millstream_proto::status::{ClusterStatus, DeploymentStatus, NodeStatus, PipelineStatus, ReplicaStatus};
use serde::Serialize;

use super::tables::{
    deployments, node_state, num_ready, pipeline_state, range, replica_state, replicas, restarts,
};
use crate::commands::rollout;
use crate::exit::Failure;
use crate::style;
use crate::words::{age, cores, traffic};

/// What a name stands for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Found<'a> {
    Pipeline(&'a PipelineStatus),
    Deployment(&'a DeploymentStatus),
    Replica(&'a ReplicaStatus),
    Node(&'a NodeStatus),
}

/// Finds what has that name.
///
/// # Errors
/// When nothing has.
pub(super) fn find<'a>(status: &'a ClusterStatus, name: &str) -> Result<Found<'a>, Failure> {
    let deployments = || status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
    let mut replicas = deployments().flat_map(|deployment| &deployment.replicas);
    let pipeline = status.pipelines.iter().find(|pipeline| pipeline.name == name).map(Found::Pipeline);
    let found = pipeline
        .or_else(|| deployments().find(|it| it.full_name == name).map(Found::Deployment))
        .or_else(|| replicas.find(|it| it.id.as_str() == name).map(Found::Replica))
        .or_else(|| {
            status.nodes.iter().find(|it| it.name == name || it.id.as_str() == name).map(Found::Node)
        });
    found.ok_or_else(|| {
        let names: Vec<_> = status.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
        let there = match &names[..] {
            [] => "nothing is deployed".to_owned(),
            names => format!("the pipelines are {}", names.join(", ")),
        };
        Failure::refused(format!("there is no pipeline, deployment, replica or node `{name}`; {there}"))
    })
}

impl Found<'_> {
    /// It in lines and tables.
    pub(super) fn text(&self, status: &ClusterStatus, width: Option<usize>) -> String {
        match self {
            Self::Pipeline(pipeline) => describe_pipeline(pipeline, status, width),
            Self::Deployment(deployment) => describe_deployment(deployment, width),
            Self::Replica(replica) => describe_replica(replica),
            Self::Node(node) => describe_node(node, status, width),
        }
    }
}

/// Lines of a name and a text; those without a text are left out.
fn facts(title: &str, facts: &[(&str, String)]) -> String {
    let mut text = format!("{}\n", style::strong(title));
    for (name, fact) in facts.iter().filter(|(_, fact)| !fact.is_empty()) {
        let indented = fact.trim_end().replace('\n', "\n              ");
        let _ = writeln!(text, "  {name:<12}{indented}");
    }
    text
}

fn describe_pipeline(pipeline: &PipelineStatus, status: &ClusterStatus, width: Option<usize>) -> String {
    let route = pipeline.route.as_ref().map(|route| {
        let ingresses = status.ingresses.iter().map(|ingress| ingress.entrance.url(route));
        ingresses.collect::<Vec<_>>().join("\n")
    });
    let deployed = format!(
        "revision {}, {} ago; `cluster get {}` shows the file",
        pipeline.revision,
        age(millstream_clock::unix_ms().saturating_sub(pipeline.deployed_at_ms)),
        pipeline.name
    );
    let mut text = facts(
        &format!("pipeline {}", pipeline.name),
        &[
            ("state", pipeline_state(pipeline.state).styled()),
            ("requests to", route.unwrap_or_default()),
            ("deployed", deployed),
            ("traffic", traffic(&pipeline.traffic)),
            ("rollout", rollout::lines(pipeline)),
            ("not serving", pipeline.mismatch.clone().unwrap_or_default()),
        ],
    );
    text += &deployments(pipeline.deployments.iter(), width);
    text += &replicas(pipeline.deployments.iter().flat_map(|deployment| &deployment.replicas), width);
    text
}

fn describe_deployment(deployment: &DeploymentStatus, width: Option<usize>) -> String {
    let scaling = format!(
        "{} ongoing requests a replica are aimed at; the requests of this moment ask for {}",
        deployment.autoscaling.target_ongoing_requests, deployment.autoscaling.desired_replicas
    );
    let restarts = restarts(deployment);
    let text = facts(
        &format!("deployment {}", deployment.full_name),
        &[
            ("model", deployment.model.clone().unwrap_or_default()),
            ("ready", format!("{} of {}", num_ready(deployment), deployment.target_replicas)),
            ("range", range(deployment)),
            ("scaling", scaling),
            ("requests", format!("{} ongoing, {} queued", deployment.ongoing, deployment.queued)),
            ("restarts", if restarts > 0 { restarts.to_string() } else { String::new() }),
            ("no place", deployment.pending.join("\n")),
            (
                "decisions",
                format!("`cluster explain {}` shows them with their reasons", deployment.full_name),
            ),
        ],
    );
    text + &replicas(deployment.replicas.iter(), width)
}

fn describe_replica(replica: &ReplicaStatus) -> String {
    facts(
        &format!("replica {}", replica.id),
        &[
            ("state", replica_state(replica.state).styled()),
            ("node", format!("{}, process {}", replica.node, replica.pid)),
            ("revision", replica.revision.to_string()),
            ("age", age(replica.age_ms)),
            ("ongoing", replica.ongoing.to_string()),
            ("doing", replica.doing.clone()),
            ("error", replica.error.clone()),
            ("restarts", replica.restarts.to_string()),
            ("last error", replica.last_error.clone()),
        ],
    )
}

fn describe_node(node: &NodeStatus, status: &ClusterStatus, width: Option<usize>) -> String {
    let labels: Vec<_> = node.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let gpus = node.gpus.iter().map(|gpu| format!("{} {}: {:.3} free", gpu.index, gpu.model, gpu.free_share));
    let mut text = facts(
        &format!("node {}", node.name),
        &[
            ("state", node_state(node.state).styled()),
            ("heard", format!("{} ago", age(node.last_seen_ms_ago))),
            ("address", format!("{}, process {}", node.address, node.pid)),
            ("id", node.id.to_string()),
            ("labels", labels.join(", ")),
            ("cpu", format!("{} of {} cores free", cores(node.free_cpu_milli), cores(node.cpu_milli))),
            (
                "memory",
                format!("{} of {} free", ByteSize(node.free_memory_bytes), ByteSize(node.memory_bytes)),
            ),
            ("GPUs", gpus.collect::<Vec<_>>().join("\n")),
        ],
    );
    let all = status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
    let here = all.flat_map(|deployment| &deployment.replicas).filter(|replica| replica.node == node.name);
    text += &replicas(here, width);
    text
}

#[cfg(test)]
mod tests {
    use super::super::tables::tests::cluster;
    use super::*;

    #[test]
    fn every_kind_of_thing_is_found_by_its_name() {
        owo_colors::set_override(false);
        let status = cluster();
        let text = |name: &str| find(&status, name).unwrap().text(&status, Some(80));
        insta::assert_snapshot!("pipeline", text("rag"));
        insta::assert_snapshot!("deployment", text("rag/embedder"));
        insta::assert_snapshot!("replica", text("rag-embedder-1"));
        insta::assert_snapshot!("node", text("a"));
        let failure = find(&status, "rga").unwrap_err().to_json().unwrap().to_string();
        assert!(failure.contains("no pipeline, deployment, replica or node `rga`; the pipelines are rag"));
    }
}
