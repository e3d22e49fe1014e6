//! Rollouts: let the new revision take over, take it back, or go back to an earlier one.

use millstream_core::desired::change::Refusal;
use millstream_core::desired::{self, Desired, Mode, Outcome, StoredRevision, Verdict};
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

/// Gives the canary, shadow or revision on its steps another part of the requests; returns its revision.
pub(crate) async fn set_part(term: &Term, name: &Name, permille: u32) -> Result<u64, Error> {
    let permille = u16::try_from(permille).ok().filter(|permille| (1..=1000).contains(permille));
    let permille = permille.ok_or_else(|| Error::Invalid("give a part of 0.1% to 100%".to_owned()))?;
    let set = |desired: &mut Desired| desired::rollout::set_part(desired, name, permille);
    Ok(term.catalog.change_rollout(set, |_| {}).await?.0)
}

/// Where an undo leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Back {
    /// The revision that is wanted now.
    pub(crate) revision: u64,
    /// The one whose text it has.
    pub(crate) text_of: u64,
    /// Why that one did not serve, where it was taken back before.
    pub(crate) warning: Option<String>,
}

/// Goes back to an earlier revision, or brings back a pipeline that was deleted lately; refused when somebody changes the pipeline
/// at the same time.
pub(crate) async fn undo(term: &Term, name: &Name, to: Option<u64>) -> Result<Back, Error> {
    let desired = term.catalog.desired();
    let Some(pipeline) = desired.pipelines.get(name) else { return undelete(term, &desired, name, to).await };
    let under_way = pipeline.rollout;
    if under_way.is_some_and(|rollout| to.is_none_or(|to| to == rollout.baseline)) {
        let revision = abort(term, name, Some(pipeline.wanted)).await?;
        return Ok(Back { revision, text_of: revision, warning: None });
    }
    let target = desired::rollout::undo_target(&desired, name, to)?;
    let stored = pipeline.revisions.get(&target).map(|revision| revision.stored.clone());
    let stored = stored.ok_or_else(|| {
        Error::from(Refusal::NotNow(format!("revision {target} of `{name}` has just gone; ask again")))
    })?;
    let warning = pipeline.verdicts.get(&target).map(|verdict| verdict.reason.clone());
    let revision = deploy_again(term, stored, Some(pipeline.wanted)).await?.unwrap_or(target);
    term.events.note(Subject::Pipeline(name.clone()), Decision::Undone { revision, text_of: target });
    Ok(Back { revision, text_of: target, warning })
}

/// Deploys what a pipeline had that was deleted lately.
async fn undelete(term: &Term, desired: &Desired, name: &Name, to: Option<u64>) -> Result<Back, Error> {
    let deleted = desired
        .deleted
        .get(name)
        .filter(|deleted| clock::unix_ms().saturating_sub(deleted.at_ms) <= desired::UNDELETE_MS);
    let stored = deleted.and_then(|deleted| deleted.last.clone());
    let stored = stored.filter(|stored| to.is_none_or(|to| to == stored.number));
    let stored = stored.ok_or_else(|| Error::from(Refusal::NotFound(name.clone())))?;
    let text_of = stored.number;
    let revision = deploy_again(term, stored, None).await?.unwrap_or(text_of);
    term.events.note(Subject::Pipeline(name.clone()), Decision::Undone { revision, text_of });
    Ok(Back { revision, text_of, warning: None })
}

/// Deploys a text as it was deployed before, at once and without steps; returns the new revision.
async fn deploy_again(
    term: &Term,
    stored: StoredRevision,
    expected: Option<u64>,
) -> Result<Option<u64>, Error> {
    let text = Text { file_name: stored.file_name, source: stored.source, source_dir: stored.source_dir };
    let candidate = deploy::compile(text).await?;
    let takeover = Takeover { mode: Some(Mode::Rolling), expected };
    let deployed = deploy::deploy(term, &[candidate], takeover).await?;
    Ok(deployed.first().map(|deployed| deployed.revision))
}
