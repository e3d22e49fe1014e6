//! How a new revision takes over from the one that serves, as a plain function: which phase a rollout is in, when the
//! next one begins, when it goes back.
//!
//! ```text
//! Starting ──ready──▶ Trial ──enough good answers──▶ Moving ──all there──▶ Watching ──calm──▶ over
//!     │                 │ few answers, some bad: Half ──┘  │                    │
//!     └── cannot start ─┴──────── errors jump ─────────────┴────────────────────┴──▶ back to the baseline
//! ```
//!
//! The old replicas stay whole until the trial is over, so that a bad revision costs retries and no request. A canary
//! or a shadow stays in its trial until people promote or abort it, one with steps until it has come to the last. Which replicas start and leave in which phase is
//! decided in [`crate::reconcile`], which requests go where in its routes.

mod judge;
mod outcomes;
mod recent;

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_pipelines::{Name, TrafficStep};
use serde::{Deserialize, Serialize};

use crate::desired::Mode;
pub use judge::{Excess, Judgement, Slowness, judge};
pub use outcomes::{Outcomes, Shadowed, Tally};
pub use recent::{Recent, Scope, Side};

/// Intervals of rollouts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// Shortest trial: one that sees no traffic at all ends after it. Default 300 ms.
    pub idle_trial: Duration,
    /// A trial without any failure ends after it, however few answers there were. Default 2 s.
    pub trial: Duration,
    /// A trial with failures that are too few to judge by ends after it, unless everything failed. Default 8 s.
    pub max_trial: Duration,
    /// How long errors are watched once everything has moved, and for how long a deployment that requests under way
    /// alone may call stays once new ones no longer do. Default 30 s.
    pub watch: Duration,
    /// A verdict that the store did not take is given to it again after that time. Default 2 s.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            idle_trial: Duration::from_millis(300),
            trial: Duration::from_secs(2),
            max_trial: Duration::from_secs(8),
            watch: Duration::from_secs(30),
            retry: Duration::from_secs(2),
        }
    }
}

/// A takeover under way, as observed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rollout {
    /// The revision that takes over.
    pub revision: u64,
    /// The one that it takes over from, and that serves again should it fail.
    pub baseline: u64,
    /// How far it is.
    pub phase: Phase,
    /// Since when.
    pub since: Duration,
    /// What came of all requests and calls since the trial began, by revision: for people.
    pub totals: BTreeMap<u64, Tally>,
    /// What came of the latest ones: for verdicts.
    pub recent: Recent,
    /// The part of the requests that a canary, a shadow or a step has. What it is to have comes into force once there are replicas
    /// for it.
    pub part: Option<u16>,
    /// The part that the store was asked for last, and when.
    pub asked: Option<(u16, Duration)>,
}

impl Rollout {
    /// A rollout that begins now.
    #[must_use]
    pub fn begin(revision: u64, baseline: u64, phase: Phase, now: Duration) -> Self {
        let (totals, recent) = (BTreeMap::new(), Recent::default());
        Self { revision, baseline, phase, since: now, totals, recent, part: None, asked: None }
    }

    /// All outcomes of a revision since the trial began.
    #[must_use]
    pub fn total(&self, revision: u64) -> Tally {
        self.totals.get(&revision).cloned().unwrap_or_default()
    }

    /// Counts outcomes of one of the two revisions that have just been reported.
    pub fn count(&mut self, revision: u64, tally: &Tally, now: Duration) {
        self.totals.entry(revision).or_default().add(tally);
        let side = if revision == self.revision { Side::New } else { Side::Old };
        self.recent.count(side, tally, now);
    }

