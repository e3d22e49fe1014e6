//! What the tests of this crate share: settings of an echo deployment, orders.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_pipelines::{
    Autoscaling, Batch, Demand, DeploymentSpec, Device, Echo, EngineKind, GpuDemand, Limits, Name, Task,
};
use millstream_proto::v1;

/// An echo deployment that answers at once.
pub(crate) fn echo_spec(name: &str) -> DeploymentSpec {
    DeploymentSpec {
        name: serde_json::from_value::<Name>(name.into()).unwrap(),
        task: Task::Custom,
        engine: EngineKind::Echo,
        model: None,
        device: Device::Cpu,
        demand: Demand {
            cpu_milli: 100,
            memory_bytes: 1 << 20,
            gpus: GpuDemand::None,
            gpu_memory_bytes: 0,
            accelerators: vec![],
            labels: BTreeMap::new(),
            max_replicas_per_node: None,
        },
        batch: Batch { max_size: 4, ..Batch::default() },
        lanes: None,
        autoscaling: Autoscaling::default(),
        limits: Limits {
            max_ongoing_requests: 8,
            max_queued_requests: None,
            drain_timeout: Duration::from_secs(30),
            start_timeout: Duration::from_secs(10),
            step_timeout: None,
            max_surge: 1,
            idempotent: true,
        },
        engine_settings: Some(
            Echo { delay: Duration::ZERO, fail_ratio: 0.0, crash_on: Some("boom".into()) }.into(),
        ),
        inputs: Default::default(),
    }
}

/// The order to start a replica of it.
pub(crate) fn start(id: &str, spec: &DeploymentSpec) -> v1::StartReplica {
    v1::StartReplica {
        replica_id: id.into(),
        pipeline: "rag".into(),
        deployment: spec.name.to_string(),
        revision: 3,
        spec_json: serde_json::to_string(spec).unwrap(),
        source_dir: String::new(),
        gpus: vec![v1::GpuShare { index: 0, milli: 250 }],
    }
}
