//! How a rollout stands, for people: its part of the requests, what it is judged by, and what it comes to next.

use std::time::Duration;

use millstream_status::status::{
    NextStepStatus, OutcomeCounts, RolloutMode, RolloutStatus, ShadowStatus, TrafficStatus,
};

use super::shown::{Scope, ratio, shown_phase};
use super::status::millis;
use crate::desired::Mode;
use crate::model::{Lately, State};
use crate::rollout::{Judgement, NextStep, Outcomes, Phase, Recent, Rollout, Tally, judge};

impl Scope<'_> {
    pub(super) fn rollout_status(&self) -> Option<RolloutStatus> {
        let rollout = self.state.rollouts.get(self.name)?;
        let mode = self.pipeline.rollout.map_or(Mode::Rolling, |stored| stored.mode);
        let (new, old) = (rollout.total(rollout.revision), rollout.total(rollout.baseline));
        let next = self.next_step(rollout, mode);
        Some(RolloutStatus {
            revision: rollout.revision,
            baseline: rollout.baseline,
            phase: shown_phase(rollout.phase),
            mode: match mode {
                Mode::Rolling | Mode::Promoted { .. } => RolloutMode::Rolling,
                Mode::Canary { .. } => RolloutMode::Canary,
                Mode::Shadow { .. } => RolloutMode::Shadow,
                Mode::Steps { .. } => RolloutMode::Steps,
            },
            traffic_ratio: ratio(rollout.permille(mode).into()),
            phase_ms: millis(self.now.saturating_sub(rollout.since)),
            next_step: next.map(|next| NextStepStatus {
                traffic_ratio: ratio(next.permille.into()),
                in_ms: millis((rollout.since + next.after).saturating_sub(self.now)),
            }),
            judgement: self.judgement(rollout),
            new: outcome_counts(&new, self.traffic(Some(rollout.revision))),
            old: outcome_counts(&old, self.traffic(Some(rollout.baseline))),
            shadow: ShadowStatus {
                shadow_ratio: ratio(rollout.shadow_permille(mode).into()),
                compared: new.shadow.compared,
                different: new.shadow.different,
                shadow_failed: new.shadow.failed,
            },
        })
    }

    /// The requests of the last minute, of a revision or of all.
    pub(super) fn traffic(&self, revision: Option<u64>) -> TrafficStatus {
        let Some(ended) = self.state.ended.get(self.name) else { return TrafficStatus::default() };
        traffic_status(&ended.traffic.last_minute(revision, self.now))
    }

    fn next_step(&self, rollout: &Rollout, mode: Mode) -> Option<NextStep> {
        let Mode::Steps { permille } = mode else { return None };
        let compiled = self.pipeline.revisions.get(&rollout.revision)?.compiled.as_ref().ok()?;
        NextStep::of(&compiled.rollout.steps, permille).filter(|_| rollout.part == Some(permille))
    }

    /// What the latest requests say of the new revision.
    fn judgement(&self, rollout: &Rollout) -> String {
        if rollout.phase == Phase::Starting {
            return "it has had no requests yet".to_owned();
        }
        let revision = self.pipeline.revisions.get(&rollout.revision);
        let compiled = revision.and_then(|revision| revision.compiled.as_ref().ok());
        let max_p95: Option<Duration> = compiled.and_then(|compiled| compiled.rollout.max_p95);
        in_words(&rollout.recent, max_p95)
    }
}

/// What the latest requests say.
fn in_words(recent: &Recent, max_p95: Option<Duration>) -> String {
    match judge(recent, max_p95) {
        // Tries elsewhere may have hidden it from the clients.
        Judgement::TooFew | Judgement::Good if recent.all_failed() => {
            "all of its latest calls failed, too few to judge by".to_owned()
        }
        Judgement::TooFew => "too few requests to judge by".to_owned(),
        Judgement::Good => "as good as the one before".to_owned(),
        Judgement::Bad(excess) => excess.to_string(),
        Judgement::Slow(slowness) => slowness.to_string(),
    }
}

/// The last minute of all pipelines together.
pub(super) fn cluster_traffic(state: &State, now: Duration) -> TrafficStatus {
    let mut all = Lately::default();
    for ended in state.ended.values() {
        all.add(&ended.traffic.last_minute(None, now));
    }
    traffic_status(&all)
}

fn traffic_status(lately: &Lately) -> TrafficStatus {
    TrafficStatus {
        requests_per_second: lately.per_second(),
        failed_ratio: lately.failed_ratio(),
        p50_ms: lately.quantile_ms(50),
        p95_ms: lately.quantile_ms(95),
        p99_ms: lately.quantile_ms(99),
    }
}

fn outcome_counts(tally: &Tally, traffic: TrafficStatus) -> OutcomeCounts {
    let sum = |part: fn(&Outcomes) -> u64| tally.deployments.values().map(part).sum();
    OutcomeCounts {
        requests_answered: tally.requests.answered,
        requests_failed: tally.requests.failed,
        calls_answered: sum(|outcomes| outcomes.answered),
        calls_failed: sum(|outcomes| outcomes.failed),
        traffic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::Side;

    #[test]
    fn calls_that_all_fail_are_not_called_good_because_others_answer_for_them() {
        let mut recent = Recent::default();
        let mut tally = Tally { requests: Outcomes { answered: 30, failed: 0 }, ..Tally::default() };
        recent.count(Side::New, &tally, Duration::ZERO);
        assert_eq!(in_words(&recent, None), "as good as the one before");
        tally.requests = Outcomes::default();
        tally.deployments.insert("model".parse().unwrap(), Outcomes { answered: 0, failed: 8 });
        recent.count(Side::New, &tally, Duration::ZERO);
        assert_eq!(in_words(&recent, None), "all of its latest calls failed, too few to judge by");
    }
}