    /// Thousandths of the requests that run on the new revision.
    #[must_use]
    pub fn permille(&self, mode: Mode) -> u16 {
        match (self.phase, mode) {
            (Phase::Starting, _) => 0,
            (Phase::Moving | Phase::Watching, _) => 1000,
            (Phase::Trial | Phase::Half, Mode::Canary { permille } | Mode::Steps { permille }) => {
                self.part.map_or(0, |part| part.min(permille))
            }
            (Phase::Trial | Phase::Half, Mode::Shadow { .. }) => 0,
            (Phase::Trial, Mode::Rolling) => TRIAL_PERMILLE,
            (Phase::Trial, Mode::Promoted { permille }) => permille.max(TRIAL_PERMILLE),
            (Phase::Half, Mode::Rolling) => HALF_PERMILLE,
            (Phase::Half, Mode::Promoted { permille }) => permille.max(HALF_PERMILLE),
        }
    }

    /// Thousandths of the requests that run on the new revision too, unanswered.
    #[must_use]
    pub fn shadow_permille(&self, mode: Mode) -> u16 {
        match (self.phase, mode) {
            (Phase::Trial | Phase::Half, Mode::Shadow { permille }) => {
                self.part.map_or(0, |part| part.min(permille))
            }
            _ => 0,
        }
    }
}

/// The part of the traffic that a trial gets: should every call on it fail, retries elsewhere stay within their budget
/// of a fifth of the requests.
const TRIAL_PERMILLE: u16 = 100;
/// The part that one gets whose trial saw failures.
const HALF_PERMILLE: u16 = 500;

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The first new replicas start; nothing runs on them yet.
    Starting,
    /// A part of the requests runs on them, the old replicas are whole.
    Trial,
    /// Half of the requests do: the trial saw failures, but too few answers to judge by.
    Half,
    /// All requests run on the new revision; old replicas leave as new ones get ready.
    Moving,
    /// All replicas that were replaced are gone; errors still lead back.
    Watching,
}

/// What a step of a rollout depends on beside the rollout itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// How traffic comes to the new revision.
    pub mode: Mode,
    /// Whether each of its deployments has the ready replicas that a trial needs.
    pub ready: bool,
    /// Whether all of its replicas are ready and no other replica is left.
    pub moved: bool,
    /// Why one of its replicas cannot start, after three tries.
    pub cannot_start: Option<String>,
    /// Whether a trial could show anything: there are new replicas, and an ingress that sends requests.
    pub trial: Trial,
    /// Whether requests of the pipeline run or wait now.
    pub busy: bool,
    /// The next step, where it takes over by steps.
    pub next_step: Option<NextStep>,
    /// What 95% of its requests may take at most.
    pub max_p95: Option<Duration>,
}

/// The next of a rollout's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextStep {
    /// Thousandths of the requests that the revision gets then.
    pub permille: u16,
    /// How long the present part stands before.
    pub after: Duration,
}

impl NextStep {
    /// The step that follows a part of the requests. A part that people have set in between stands as long as the step below it.
    #[must_use]
    pub fn of(steps: &[TrafficStep], permille: u16) -> Option<Self> {
        let next = steps.iter().position(|step| step.permille > permille)?;
        let present = &steps[next.saturating_sub(1)];
        Some(Self { permille: steps[next].permille, after: present.hold })
    }
}

/// Whether a rollout has a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// It has.
    Needed,
    /// Nothing new runs, nobody sends requests, or what serves was convicted: move at once.
    Skipped,
}

/// What a rollout comes to next.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Next {
    /// It stays where it is.
    Stay,
    /// It enters a phase.
    Enter(Phase),
    /// It gets the part of its next step, in thousandths of the requests.
    Advance(u16),
    /// It is over: the new revision serves.
    End,
    /// It goes back to the baseline, for this reason.
    RollBack(String),
}

