//! Pipelines: deploy one, ask what that would do, delete one, list them.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::desired::change::{self, After, Candidate, Refusal};
use millstream_core::desired::{Compiled, Desired, Mode, StoredRevision};
use millstream_core::dry_run;
use millstream_core::present::explain::Subject;
use millstream_core::reconcile::Event;
use millstream_pipelines::Name;
use millstream_proto::deploy_plan::DeployPlan;
use millstream_proto::event::Decision;

use super::Error;
use crate::actors::messages::ReconcilerMsg;
use crate::catalog::{Stored, Takeover};
use crate::clock;
use crate::leadership::Term;

/// Longest text of a pipeline: each ingress holds it.
const MAX_SOURCE_BYTES: usize = 1 << 20;

/// A text to deploy.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    /// Its file's name, for messages.
    pub(crate) file_name: String,
    pub(crate) source: String,
    /// Folder that relative `file:` models are found in.
    pub(crate) source_dir: String,
}

/// What a deploy came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deployed {
    /// The pipeline.
    pub(crate) name: Name,
    /// The revision that is wanted.
    pub(crate) revision: u64,
    /// Whether it is another one than before.
    pub(crate) changed: bool,
}

/// Compiles a text, on a blocking thread: it may be long.
pub(crate) async fn compile(text: Text) -> Result<Candidate, Error> {
    let Text { file_name, source, source_dir } = text;
    if source.len() > MAX_SOURCE_BYTES {
        let bytes = source.len();
        let detail = format!("{file_name}: the file has {bytes} bytes; {MAX_SOURCE_BYTES} are allowed");
        return Err(Error::TooLarge(detail));
    }
    let compiled = tokio::task::spawn_blocking(move || -> Result<_, String> {
        let compiled = Compiled::from_text(&file_name, &source)?;
        Ok(Candidate { file_name, source, source_dir, compiled })
    });
    match compiled.await {
        Ok(compiled) => compiled.map_err(Error::Invalid),
        Err(_) => Err(Error::Internal("compiling this file made the compiler fail")),
    }
}

/// Compiles texts to deploy together.
pub(crate) async fn compile_all(texts: Vec<Text>) -> Result<Vec<Candidate>, Error> {
    let mut candidates = Vec::with_capacity(texts.len());
    for text in texts {
        candidates.push(compile(text).await?);
    }
    let mut seen = BTreeSet::new();
    match candidates.iter().map(|candidate| &candidate.compiled.name).find(|name| !seen.insert(*name)) {
        Some(twice) => {
            Err(Error::Invalid(format!("two of the files are of pipeline `{twice}`; leave one out")))
        }
        None => Ok(candidates),
    }
}

/// Stores texts as new revisions, all or none.
pub(crate) async fn deploy(
    term: &Term,
    candidates: &[Candidate],
    takeover: Takeover,
) -> Result<Vec<Deployed>, Error> {
    let note = |stored: &Vec<Stored>| {
        for deployed in deployed(candidates, stored).filter(|deployed| deployed.changed) {
            let Deployed { name, revision, .. } = deployed;
            tracing::info!(pipeline = %name, revision, "pipeline deployed");
            term.events.note(Subject::Pipeline(name), Decision::Deployed { revision });
        }
    };
    let stored = term.catalog.deploy(candidates, takeover, clock::unix_ms(), note).await?;
    Ok(deployed(candidates, &stored).collect())
}

fn deployed(candidates: &[Candidate], stored: &[Stored]) -> impl Iterator<Item = Deployed> {
    candidates.iter().zip(stored).map(|(candidate, &Stored { revision, is_new })| Deployed {
        name: candidate.compiled.name.clone(),
        revision,
        changed: is_new,
    })
}

/// What deploying texts would do, each on top of those before it.
pub(crate) async fn plan(
    term: &Term,
    candidates: Vec<Candidate>,
    mode: Option<Mode>,
) -> Result<Vec<DeployPlan>, Error> {
    let mut reconciler = term.ask(ReconcilerMsg::Inspect).await?;
    let (mut before, now) = (term.catalog.desired(), term.host.clock.now());
    let now_ms = clock::unix_ms();
    let planned = tokio::task::spawn_blocking(move || {
        let mut plans = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            // A change that is stored may be on its way to the reconciler.
            reconciler.handle(Event::Desired(Arc::clone(&before)), now);
            let name = candidate.compiled.name.clone();
            let after = match change::deploy_by(&before, candidate, mode, now_ms)? {
                After::Unchanged { .. } => Desired::clone(&before),
                After::OtherPart { desired, .. } | After::Changed { desired, .. } => *desired,
            };
            plans.push(dry_run::plan(&reconciler, &after, &name, now));
            before = Arc::new(Desired { generation: before.generation + 1, ..after });
        }
        Ok::<_, Refusal>(plans)
    });
    Ok(planned.await.map_err(|_| Error::Internal("planning made the planner fail"))??)
}

/// Deletes a pipeline.
pub(crate) async fn delete(term: &Term, name: Name) -> Result<(), Error> {
    let note = |(): &()| {
        tracing::info!(pipeline = %name, "pipeline deleted");
        term.events.note(Subject::Pipeline(name.clone()), Decision::Deleted);
    };
    Ok(term.catalog.delete(&name, clock::unix_ms(), note).await?)
}

/// A revision of a pipeline as it was deployed; the wanted one unless a number is given.
pub(crate) fn get<'a>(
    desired: &'a Desired,
    name: &Name,
    number: Option<u64>,
) -> Result<&'a StoredRevision, Error> {
    let pipeline = desired.pipelines.get(name).ok_or_else(|| Refusal::NotFound(name.clone()))?;
    let number = number.unwrap_or(pipeline.wanted);
    let revision = pipeline.revisions.get(&number).ok_or_else(|| {
        let kept: Vec<_> = pipeline.revisions.keys().map(u64::to_string).collect();
        Error::NotFound(format!("revision {number} of `{name}` is not kept; there is {}", kept.join(", ")))
    })?;
    Ok(&revision.stored)
}

/// The revisions that are kept of a pipeline, the oldest first.
pub(crate) fn history<'a>(
    desired: &'a Desired,
    name: &Name,
) -> Result<impl Iterator<Item = &'a StoredRevision> + use<'a>, Error> {
    let pipeline = desired.pipelines.get(name).ok_or_else(|| Refusal::NotFound(name.clone()))?;
    Ok(pipeline.revisions.values().map(|revision| &revision.stored))
}

/// The wanted revision of each pipeline.
pub(crate) fn list(desired: &Desired) -> impl Iterator<Item = (&Name, &StoredRevision)> {
    desired.pipelines.iter().filter_map(|(name, pipeline)| Some((name, &pipeline.wanted()?.stored)))
}
