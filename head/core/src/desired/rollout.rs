//! How a wanted revision takes over from the one that serves, as people ask for it: the mode,
//! the revision to fall back to, and the verdicts on revisions that did not make it. Plain functions of values; what a
//! rollout does from moment to moment is in [`crate::rollout`].

use millstream_pipelines::Name;

use super::conflicts::{check_fit, check_unused};
use super::refusal::Refusal;
use super::{Desired, MAX_REVISIONS, Mode, Pipeline, StoredRollout, Verdict};

/// Revisions kept of a pipeline while a takeover is under way.
const MAX_REVISIONS_IN_ROLLOUT: usize = 10 * MAX_REVISIONS;
/// All requests, in thousandths.
const ALL: u16 = 1000;
/// Verdicts kept of a pipeline.
const MAX_VERDICTS: usize = 20;

impl Pipeline {
    /// A revision with this number is wanted from now on.
    pub(super) fn supersede(&mut self, number: u64) {
        if self.wanted != number {
            // What a running rollout came from is what there is to fall back to.
            let begun = self.rollout.map(|rollout| (rollout.baseline, rollout.first));
            let (baseline, first) = begun.unwrap_or((self.wanted, number));
            self.rollout = Some(StoredRollout { baseline, first, mode: Mode::Rolling });
            self.watched = None;
        }
        self.newest = number;
        self.wanted = number;
    }

    /// Forgets the oldest revisions and verdicts beyond the bounds; returns the revisions' numbers.
    pub(super) fn drop_old(&mut self) -> Vec<u64> {
        while self.verdicts.len() > MAX_VERDICTS {
            self.verdicts.pop_first();
        }
        // While a takeover is under way any revision since its beginning may still serve.
        let since = self.rollout.or(self.watched).map_or(self.wanted, |rollout| rollout.baseline);
        let needed = self.wanted.min(since);
        let surplus = self.revisions.len().saturating_sub(MAX_REVISIONS);
        let beyond = self.revisions.len().saturating_sub(MAX_REVISIONS_IN_ROLLOUT);
        let oldest = self.revisions.keys().copied().filter(|&number| number != self.wanted);
        let oldest = oldest.enumerate().filter(|&(index, number)| number < needed || index < beyond);
        let oldest = oldest.map(|(_, number)| number);
        let dropped: Vec<_> = oldest.take(surplus).collect();
        dropped.iter().for_each(|number| drop(self.revisions.remove(number)));
        dropped
    }

    fn running(&self, name: &Name) -> Result<StoredRollout, Refusal> {
        self.rollout.ok_or_else(|| {
            let reason = format!(
                "no rollout of `{name}` is under way: revision {} has taken over; `cluster rollout undo {name}` goes \
                 back to the one before",
                self.wanted
            );
            Refusal::NotNow(reason)
        })
    }
}

/// The pipeline of that name, to be changed.
fn find<'a>(desired: &'a mut Desired, name: &Name) -> Result<&'a mut Pipeline, Refusal> {
    desired.pipelines.get_mut(name).ok_or_else(|| Refusal::NotFound(name.clone()))
}

/// Sets how the wanted revision takes over: as asked, or else as its file says.
///
/// # Errors
/// [`Refusal::NotFound`]; [`Refusal::NotNow`] when there is no revision beside which it could run.
pub fn set_mode(desired: &mut Desired, name: &Name, mode: impl Into<Option<Mode>>) -> Result<(), Refusal> {
    let mode = mode.into();
    let pipeline = find(desired, name)?;
    let compiled = pipeline.wanted().and_then(|wanted| wanted.compiled.as_ref().ok());
    let first_step = compiled.and_then(|compiled| compiled.rollout.steps.first());
    let of_file = first_step
        .filter(|step| step.permille < ALL)
        .map_or(Mode::Rolling, |step| Mode::Steps { permille: step.permille });
    match (&mut pipeline.rollout, mode) {
        (Some(rollout), mode) => rollout.mode = mode.unwrap_or(of_file),
        (None, Some(Mode::Canary { .. } | Mode::Shadow { .. })) => {
            let reason = format!(
                "a canary or a shadow runs beside a revision that serves, and `{name}` has none yet; deploy it without \
                 the flag first"
            );
            return Err(Refusal::NotNow(reason));
        }
        (None, _) => {}
    }
    Ok(())
}

