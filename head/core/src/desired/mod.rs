//! What people asked for: pipelines and their revisions. Plain values; [`change`] decides what a deploy or a delete
//! does to them, [`rollout`] how a new revision takes over, `conflicts` what pipelines must leave to one another; `catalog`
//! keeps them in the store.

pub mod change;
mod conflicts;
pub mod cordons;
pub mod keys;
mod refusal;
pub mod rollout;
pub mod scale;
mod stored_rollout;
pub mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_pipelines::{Alias, DeploymentSpec, FullName, Name, Plan};
use serde::{Deserialize, Serialize};

pub use cordons::{Cordon, CordonKind, Cordons, NodeRequest};
pub use keys::{ApiKey, Keys};
pub use scale::ScaleOverride;
pub use stored_rollout::{Mode, Outcome, StoredRollout, Verdict};
pub use tokens::{Token, Tokens};

/// Revisions kept of a pipeline.
pub const MAX_REVISIONS: usize = 10;

/// Everything that people asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Desired {
    /// Grows with each change: of two, the later one counts.
    pub generation: u64,
    /// The pipelines, by name.
    pub pipelines: BTreeMap<Name, Pipeline>,
    /// The pipelines that were deleted: numbers of revisions are never used again.
    pub deleted: BTreeMap<Name, Deleted>,
    /// Bounds that people have set beside the files.
    pub scales: BTreeMap<FullName, ScaleOverride>,
    /// The API keys.
    pub keys: Keys,
    /// The tokens for the dashboard and its API.
    pub tokens: Tokens,
    /// The nodes that people keep free.
    pub cordons: Cordons,
}

/// A pipeline that was deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deleted {
    /// The number of its last revision.
    pub newest: u64,
    /// What was to serve, for whoever regrets it; forgotten when another pipeline is deleted more than [`UNDELETE_MS`] later.
    pub last: Option<StoredRevision>,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// For how long a deleted pipeline comes back by an undo, in milliseconds.
pub const UNDELETE_MS: u64 = 3_600_000;

/// A pipeline and which of its revisions is wanted.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pipeline {
    /// The number of the revision that was deployed last; numbers only grow.
    pub newest: u64,
    /// The number of the revision that is to serve: the newest, unless that was rolled back.
    pub wanted: u64,
    /// How the wanted revision takes over from another; `None` once it has.
    pub rollout: Option<StoredRollout>,
    /// The takeover that the wanted revision has come out of, for as long as errors still lead back. Not stored: a head
    /// that is restarted meanwhile does not go back.
    pub watched: Option<StoredRollout>,
    /// Why revisions that were deployed do not serve.
    pub verdicts: BTreeMap<u64, Verdict>,
    /// The last [`MAX_REVISIONS`] revisions, those that serve among them.
    pub revisions: BTreeMap<u64, Arc<Revision>>,
}

impl Pipeline {
    /// The revision that is to serve. Absent only when the store lost it.
    #[must_use]
    pub fn wanted(&self) -> Option<&Arc<Revision>> {
        self.revisions.get(&self.wanted)
    }
}

impl Desired {
    /// Whether a wanted revision has that deployment.
    #[must_use]
    pub fn wants(&self, name: &FullName) -> bool {
        let wanted = self.pipelines.get(&name.pipeline).and_then(Pipeline::wanted);
        wanted.is_some_and(|wanted| wanted.spec(&name.deployment).is_some())
    }
}

/// One stored state of a pipeline's file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Revision {
    /// The part that the store keeps.
    #[serde(flatten)]
    pub stored: StoredRevision,
    /// What the text means; an error when this version of the program refuses a text that an older one took.
    pub compiled: Result<Compiled, String>,
}

/// A revision as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRevision {
    /// Its number; grows with each change, also across a delete.
    pub number: u64,
    /// The file's name, for messages.
    pub file_name: String,
    /// The pipeline's text.
    pub source: String,
    /// Folder that relative `file:` models are found in.
    pub source_dir: String,
    /// Milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// By deployment: ranges of revisions (both ends included) whose replicas serve this revision as well, because
    /// only settings that apply in place differ.
    pub reuses: BTreeMap<Name, Vec<(u64, u64)>>,
}

impl Pipeline {
    /// The settings of a replica that was started for `revision` of `deployment`: those that it was started with, or, when
    /// its revision is no longer kept, those of a revision that it serves, which differ only in what applies in place.
    #[must_use]
    pub fn spec_of_replica(&self, deployment: &Name, revision: u64) -> Option<&Arc<DeploymentSpec>> {
        let served = || self.revisions.values().find(|kept| kept.is_served_by(deployment, revision));
        self.revisions.get(&revision).or_else(served)?.spec(deployment)
    }
}

impl Revision {
    /// Whether a replica that was started for `revision` of `deployment` serves this revision.
    #[must_use]
    pub fn is_served_by(&self, deployment: &Name, revision: u64) -> bool {
        self.stored
            .reuses
            .get(deployment)
            .is_some_and(|ranges| ranges.iter().any(|&(from, to)| (from..=to).contains(&revision)))
    }

    /// The settings of a deployment.
    #[must_use]
    pub fn spec(&self, deployment: &Name) -> Option<&Arc<DeploymentSpec>> {
        self.compiled.as_ref().ok()?.deployments.get(deployment)
    }
}

/// What the control plane needs to know of a pipeline's text.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compiled {
    /// The pipeline's name.
    pub name: Name,
    /// Its HTTP route.
    pub route: Option<String>,
    /// Names that clients may give it, with `None`, or one of its deployments.
    pub aliases: BTreeMap<Alias, Option<Name>>,
    /// Its deployments.
    pub deployments: BTreeMap<Name, Arc<DeploymentSpec>>,
    /// Deployments of other pipelines that it calls.
    pub uses: BTreeSet<FullName>,
    /// Whether its first replicas start together or not at all.
    pub all_or_nothing: bool,
    /// How a revision with this text takes over.
    pub rollout: millstream_pipelines::Rollout,
}

impl Compiled {
    /// Compiles a text.
    ///
    /// # Errors
    /// All faults, one a line.
    pub fn from_text(file_name: &str, source: &str) -> Result<Self, String> {
        let plan = Plan::compile(file_name, source).map_err(|faults| faults.to_string())?;
        Ok(Self {
            name: plan.name().clone(),
            route: plan.route().map(str::to_owned),
            aliases: plan.aliases().clone(),
            deployments: plan
                .deployments()
                .iter()
                .map(|(name, spec)| (name.clone(), Arc::new(spec.clone())))
                .collect(),
            uses: plan.targets().iter().filter(|target| target.pipeline != *plan.name()).cloned().collect(),
            all_or_nothing: plan.placement().all_or_nothing,
            rollout: plan.rollout().clone(),
        })
    }
}

#[cfg(test)]
mod tests;
