//! What a deployment's settings mean to the ingress.

use millstream_pipelines::{DeploymentSpec, Task};

use super::pool::PoolLimits;

/// What a deployment's settings mean to the ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeploymentSettings {
    /// Of admission and choice.
    pub(super) limits: PoolLimits,
    /// Whether a call that has started may be run again elsewhere.
    pub(super) idempotent: bool,
    /// Whether calls take about the same time.
    pub(super) lengths: Lengths,
    /// Whether its first replica may come with the first call.
    pub(super) starts_on_demand: bool,
}

/// Whether calls take about the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lengths {
    /// One that takes much longer than the others is stuck.
    Alike,
    /// Texts are generated: one may take a hundred times as long as another.
    Vary,
}

impl DeploymentSettings {
    /// For a deployment that no plan describes yet: it has no replicas either, so nothing is sent by these.
    pub(crate) const UNKNOWN: Self = Self {
        limits: PoolLimits { max_ongoing: 1, max_queued: None, near_room: 1 },
        idempotent: false,
        lengths: Lengths::Vary,
        starts_on_demand: false,
    };
}

impl From<&DeploymentSpec> for DeploymentSettings {
    fn from(spec: &DeploymentSpec) -> Self {
        let target = spec.autoscaling.target_ongoing_requests.ceil().clamp(1.0, f64::from(u32::MAX));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to u32 just above"
        )]
        let near_room = target as u32;
        let limits = PoolLimits {
            max_ongoing: spec.limits.max_ongoing_requests.max(1),
            max_queued: spec.limits.max_queued_requests,
            near_room,
        };
        let lengths = if spec.task == Task::Generate { Lengths::Vary } else { Lengths::Alike };
        let starts_on_demand = spec.autoscaling.min_replicas == 0;
        Self { limits, idempotent: spec.limits.idempotent, lengths, starts_on_demand }
    }
}