/// Gives the canary, shadow or revision on its steps another part of the requests; whether it is another one, and its revision.
///
/// # Errors
/// [`Refusal::NotFound`]; [`Refusal::NotNow`] when none runs.
pub fn set_part(desired: &mut Desired, name: &Name, permille: u16) -> Result<(u64, bool), Refusal> {
    let pipeline = find(desired, name)?;
    let wanted = pipeline.wanted;
    match &mut pipeline.rollout {
        Some(rollout) if !rollout.mode.is_rolling() => {
            let before = rollout.mode;
            rollout.mode = before.with_part(permille);
            if matches!(before, Mode::Steps { .. }) && permille >= ALL {
                rollout.mode = Mode::Promoted { permille: before.part().unwrap_or_default() };
            }
            Ok((wanted, rollout.mode != before))
        }
        Some(_) | None => Err(Refusal::NotNow(format!(
            "revision {wanted} of `{name}` is no canary or shadow: it serves, or takes over by itself; deploy another one with \
             --canary or --shadow first"
        ))),
    }
}

/// Gives the canary or shadow that runs the mode that its text is deployed with again; whether it is another one.
///
/// # Errors
/// [`Refusal::NotFound`]; [`Refusal::NotNow`] when none runs.
pub fn change_mode(desired: &mut Desired, name: &Name, mode: Mode) -> Result<bool, Refusal> {
    let pipeline = find(desired, name)?;
    match &mut pipeline.rollout {
        Some(rollout) if !rollout.mode.is_rolling() => {
            let is_other = rollout.mode != mode;
            rollout.mode = mode;
            Ok(is_other)
        }
        Some(_) | None => Err(Refusal::NotNow(format!(
            "revision {} of `{name}` has this text and is no canary or shadow: it serves, or takes over by itself; change the file first",
            pipeline.wanted
        ))),
    }
}

/// A revision on its steps gets the part of the next one; of all requests, it takes over. Does nothing when another one is
/// wanted by now, or people have said something else.
pub fn advance(desired: &mut Desired, name: &Name, revision: u64, permille: u16) {
    let pipeline = desired.pipelines.get_mut(name).filter(|pipeline| pipeline.wanted == revision);
    let Some(rollout) = pipeline.and_then(|pipeline| pipeline.rollout.as_mut()) else { return };
    if let Mode::Steps { permille: before } = rollout.mode
        && before < permille
    {
        rollout.mode =
            if permille < ALL { Mode::Steps { permille } } else { Mode::Promoted { permille: before } };
    }
}

/// Lets the canary or shadow take over, from the part on that it has.
///
/// # Errors
/// [`Refusal::NotFound`]; [`Refusal::NotNow`] when none runs.
pub fn promote(desired: &mut Desired, name: &Name) -> Result<u64, Refusal> {
    let pipeline = find(desired, name)?;
    let rollout = pipeline.running(name)?;
    let permille = match rollout.mode {
        Mode::Canary { permille } | Mode::Steps { permille } => permille,
        Mode::Shadow { .. } => 0,
        Mode::Rolling | Mode::Promoted { .. } => {
            let reason = format!(
                "revision {} of `{name}` takes over by itself; there is no canary or shadow to promote",
                pipeline.wanted
            );
            return Err(Refusal::NotNow(reason));
        }
    };
    pipeline.rollout = Some(StoredRollout { mode: Mode::Promoted { permille }, ..rollout });
    Ok(pipeline.wanted)
}

/// The wanted revision has taken over; said again, it is no longer watched either. Does nothing when another one is
/// wanted by now.
pub fn complete(desired: &mut Desired, name: &Name, revision: u64) {
    if let Some(pipeline) = desired.pipelines.get_mut(name)
        && pipeline.wanted == revision
    {
        pipeline.watched = pipeline.rollout.take();
    }
}