/// Decides what a rollout comes to next.
#[must_use]
pub fn step(rollout: &Rollout, observed: &Observed, timing: &Timing, now: Duration) -> Next {
    let waited = now.saturating_sub(rollout.since);
    let recent = &rollout.recent;
    let judgement = judge(recent, observed.max_p95);
    match &judgement {
        Judgement::Bad(excess) => return Next::RollBack(excess.to_string()),
        Judgement::Slow(slowness) => return Next::RollBack(slowness.to_string()),
        Judgement::TooFew | Judgement::Good => {}
    }
    if let Some(reason) = &observed.cannot_start
        && rollout.phase != Phase::Watching
    {
        return Next::RollBack(reason.clone());
    }
    match rollout.phase {
        Phase::Starting if !observed.ready => Next::Stay,
        Phase::Starting => match (observed.trial, observed.mode) {
            (Trial::Skipped, mode) if mode.is_rolling() => Next::Enter(Phase::Moving),
            _ => Next::Enter(Phase::Trial),
        },
        // A replica that is away must be back before requests move.
        Phase::Trial | Phase::Half if !observed.ready => Next::Stay,
        // Canaries and shadows wait for people, steps for their time.
        Phase::Trial | Phase::Half if !observed.mode.is_rolling() => match observed.next_step {
            Some(next) if waited >= next.after && !recent.all_failed() => Next::Advance(next.permille),
            _ => Next::Stay,
        },
        Phase::Trial | Phase::Half => {
            let idle = !observed.busy && recent.is_empty();
            let calm = !recent.has_failed() && waited >= timing.trial;
            let is_over = judgement == Judgement::Good
                || calm
                || idle && waited >= timing.idle_trial
                || rollout.phase == Phase::Half && waited >= timing.max_trial;
            // One that has answered nothing waits for an answer, or for enough failures.
            if is_over && !recent.all_failed() {
                Next::Enter(Phase::Moving)
            } else if rollout.phase == Phase::Trial && waited >= timing.trial {
                Next::Enter(Phase::Half)
            } else {
                Next::Stay
            }
        }
        Phase::Moving if observed.moved => Next::Enter(Phase::Watching),
        Phase::Watching if waited >= timing.watch => Next::End,
        Phase::Moving | Phase::Watching => Next::Stay,
    }
}

/// The same for a rollout that leads back to a revision that served before: it needs no trial, and there is nothing
/// better to go to should it fail.
#[must_use]
pub fn step_back(rollout: &Rollout, observed: &Observed) -> Next {
    match rollout.phase {
        Phase::Starting | Phase::Trial | Phase::Half if observed.ready => Next::Enter(Phase::Moving),
        Phase::Moving | Phase::Watching if observed.moved => Next::End,
        _ => Next::Stay,
    }
}

/// When a rollout may come to something by the passing of time alone.
#[must_use]
pub fn wake_at(
    rollout: &Rollout,
    next_step: Option<NextStep>,
    timing: &Timing,
    now: Duration,
) -> Option<Duration> {
    let waits = match rollout.phase {
        Phase::Trial | Phase::Half if next_step.is_some() => [next_step?.after; 2],
        Phase::Starting | Phase::Moving => return None,
        Phase::Trial => [timing.idle_trial, timing.trial],
        Phase::Half => [timing.max_trial; 2],
        Phase::Watching => [timing.watch; 2],
    };
    waits.into_iter().map(|wait| rollout.since + wait).find(|&at| at > now)
}

/// One change of a rollout, for the state, the store and people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The pipeline.
    pub pipeline: Name,
    /// The revision that takes over.
    pub revision: u64,
    /// The revision that it takes over from.
    pub baseline: u64,
    /// What happens.
    pub kind: ChangeKind,
}

/// What happens to a rollout.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum ChangeKind {
    /// It begins, in this phase.
    Begin(Phase),
    /// It enters this phase.
    Enter(Phase),
    /// It gets another part of the requests, in thousandths, which is in force from now on.
    Part(u16),
    /// It is to get the part of its next step; the store keeps that.
    Advance(u16),
    /// Everything has moved: the store need not know of it any more.
    Complete,
    /// It goes back; the store keeps the verdict.
    RollBack {
        /// Why.
        reason: String,
    },
    /// It is over, or another revision is wanted.
    End,
}

#[cfg(test)]
mod tests;
