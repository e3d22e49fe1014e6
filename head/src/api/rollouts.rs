//! What people ask about rollouts: promote, abort, undo, and what a deploy would do.

use std::sync::Arc;

use millstream_core::desired::change::{self, After, Candidate};
use millstream_core::desired::{self, Desired, Mode, Outcome, Verdict};
use millstream_core::dry_run;
use millstream_core::present::explain::Subject;
use millstream_core::reconcile::Event;
use millstream_pipelines::Name;
use millstream_proto::event::Decision;
use millstream_proto::v1::{self, deploy_request::Beside};
use tonic::Status;

use super::control_service::{compile, refused, restarting, to_json};
use crate::actors::reconciler_actor::ReconcilerMsg;
use crate::catalog::expect_wanted;
use crate::clock;
use crate::shared::Shared;

/// How requests come to a new revision, as asked for.
///
/// # Errors
/// `INVALID_ARGUMENT` for a part that is none.
pub(crate) fn mode(beside: Option<Beside>) -> Result<Mode, Status> {
    let part = |what: &str, permille: u32| {
        u16::try_from(permille).ok().filter(|permille| (1..=1000).contains(permille)).ok_or_else(|| {
            Status::invalid_argument(format!(
                "a {what} of {permille} thousandths is no part of the requests; give 0.1% to 100%"
            ))
        })
    };
    Ok(match beside {
        None => Mode::Rolling,
        Some(Beside::CanaryPermille(permille)) => Mode::Canary { permille: part("canary", permille)? },
        Some(Beside::ShadowPermille(permille)) => Mode::Shadow { permille: part("shadow", permille)? },
    })
}

/// Lets a canary or a shadow take over.
pub(crate) async fn promote(shared: &Shared, name: &Name) -> Result<u64, Status> {
    let promote = |desired: &mut Desired| desired::rollout::promote(desired, name);
    let changed = shared.catalog.change_rollout(promote).await;
    let (revision, desired) = changed.map_err(|error| refused(&error))?;
    shared.events.note(Subject::Pipeline(name.clone()), Decision::Promoted { revision });
    apply(shared, desired).await;
    Ok(revision)
}

/// Takes back the revision that takes over.
pub(crate) async fn abort(shared: &Shared, name: &Name) -> Result<u64, Status> {
    abort_expecting(shared, name, None).await
}

/// [`abort`], unless another revision than `expected` is wanted by now.
async fn abort_expecting(shared: &Shared, name: &Name, expected: Option<u64>) -> Result<u64, Status> {
    let at_ms = clock::unix_ms();
    let abort = |desired: &mut Desired| {
        expect_wanted(desired, name, expected)?;
        let (revision, to) = desired::rollout::abortable(desired, name)?;
        let verdict = Verdict { outcome: Outcome::Aborted, reason: "by hand".into(), at_ms };
        desired::rollout::go_back(desired, name, revision, to, verdict);
        Ok((revision, to))
    };
    let changed = shared.catalog.change_rollout(abort).await;
    let ((revision, to), desired) = changed.map_err(|error| refused(&error))?;
    shared.events.note(Subject::Pipeline(name.clone()), Decision::Aborted { revision, to });
    apply(shared, desired).await;
    Ok(to)
}

/// Goes back to an earlier revision; refused when somebody changes the pipeline at the same time.
pub(crate) async fn undo(shared: &Shared, name: &Name, to: Option<u64>) -> Result<u64, Status> {
    let desired = shared.catalog.desired();
    let pipeline = desired.pipelines.get(name);
    let wanted = pipeline.map(|pipeline| pipeline.wanted);
    let under_way = pipeline.and_then(|pipeline| pipeline.rollout);
    if under_way.is_some_and(|rollout| to.is_none_or(|to| to == rollout.baseline)) {
        return abort_expecting(shared, name, wanted).await;
    }
    let target =
        desired::rollout::undo_target(&desired, name, to).map_err(|refusal| refused(&refusal.into()))?;
    let stored = pipeline.and_then(|pipeline| pipeline.revisions.get(&target));
    let stored = stored.map(|revision| revision.stored.clone());
    let stored = stored.ok_or_else(|| Status::internal("the revision to go back to has just gone"))?;
    let candidate = compile(stored.file_name, stored.source, stored.source_dir).await?;
    deploy_expecting(shared, candidate, Mode::Rolling, wanted).await.map(|(revision, _)| revision)
}

/// Stores a text as a new revision and tells the reconciler; gives its number and whether that changed anything.
pub(crate) async fn deploy(shared: &Shared, candidate: Candidate, mode: Mode) -> Result<(u64, bool), Status> {
    deploy_expecting(shared, candidate, mode, None).await
}

/// [`deploy`], unless another revision than `expected` is wanted by now.
async fn deploy_expecting(
    shared: &Shared,
    candidate: Candidate,
    mode: Mode,
    expected: Option<u64>,
) -> Result<(u64, bool), Status> {
    let name = candidate.compiled.name.clone();
    let deployed = shared.catalog.deploy(candidate, mode, expected, clock::unix_ms()).await;
    let (revision, changed, desired) = deployed.map_err(|error| refused(&error))?;
    if changed {
        tracing::info!(pipeline = %name, revision, "pipeline deployed");
        shared.events.note(Subject::Pipeline(name), Decision::Deployed { revision });
        apply(shared, desired).await;
    }
    Ok((revision, changed))
}

/// What deploying a text would do.
pub(crate) async fn plan(shared: &Shared, candidate: Candidate, mode: Mode) -> Result<String, Status> {
    let before = shared.catalog.desired();
    let name = candidate.compiled.name.clone();
    let after = change::deploy_by(&before, candidate, mode, clock::unix_ms());
    let desired = match after.map_err(|refusal| refused(&refusal.into()))? {
        After::Unchanged { .. } => Desired::clone(&before),
        After::Changed { desired, .. } => *desired,
    };
    let mut reconciler = shared.ask(ReconcilerMsg::Inspect).await.map_err(restarting)?;
    let now = shared.clock.now();
    let planned = tokio::task::spawn_blocking(move || {
        // A change that is stored may be on its way to the reconciler.
        reconciler.handle(Event::Desired(before), now);
        dry_run::plan(&reconciler, &desired, &name, now)
    });
    let plan = planned.await.map_err(|error| Status::internal(error.to_string()))?;
    to_json(&plan)
}

/// What was decided lately about `target`.
pub(crate) fn explain(shared: &Shared, request: &v1::ExplainRequest) -> Result<String, Status> {
    let events = shared.events.about(&request.target, request.since_ms);
    to_json(&events)
}

/// Tells the reconciler what people ask for now. It is stored already: a reconciler that is being restarted reads it
/// itself.
pub(crate) async fn apply(shared: &Shared, desired: Arc<Desired>) {
    if shared.ask(|reply| ReconcilerMsg::DesiredChanged(desired, reply)).await.is_err() {
        tracing::debug!("the reconciler is being restarted and reads what is wanted itself");
    }
}
