//! What a head orders and what it is told, as domain types: decoded from and encoded to the messages of `node.proto`
//! here and nowhere else.

use std::path::PathBuf;
use std::sync::Arc;

use millstream_engine::{GpuShare, LoadedModel};
use millstream_pipelines::types::ModelSignature;
use millstream_pipelines::{DeploymentSpec, PortType};
use millstream_proto::status::ReplicaState;
use millstream_proto::{ReplicaId, v1};

/// A replica that the head wants here.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// The replica.
    pub id: ReplicaId,
    /// Its pipeline's name.
    pub pipeline: String,
    /// Its deployment's name in the pipeline.
    pub deployment: String,
    /// The revision that it serves.
    pub revision: u64,
    /// The deployment's settings.
    pub spec: DeploymentSpec,
    /// What relative `file:` models are relative to; may be empty.
    pub source_dir: PathBuf,
    /// The parts of devices that it may use.
    pub gpus: Vec<GpuShare>,
}

/// An order that cannot be read: head and worker are of versions that do not fit.
#[derive(Debug, thiserror::Error)]
#[error(
    "the head's settings of deployment `{deployment}` cannot be read: {source}; run the same version of `cluster` on \
     head and worker"
)]
pub struct OrderError {
    deployment: String,
    source: serde_json::Error,
}

impl TryFrom<v1::StartReplica> for Order {
    type Error = OrderError;

    fn try_from(start: v1::StartReplica) -> Result<Self, OrderError> {
        let spec = serde_json::from_str(&start.spec_json)
            .map_err(|source| OrderError { deployment: start.deployment.clone(), source })?;
        Ok(Self {
            id: ReplicaId::from(start.replica_id),
            pipeline: start.pipeline,
            deployment: start.deployment,
            revision: start.revision,
            spec,
            source_dir: start.source_dir.into(),
            gpus: start.gpus.iter().map(|gpu| GpuShare { index: gpu.index, milli: gpu.milli }).collect(),
        })
    }
}

impl Order {
    /// `pipeline/deployment`.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.pipeline, self.deployment)
    }
}

/// A replica as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// What was ordered.
    pub order: Arc<Order>,
    /// Where it is in its life.
    pub state: ReplicaState,
    /// What it is doing, for people.
    pub doing: String,
    /// Why it failed, for operators.
    pub error: String,
    /// How often it was started again.
    pub restarts: u32,
    /// Whether its model cannot be loaded as long as its files are what they are.
    pub is_unloadable: bool,
    /// What it has loaded.
    pub model: LoadedModel,
}

impl From<&Report> for v1::ReplicaReport {
    fn from(report: &Report) -> Self {
        let order = &report.order;
        Self {
            replica_id: order.id.to_string(),
            pipeline: order.pipeline.clone(),
            deployment: order.deployment.clone(),
            revision: order.revision,
            state: v1::ReplicaState::from(report.state).into(),
            doing: report.doing.clone(),
            error: report.error.clone(),
            pid: std::process::id(),
            restarts: report.restarts,
            is_unloadable: report.is_unloadable,
            gpus: order.gpus.iter().map(|gpu| v1::GpuShare { index: gpu.index, milli: gpu.milli }).collect(),
            memory_bytes: report.model.memory_bytes,
            signature: report.model.signature.as_deref().map(signature),
        }
    }
}

fn signature(signature: &ModelSignature) -> v1::ModelSignature {
    let port = |(name, ty): (&String, &PortType)| v1::ModelPort {
        name: name.clone(),
        dtype: ty.element.as_str().to_owned(),
        shape: ty
            .shape
            .iter()
            .map(|size| size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1))
            .collect(),
    };
    v1::ModelSignature {
        inputs: signature.inputs.iter().map(port).collect(),
        outputs: signature.outputs.iter().map(port).collect(),
    }
}

/// The report of a replica that is not here.
pub(crate) fn unknown(id: &ReplicaId) -> v1::ReplicaReport {
    v1::ReplicaReport {
        replica_id: id.to_string(),
        state: v1::ReplicaState::Stopped.into(),
        pid: std::process::id(),
        ..v1::ReplicaReport::default()
    }
}

/// The report of an order that cannot be carried out.
pub(crate) fn unreadable(start: &v1::StartReplica, error: &OrderError) -> v1::ReplicaReport {
    v1::ReplicaReport {
        replica_id: start.replica_id.clone(),
        pipeline: start.pipeline.clone(),
        deployment: start.deployment.clone(),
        revision: start.revision,
        state: v1::ReplicaState::Failed.into(),
        error: error.to_string(),
        pid: std::process::id(),
        gpus: start.gpus.clone(),
        ..v1::ReplicaReport::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn an_order_survives_the_wire_and_a_report_says_what_it_was() {
        let start = testing::start("rag-embedder-1", &testing::echo_spec("embedder"));
        let order = Order::try_from(start.clone()).unwrap();
        assert_eq!(order.spec, testing::echo_spec("embedder"));
        let report = Report {
            order: Arc::new(order),
            state: ReplicaState::Failed,
            doing: String::new(),
            error: "broken".into(),
            restarts: 2,
            is_unloadable: true,
            model: LoadedModel { memory_bytes: 9, signature: None },
        };
        let wire = v1::ReplicaReport::from(&report);
        assert_eq!(wire.replica_id, start.replica_id);
        assert_eq!((wire.revision, wire.restarts, wire.memory_bytes), (start.revision, 2, 9));
        assert_eq!((wire.state(), wire.error.as_str()), (v1::ReplicaState::Failed, "broken"));
        assert_eq!(wire.gpus, start.gpus);
    }

    #[test]
    fn settings_of_another_version_are_a_clear_error() {
        let mut start = testing::start("rag-embedder-1", &testing::echo_spec("embedder"));
        start.spec_json = "{}".into();
        let error = Order::try_from(start.clone()).unwrap_err();
        let report = unreadable(&start, &error);
        assert_eq!(report.state(), v1::ReplicaState::Failed);
        assert!(report.error.contains("same version"), "{}", report.error);
    }
}
