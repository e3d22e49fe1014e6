//! Bounds on the replicas of a deployment.

use millstream_core::desired::Pipeline;
use millstream_core::desired::scale::ScaleRequest;
use millstream_pipelines::FullName;

use super::Error;
use crate::leadership::Term;

/// The bounds in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scaled {
    pub(crate) min_replicas: u32,
    pub(crate) max_replicas: u32,
    /// Whether they are others than before.
    pub(crate) changed: bool,
}

/// Sets or resets a deployment's bounds.
pub(crate) async fn scale(term: &Term, name: &FullName, request: ScaleRequest) -> Result<Scaled, Error> {
    let changed = term.catalog.scale(name, request).await?;
    let desired = term.catalog.desired();
    let wanted = desired.pipelines.get(&name.pipeline).and_then(Pipeline::wanted);
    let spec = wanted.and_then(|wanted| wanted.spec(&name.deployment));
    let (min_replicas, max_replicas) =
        spec.map_or((0, 0), |spec| (spec.autoscaling.min_replicas, spec.autoscaling.max_replicas));
    if changed {
        tracing::info!(deployment = %name, min_replicas, max_replicas, "bounds on replicas changed");
    }
    Ok(Scaled { min_replicas, max_replicas, changed })
}
