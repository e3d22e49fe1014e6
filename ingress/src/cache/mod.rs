//! Kept answers of stages that ask for it (`cache` in the file): an equal call within the time is answered here, equal
//! calls at the same time are made once. Such calls never reach the deployment, so they are no load of it.
//!
//! A cache belongs to one stage of one revision, and goes with it. An answer is kept only if the replica that gave it
//! surely is of the revision that the call asked for: while revisions replace each other, replicas of one help out for
//! the other.

pub(crate) mod fingerprint;
mod flights;
mod size;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use millstream_pipelines::{CacheScope, CachedStage, FullName, Plan};
use millstream_proto::{CallError, Value};
use rand::Rng as _;

use self::fingerprint::{Fingerprint, Secret, Subject};
use self::flights::SingleFlight;
pub(crate) use self::size::size;
use self::store::Store;
use crate::metrics::{CacheMeter, CacheResult};
use crate::model::Tenant;
use crate::random;

/// The kept answers of a stage, and its calls under way.
pub(crate) struct StageCache {
    stage: Arc<str>,
    /// What the stage calls: an index into the pipeline's targets.
    target: usize,
    scope: CacheScope,
    secret: Secret,
    store: Store,
    flights: SingleFlight,
    meter: CacheMeter,
}

impl StageCache {
    /// Empty caches for the stages of a plan that ask for one; [`millstream_pipelines::StageCall::cache`] indexes them.
    pub(crate) fn of(plan: &Plan) -> Arc<[Self]> {
        plan.caches().iter().map(|cached| Self::new(plan.name().as_str(), cached)).collect()
    }

    fn new(pipeline: &str, cached: &CachedStage) -> Self {
        Self {
            stage: cached.stage.clone(),
            target: cached.target,
            scope: cached.cache.scope,
            secret: Secret::new(random::rng().random()),
            store: Store::new(&cached.cache),
            flights: SingleFlight::default(),
            meter: CacheMeter::of(pipeline, &cached.stage),
        }
    }

    /// The stage's name.
    pub(crate) fn stage(&self) -> &str {
        &self.stage
    }

    /// What the stage calls: an index into the pipeline's targets.
    pub(crate) fn target(&self) -> usize {
        self.target
    }

    /// Bytes that its stage asks for.
    pub(crate) fn max_bytes(&self) -> u64 {
        self.store.max_bytes()
    }

    /// Gives it so many bytes.
    pub(crate) fn resize(&self, bytes: u64) {
        self.store.resize(bytes);
    }

    /// Bytes that its answers take.
    pub(crate) fn bytes(&self) -> u64 {
        self.store.bytes()
    }

    /// Frees what is over, and what revisions gave that are no longer routed.
    pub(crate) fn sweep(&self, now: Instant, routed: &[u64]) {
        self.store.sweep(now, routed);
    }

    /// Stands for all calls that share an answer with this one.
    pub(super) fn fingerprint(
        &self,
        deployment: &FullName,
        revision: u64,
        tenant: Tenant,
        inputs: &Value,
    ) -> Fingerprint {
        let tenant = match self.scope {
            CacheScope::Key => Some(tenant),
            CacheScope::All => None,
        };
        self.secret.fingerprint(Subject { deployment, revision, tenant, inputs })
    }

    /// The answer to a call: one that is kept, that of an equal call under way, or that of `call`.
    ///
    /// # Errors
    /// That of `call`, or of the equal call under way. Errors are not kept.
    pub(super) async fn answer<F>(
        &self,
        fingerprint: Fingerprint,
        call: impl FnOnce() -> F,
    ) -> Result<Value, CallError>
    where
        F: Future<Output = Result<Fresh, CallError>>,
    {
        if let Some(value) = self.store.get(&fingerprint, millstream_clock::now()) {
            self.meter.counted(CacheResult::Hit);
            return Ok(value);
        }
        let mut result = CacheResult::Joined;
        let work = || async {
            // Kept between the look above and our turn.
            if let Some(value) = self.store.get(&fingerprint, millstream_clock::now()) {
                result = CacheResult::Hit;
                return Ok(value);
            }
            result = CacheResult::Miss;
            self.meter.counted(CacheResult::Miss);
            let fresh = call().await?;
            if let Some(revision) = fresh.revision {
                self.store.put(fingerprint, &fresh.value, revision, millstream_clock::now());
            }
            Ok(fresh.value)
        };
        let answer = self.flights.join(fingerprint).answer(work).await;
        if result != CacheResult::Miss {
            self.meter.counted(result);
        }
        answer
    }
}

/// What a replica answered.
pub(super) struct Fresh {
    /// The answer.
    pub(super) value: Value,
    /// The revision that surely gave it; `None` for an answer that is not to be kept.
    pub(super) revision: Option<u64>,
}