/// Goes back from `revision` to the revision `to`, and keeps the verdict. Does nothing when `to` is not one that may serve
/// again ([`Pipeline::may_serve`]). What such a one needs of other pipelines is there: changes of these that take it away
/// are refused while the rollout is under way. When somebody has deployed over `revision` meanwhile, what takes over now
/// goes back to `to` in its place, should it fail.
pub fn go_back(desired: &mut Desired, name: &Name, revision: u64, to: u64, verdict: Verdict) {
    let fits = fits_again(desired, name, to);
    let Some(pipeline) = desired.pipelines.get_mut(name).filter(|_| revision != to) else { return };
    if pipeline.wanted == revision && pipeline.may_return_to(to) {
        pipeline.wanted = to;
        (pipeline.rollout, pipeline.watched) = (None, None);
        pipeline.verdicts.insert(revision, verdict);
        pipeline.drop_old();
    } else if let Some(rollout) = pipeline.rollout.as_mut().filter(|rollout| rollout.baseline == revision)
        && fits
    {
        rollout.baseline = to;
        pipeline.verdicts.insert(revision, verdict);
    }
}

/// Whether a revision that is kept fits what the other pipelines have by now.
fn fits_again(desired: &Desired, name: &Name, number: u64) -> bool {
    let kept = desired.pipelines.get(name).and_then(|pipeline| pipeline.revisions.get(&number));
    let compiled = kept.and_then(|kept| Some((kept, kept.compiled.as_ref().ok()?)));
    compiled.is_some_and(|(kept, compiled)| {
        let goes = |deployment: &Name| !compiled.deployments.contains_key(deployment);
        check_fit(desired, &kept.stored.file_name, compiled).is_ok()
            && check_unused(desired, name, goes).is_ok()
    })
}

/// Checks that a rollout can be aborted; returns the revision that takes over and the one there was.
///
/// # Errors
/// [`Refusal::NotFound`]; [`Refusal::NotNow`] when no rollout is under way, or what there was is no longer kept.
pub fn abortable(desired: &Desired, name: &Name) -> Result<(u64, u64), Refusal> {
    let pipeline = desired.pipelines.get(name).ok_or_else(|| Refusal::NotFound(name.clone()))?;
    let baseline = pipeline.running(name)?.baseline;
    if !pipeline.revisions.contains_key(&baseline) {
        let reason = format!(
            "revision {baseline} of `{name}`, which the rollout began from, is no longer kept; deploy what is to serve"
        );
        return Err(Refusal::NotNow(reason));
    }
    Ok((pipeline.wanted, baseline))
}

/// The revision that an undo deploys again: `to` where given, else the newest one before the wanted that no verdict is
/// against.
///
/// # Errors
/// [`Refusal::NotFound`]; [`Refusal::NotNow`] when there is no such revision.
pub fn undo_target(desired: &Desired, name: &Name, to: Option<u64>) -> Result<u64, Refusal> {
    let pipeline = desired.pipelines.get(name).ok_or_else(|| Refusal::NotFound(name.clone()))?;
    let kept = || {
        let kept: Vec<_> = pipeline.revisions.keys().map(ToString::to_string).collect();
        kept.join(", ")
    };
    match to {
        Some(to) if to == pipeline.wanted => {
            Err(Refusal::NotNow(format!("revision {to} of `{name}` is the wanted one already")))
        }
        Some(to) if pipeline.revisions.contains_key(&to) => Ok(to),
        Some(to) => {
            Err(Refusal::NotNow(format!("revision {to} of `{name}` is not kept; there are {}", kept())))
        }
        None => {
            let before = pipeline
                .revisions
                .keys()
                .rev()
                .copied()
                .find(|number| *number < pipeline.wanted && !pipeline.verdicts.contains_key(number));
            before.ok_or_else(|| {
                let reason = format!("`{name}` has no revision before {} to go back to", pipeline.wanted);
                Refusal::NotNow(reason)
            })
        }
    }
}
