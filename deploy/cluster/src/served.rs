//! What people can call, with a line to paste: said by `cluster up` and by `cluster deploy`.

use millstream_pipelines::Plan;
use millstream_proto::status::{ClusterStatus, DeploymentStatus, ReplicaState};
use millstream_proto::v1::StoredPipeline;

use crate::style;

/// A pipeline that people can call.
pub(crate) struct Served {
    name: String,
    /// Without one its deployments alone are called, by their full names.
    route: Option<String>,
    example: String,
}

impl Served {
    /// The stored pipeline's route and an example body; `None` while no revision of it serves.
    pub(crate) fn of(stored: StoredPipeline, status: &ClusterStatus) -> Option<Self> {
        let pipeline = status.pipelines.iter().find(|pipeline| pipeline.name == stored.name)?;
        let has_replicas = |deployment: &DeploymentStatus| {
            deployment.replicas.iter().any(|replica| replica.state == ReplicaState::Ready)
        };
        if pipeline.serving_revision.is_none() || !pipeline.deployments.iter().all(has_replicas) {
            return None;
        }
        let plan = Plan::compile(&stored.file_name, &stored.source).ok()?;
        Some(Self {
            name: stored.name,
            route: plan.route().map(ToOwned::to_owned),
            example: plan.example_body(),
        })
    }
}

impl Served {
    /// The pipeline's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The path of its requests, if it takes any.
    pub(crate) fn route(&self) -> Option<&str> {
        self.route.as_deref()
    }

    /// A line to paste, for the ingress with that URL.
    pub(crate) fn call(&self, ingress: &str) -> String {
        let Self { name, route, example } = self;
        let (name, example) = (style::strong(name), example.replace('\'', r"'\''"));
        let Some(route) = route else {
            return format!(
                "\n{name} has no route; clients call its deployments by their full names:\n\n  \
                 curl -s {ingress}/v1/models\n"
            );
        };
        format!(
            "\n{name} serves {route}. Try it:\n\n  \
             curl -s {ingress}{route} -H 'content-type: application/json' -d '{example}'\n"
        )
    }
}
