//! Values that the unit tests of this crate share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_pipelines::{
    Autoscaling, Batch, Demand, DeploymentSpec, Device, Echo, EngineKind, GpuDemand, Limits, Name, Task,
};

use crate::desired::Compiled;

/// A name that is known to be valid.
pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// An echo deployment that asks for 100 milli-cores.
pub(crate) fn spec(deployment: &str) -> DeploymentSpec {
    DeploymentSpec {
        name: name(deployment),
        task: Task::Custom,
        engine: EngineKind::Echo,
        model: None,
        device: Device::Cpu,
        demand: demand(100),
        batch: Batch { max_size: 1, ..Batch::default() },
        lanes: None,
        autoscaling: Autoscaling::default(),
        limits: Limits {
            max_ongoing_requests: 8,
            max_queued_requests: None,
            drain_timeout: Duration::from_secs(30),
            start_timeout: Duration::from_secs(300),
            step_timeout: None,
            max_surge: 1,
            idempotent: true,
        },
        engine_settings: Some(Echo { delay: Duration::ZERO, fail_ratio: 0.0, crash_on: None }.into()),
        inputs: Default::default(),
    }
}

/// A demand for CPU alone.
pub(crate) fn demand(cpu_milli: u64) -> Demand {
    Demand {
        cpu_milli,
        memory_bytes: 0,
        gpus: GpuDemand::None,
        gpu_memory_bytes: 0,
        accelerators: vec![],
        labels: BTreeMap::new(),
        max_replicas_per_node: None,
    }
}

/// A pipeline of these deployments, routed at `/NAME`.
pub(crate) fn compiled(pipeline: &str, specs: impl IntoIterator<Item = DeploymentSpec>) -> Compiled {
    Compiled {
        name: name(pipeline),
        route: Some(format!("/{pipeline}")),
        deployments: specs.into_iter().map(|spec| (spec.name.clone(), Arc::new(spec))).collect(),
        aliases: [].into(),
        uses: [].into(),
        all_or_nothing: false,
        rollout: millstream_pipelines::Rollout::default(),
    }
}
