//! Pipelines: deploy one, ask what that would do, delete one, list them.

use millstream_core::desired::change::{self, After, Candidate};
use millstream_core::desired::{Compiled, Desired, Mode, StoredRevision};
use millstream_core::dry_run;
use millstream_core::present::explain::Subject;
use millstream_core::reconcile::Event;
use millstream_pipelines::Name;
use millstream_proto::deploy_plan::DeployPlan;
use millstream_proto::event::Decision;

use super::Error;
use crate::actors::messages::ReconcilerMsg;
use crate::catalog::Takeover;
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

/// Stores a text as a new revision.
pub(crate) async fn deploy(term: &Term, candidate: Candidate, takeover: Takeover) -> Result<Deployed, Error> {
    let name = candidate.compiled.name.clone();
    let note = |&revision: &u64| {
        tracing::info!(pipeline = %name, revision, "pipeline deployed");
        term.events.note(Subject::Pipeline(name.clone()), Decision::Deployed { revision });
    };
    let (revision, changed) = term.catalog.deploy(candidate, takeover, clock::unix_ms(), note).await?;
    Ok(Deployed { name, revision, changed })
}

/// What deploying a text would do.
pub(crate) async fn plan(term: &Term, candidate: Candidate, mode: Mode) -> Result<DeployPlan, Error> {
    let before = term.catalog.desired();
    let name = candidate.compiled.name.clone();
    let desired = match change::deploy_by(&before, candidate, mode, clock::unix_ms())? {
        After::Unchanged { .. } => Desired::clone(&before),
        After::Changed { desired, .. } => *desired,
    };
    let mut reconciler = term.ask(ReconcilerMsg::Inspect).await?;
    let now = term.host.clock.now();
    let planned = tokio::task::spawn_blocking(move || {
        // A change that is stored may be on its way to the reconciler.
        reconciler.handle(Event::Desired(before), now);
        dry_run::plan(&reconciler, &desired, &name, now)
    });
    planned.await.map_err(|_| Error::Internal("planning made the planner fail"))
}

/// Deletes a pipeline.
pub(crate) async fn delete(term: &Term, name: Name) -> Result<(), Error> {
    let note = |(): &()| {
        tracing::info!(pipeline = %name, "pipeline deleted");
        term.events.note(Subject::Pipeline(name.clone()), Decision::Deleted);
    };
    Ok(term.catalog.delete(&name, note).await?)
}

/// The wanted revision of each pipeline.
pub(crate) fn list(desired: &Desired) -> impl Iterator<Item = (&Name, &StoredRevision)> {
    desired.pipelines.iter().filter_map(|(name, pipeline)| Some((name, &pipeline.wanted()?.stored)))
}
