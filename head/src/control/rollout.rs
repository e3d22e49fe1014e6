//! Rollouts: let the new revision take over, take it back, or go back to an earlier one.

use millstream_core::desired::change::Refusal;
use millstream_core::desired::{self, Desired, Mode, Outcome, Verdict};
use millstream_core::present::explain::Subject;
use millstream_pipelines::Name;
use millstream_proto::event::Decision;

use super::Error;
use super::deploy::{self, Text};
use crate::catalog::{Takeover, expect_wanted};
use crate::clock;
use crate::leadership::Term;

/// Lets a canary or a shadow take over; returns its revision.
pub(crate) async fn promote(term: &Term, name: &Name) -> Result<u64, Error> {
    let promote = |desired: &mut Desired| desired::rollout::promote(desired, name);
    let note = |&revision: &u64| {
        term.events.note(Subject::Pipeline(name.clone()), Decision::Promoted { revision });
    };
    Ok(term.catalog.change_rollout(promote, note).await?)
}

/// Takes back the revision that takes over, unless another one than `expected` is wanted by now; returns the one before.
pub(crate) async fn abort(term: &Term, name: &Name, expected: Option<u64>) -> Result<u64, Error> {
    let at_ms = clock::unix_ms();
    let abort = |desired: &mut Desired| {
        expect_wanted(desired, name, expected)?;
        let (revision, to) = desired::rollout::abortable(desired, name)?;
        let verdict = Verdict { outcome: Outcome::Aborted, reason: "by hand".into(), at_ms };
        desired::rollout::go_back(desired, name, revision, to, verdict);
        Ok((revision, to))
    };
    let note = |&(revision, to): &(u64, u64)| {
        term.events.note(Subject::Pipeline(name.clone()), Decision::Aborted { revision, to });
    };
    Ok(term.catalog.change_rollout(abort, note).await?.1)
}

/// Goes back to an earlier revision; refused when somebody changes the pipeline at the same time. Returns the new revision.
pub(crate) async fn undo(term: &Term, name: &Name, to: Option<u64>) -> Result<u64, Error> {
    let desired = term.catalog.desired();
    let pipeline = desired.pipelines.get(name);
    let wanted = pipeline.map(|pipeline| pipeline.wanted);
    let under_way = pipeline.and_then(|pipeline| pipeline.rollout);
    if under_way.is_some_and(|rollout| to.is_none_or(|to| to == rollout.baseline)) {
        return abort(term, name, wanted).await;
    }
    let target = desired::rollout::undo_target(&desired, name, to)?;
    let revision = pipeline.and_then(|pipeline| pipeline.revisions.get(&target));
    let stored = revision.map(|revision| revision.stored.clone()).ok_or_else(|| {
        Error::from(Refusal::NotNow(format!("revision {target} of `{name}` has just gone; ask again")))
    })?;
    let text = Text { file_name: stored.file_name, source: stored.source, source_dir: stored.source_dir };
    let candidate = deploy::compile(text).await?;
    let takeover = Takeover { mode: Mode::Rolling, expected: wanted };
    let deployed = deploy::deploy(term, &[candidate], takeover).await?;
    Ok(deployed.first().map_or(target, |deployed| deployed.revision))
}
