//! What requests of a path run on: the revisions of a pipeline, each ready to take requests.

use std::sync::Arc;

use http::HeaderValue;
use millstream_pipelines::Plan;

use super::counts::{RequestCounts, StageCounts};
use crate::cache::StageCache;
use crate::capture::{Captures, PipelineCapture};
use crate::dispatch::Deployment;
use crate::metrics::{RequestMeter, StageMeter};
use crate::model::TrafficShare;
use crate::trace::SlowThreshold;

/// One revision of a pipeline, ready to take requests.
pub(crate) struct Pipeline {
    /// Its compiled form.
    pub plan: Arc<Plan>,
    /// The revision that it was compiled from.
    pub revision: u64,
    /// The revision, as a response header says it.
    pub revision_header: HeaderValue,
    /// What its stages call; [`millstream_pipelines::StageCall::target`] indexes it.
    pub targets: Box<[Arc<Deployment>]>,
    /// Kept answers of its stages; [`millstream_pipelines::StageCall::cache`] indexes it. They go with the revision.
    pub caches: Arc<[StageCache]>,
    /// How its requests ended.
    pub counts: Arc<RequestCounts>,
    /// Counts its requests.
    pub meter: RequestMeter,
    /// Count the calls and failures of its stages; in the order of [`Plan::stages`].
    pub stage_meters: Box<[StageMeter]>,
    /// The same for the head.
    pub stage_counts: Box<[StageCounts]>,
    /// What nearly all of its requests take less than.
    pub slow_threshold: SlowThreshold,
    /// Captures a part of them, where its file says so.
    pub capture: Option<Arc<PipelineCapture>>,
}

impl Pipeline {
    /// A revision that was compiled to this plan.
    pub(super) fn new(
        plan: Arc<Plan>,
        revision: u64,
        targets: Box<[Arc<Deployment>]>,
        caches: Arc<[StageCache]>,
        counts: Arc<RequestCounts>,
    ) -> Self {
        let name = plan.name().as_str();
        let meter = RequestMeter::of(name);
        let stage_meters = plan.stages().map(|(stage, on_error)| StageMeter::of(name, stage, on_error));
        let stage_meters = stage_meters.collect();
        let revision_header = HeaderValue::from(revision);
        let stage_counts = plan.stages().map(|_| StageCounts::default()).collect();
        let slow_threshold = SlowThreshold::default();
        Self {
            plan,
            revision,
            revision_header,
            targets,
            caches,
            counts,
            meter,
            stage_meters,
            stage_counts,
            slow_threshold,
            capture: None,
        }
    }

    /// The deployments that it calls and that cannot answer, for messages.
    pub(crate) fn missing(&self) -> Vec<String> {
        let targets = self.targets.iter().filter(|target| !target.can_answer());
        targets.map(|target| format!("`{}`", target.name())).collect()
    }

    /// The same, whose requests are captured where its file says so.
    pub(super) fn captured_by(self, captures: &Captures) -> Self {
        Self { capture: captures.of(&self.plan, self.revision), ..self }
    }

    /// One of its deployments, called by itself. How its requests end counts as the pipeline's.
    pub(super) fn deployment(&self, plan: Arc<Plan>, deployment: Arc<Deployment>) -> Self {
        let caches = StageCache::of(&plan);
        Self::new(plan, self.revision, Box::new([deployment]), caches, self.counts.clone())
    }
}

/// The revisions of a pipeline that requests of one path, or of its name, run on.
pub(crate) struct Route {
    /// The revisions, the one that serves first.
    pub variants: Box<[Arc<Pipeline>]>,
    /// Their shares of the requests, in the same order.
    pub shares: Box<[TrafficShare]>,
    /// The index of a revision that gets copies, and the thousandths of the requests that it gets copies of.
    pub shadow: Option<(usize, u16)>,
}
