//! What `cluster up` tells: where it listens, and a line to paste for each pipeline.

use millstream_pipelines::Plan;
use millstream_proto::status::{ClusterStatus, DeploymentStatus, ReplicaState};
use millstream_proto::v1::StoredPipeline;
use serde_json::json;

use crate::cli::Global;
use crate::data_dir::Endpoints;
use crate::style;

/// A pipeline that people can call.
pub(crate) struct Served {
    name: String,
    route: String,
    example: String,
}

impl Served {
    /// The stored pipeline's route and an example body; `None` without a route, and while no revision of it serves.
    pub(crate) fn of(stored: StoredPipeline, status: &ClusterStatus) -> Option<Self> {
        let pipeline = status.pipelines.iter().find(|pipeline| pipeline.name == stored.name)?;
        let has_replicas = |deployment: &DeploymentStatus| {
            deployment.replicas.iter().any(|replica| replica.state == ReplicaState::Ready)
        };
        if pipeline.serving_revision.is_none() || !pipeline.deployments.iter().all(has_replicas) {
            return None;
        }
        let plan = Plan::compile(&stored.file_name, &stored.source).ok()?;
        Some(Self { name: stored.name, route: plan.route()?.to_owned(), example: plan.example_body() })
    }
}

/// Told as soon as everything listens. On stderr, so that stdout has only what scripts want.
pub(crate) fn listening(global: &Global, endpoints: &Endpoints, joined: Option<&str>) {
    if global.json {
        return;
    }
    match joined {
        Some(head) => eprintln!("node `{}` joins the cluster at {head}", endpoints.node_name),
        None => eprintln!("cluster on node `{}`", endpoints.node_name),
    }
    let lines = [
        ("requests", endpoints.ingress.map(|address| format!("http://{address}"))),
        ("control", joined.is_none().then(|| endpoints.control.clone())),
        ("dashboard", endpoints.dashboard.map(|address| format!("http://{address}"))),
        ("metrics", endpoints.admin.map(|address| format!("http://{address}/metrics"))),
        ("replica traffic", endpoints.worker.map(|address| address.to_string())),
    ];
    for (what, address) in lines {
        if let Some(address) = address {
            eprintln!("  {what:<16}{address}");
        }
    }
}

/// Whether everything that was to start did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All of it.
    Ready,
    /// Some pipelines did not; why is told already.
    Partly,
}

impl Outcome {
    fn last_line(self) -> String {
        let stop = "Ctrl-C drains and stops";
        match self {
            Self::Ready => format!("{}; {stop}", style::good("ready")),
            Self::Partly => {
                format!("{}: mend the rest and `cluster deploy` it; {stop}", style::warn("partly ready"))
            }
        }
    }
}

/// Told once the pipelines serve, or cannot.
pub(crate) fn ready(global: &Global, endpoints: &Endpoints, served: &[Served], outcome: Outcome) {
    if global.json {
        let pipelines: Vec<_> =
            served.iter().map(|pipeline| json!({"name": pipeline.name, "route": pipeline.route})).collect();
        let ready = outcome == Outcome::Ready;
        println!("{}", json!({"endpoints": endpoints, "pipelines": pipelines, "ready": ready}));
        return;
    }
    let Some(ingress) = endpoints.ingress else {
        println!("{}", outcome.last_line());
        return;
    };
    for pipeline in served {
        println!("\n{} serves {}. Try it:\n", style::strong(&pipeline.name), pipeline.route);
        println!(
            "  curl -s http://{ingress}{} -H 'content-type: application/json' -d '{}'",
            pipeline.route,
            pipeline.example.replace('\'', r"'\''")
        );
    }
    println!("\n{}", outcome.last_line());
}
