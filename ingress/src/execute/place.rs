//! A call's place in the cache of its stage.

use millstream_pipelines::StageCall;
use millstream_proto::{CallError, Value};

use super::{Caching, Context};
use crate::cache::fingerprint::Fingerprint;
use crate::cache::{Fresh, StageCache};
use crate::routes::Pipeline;

/// A call's place in a cache.
pub(super) struct Place<'a> {
    cache: &'a StageCache,
    fingerprint: Fingerprint,
    /// The revision of the deployment whose answer is asked for.
    pub(super) revision: u64,
}

impl<'a> Place<'a> {
    /// Where a call's answer is looked for; `None` for a call that is to be made whatever is kept.
    pub(super) fn of(pipeline: &'a Pipeline, call: &StageCall, cx: &Context) -> Option<Self> {
        let cache = pipeline.caches.get(call.cache?)?;
        let streams = call.streams.is_some() && cx.parts.is_some();
        let deployment = &pipeline.targets[call.target];
        // Of another pipeline's deployment the file could not know whether calls may share an answer.
        if cx.caching == Caching::Bypassed || streams || !deployment.is_idempotent() {
            return None;
        }
        let own = deployment.name().pipeline == *pipeline.plan.name();
        let revision = if own { pipeline.revision } else { deployment.drawn_revision(cx.draw)? };
        let fingerprint = cache.fingerprint(deployment.name(), revision, cx.tenant, &call.inputs);
        Some(Self { cache, fingerprint, revision })
    }

    /// The answer, see [`StageCache::answer`].
    ///
    /// # Errors
    /// That of `call`.
    pub(super) async fn answer<F>(self, call: impl FnOnce() -> F) -> Result<Value, CallError>
    where
        F: Future<Output = Result<Fresh, CallError>>,
    {
        self.cache.answer(self.fingerprint, call).await
    }
}
