//! The decisions on a deployment's number of replicas: those that were made, beside those that the same code makes again of what was
//! recorded.
//!
//! What is recorded is one number a second, where the autoscaler had a report every 100 ms. So a decision may come up to
//! [`TOLERANCE_MS`] earlier or later here, and one upon a load that changed within a second may be about another number.

use std::time::Duration;

use millstream_core::autoscaler::again::{Again, Sample, Step, decide_again};
use millstream_core::autoscaler::{Load, Rule};
use millstream_core::present::series::Metric;
use millstream_pipelines::{Autoscaling, FullName};
use millstream_status::event::{Decision, Event};
use millstream_status::series::Series;
use serde::Serialize;

/// How far apart the two decisions may be that are taken for the same one: a second of sampling before and after, and the second
/// that the average then moves by.
pub const TOLERANCE_MS: u64 = 3000;

/// What is known of a deployment's past.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    /// Which deployment.
    pub deployment: &'a FullName,
    /// Its settings now.
    pub settings: &'a Autoscaling,
    /// When the revision was deployed that they are of, in milliseconds since the Unix epoch.
    pub deployed_at_ms: u64,
    /// What was recorded, in steps of a second.
    pub series: &'a Series,
    /// What was decided, the oldest first.
    pub events: &'a [Event],
}

/// A decision, then or again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scaled {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Replicas wanted before.
    pub from: u32,
    /// Replicas wanted from then on.
    pub to: u32,
    /// The rule that fired, in words.
    pub rule: String,
    /// Ongoing requests on average.
    pub ongoing: f64,
}

/// How a decision of then and the one that was made again compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The same change, within [`TOLERANCE_MS`].
    Same,
    /// A change in the same direction, to or from another number.
    OtherNumber,
    /// It was made then, and not again.
    OnlyThen,
    /// It is made now, and was not then.
    OnlyAgain,
    /// People, a deploy or a new head made it: it is taken as it was.
    Given,
}

/// A decision of then beside the one that was made again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// What was decided then.
    pub then: Option<Scaled>,
    /// What is decided now.
    pub again: Option<Scaled>,
    /// How they compare.
    pub verdict: Verdict,
}

/// A deployment's decisions, then and again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// `pipeline/deployment`.
    pub deployment: String,
    /// From when on its settings are known, in milliseconds since the Unix epoch.
    pub from_unix_ms: u64,
    /// Seconds from then on of which something was recorded.
    pub seconds: usize,
    /// The decisions, the oldest first.
    pub decisions: Vec<Compared>,
    /// The part of those seconds in which both wanted the same number, 0 to 1.
    pub same_target_ratio: f64,
    /// Replicas wanted then, at the end of each second; null where nothing was recorded.
    pub target_then: Vec<Option<f32>>,
    /// Replicas wanted again.
    pub target_again: Vec<u32>,
}

impl Comparison {
    /// How many decisions compare like this.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.decisions.iter().filter(|compared| compared.verdict == verdict).count()
    }
}

/// Decides again; `None` when nothing of the deployment was recorded since its settings are what they are.
#[must_use]
pub fn compare(past: &Past<'_>) -> Option<Comparison> {
    let then = past.scaled();
    // Before its bounds changed, other settings decided.
    let changed = then.iter().rev().find(|scaled| past.changes_bounds(scaled));
    let since_ms = past.deployed_at_ms.max(changed.map_or(0, |scaled| scaled.at_ms));
    let then: Vec<_> = then.into_iter().filter(|scaled| scaled.at_ms >= since_ms).collect();
    let known = past.second_of(since_ms);
    let samples = past.samples(&then);
    let first = (known..samples.len()).find(|&second| samples[second].is_some())?;
    let target = past.target_before(first);
    let again = decide_again(&samples, first, target, past.settings);
    let targets: Vec<_> = past.values(Metric::Target).to_vec();
    let both = (first..samples.len()).filter(|&second| samples[second].is_some());
    let (mut seconds, mut same) = (0, 0);
    for second in both {
        seconds += 1;
        let wanted = targets.get(second).copied().flatten().map(whole);
        same += usize::from(wanted == Some(u64::from(again.targets[second])));
    }
    #[expect(clippy::cast_precision_loss, reason = "seconds of an hour")]
    let same_target_ratio = same as f64 / seconds.max(1) as f64;
    Some(Comparison {
        deployment: past.deployment.to_string(),
        from_unix_ms: past.unix_ms(Duration::from_secs(first as u64)),
        seconds,
        decisions: past.pair(then, &again),
        same_target_ratio,
        target_then: targets.get(first..).unwrap_or_default().to_vec(),
        target_again: again.targets[first..].to_vec(),
    })
}

impl Past<'_> {
    fn values(&self, metric: Metric) -> &[Option<f32>] {
        self.series.of_deployment(&self.deployment.to_string(), metric.as_str())
    }

    fn second_of(&self, unix_ms: u64) -> usize {
        let ms = unix_ms.saturating_sub(self.series.start_unix_ms);
        usize::try_from(ms / self.series.step_ms.max(1)).unwrap_or(usize::MAX)
    }

    fn unix_ms(&self, at: Duration) -> u64 {
        self.series.start_unix_ms + u64::try_from(at.as_millis()).unwrap_or(u64::MAX)
    }

    /// What was decided then about its number of replicas, as far back as something was recorded.
    fn scaled(&self) -> Vec<Scaled> {
        let (pipeline, deployment) = (self.deployment.pipeline.as_str(), self.deployment.deployment.as_str());
        let its = self.events.iter().filter(|event| {
            event.pipeline.as_deref() == Some(pipeline)
                && event.deployment.as_deref() == Some(deployment)
                && event.at_ms >= self.series.start_unix_ms
        });
        let scaled = its.filter_map(|event| match &event.decision {
            Decision::Scaled { from, to, rule, inputs } => {
                let (rule, ongoing) = (rule.clone(), inputs.ongoing);
                Some(Scaled { at_ms: event.at_ms, from: *from, to: *to, rule, ongoing })
            }
            _ => None,
        });
        scaled.collect()
    }

    fn changes_bounds(&self, scaled: &Scaled) -> bool {
        [Rule::Bounds, Rule::ByHand].iter().any(|rule| rule.to_string() == scaled.rule)
    }

    /// What was recorded of each second, and what something else than the load decided in it.
    fn samples(&self, then: &[Scaled]) -> Vec<Option<Sample>> {
        let [ready, ongoing, queued, calls, target] =
            [Metric::Ready, Metric::Ongoing, Metric::Queued, Metric::CallsPerSecond, Metric::Target]
                .map(|metric| self.values(metric));
        let at =
            |values: &[Option<f32>], second: usize| values.get(second).copied().flatten().map_or(0, whole);
        let mut samples: Vec<_> = (0..ready.len())
            .map(|second| {
                let num_ready = whole(ready[second]?);
                let arrived = calls.get(second).copied().flatten().map_or(0, |calls| whole(calls.ceil()));
                let queued = at(queued, second);
                // A call that came and went within the second was there, and may have been the first.
                let wanted = at(target, second.saturating_sub(1));
                let unseen = u64::from(wanted == 0 && arrived > 0 && queued == 0);
                let load = Load { ongoing: at(ongoing, second).max(unseen), queued, arrived };
                let starting = at(target, second).saturating_sub(num_ready);
                let is_gap = second > 0 && ready[second - 1].is_none();
                Some(Sample {
                    load,
                    ready: count(num_ready),
                    starting: count(starting),
                    set: is_gap.then(|| count(at(target, second))),
                })
            })
            .collect();
        for given in then.iter().filter(|scaled| !is_of_load(scaled)) {
            if let Some(Some(sample)) = samples.get_mut(self.second_of(given.at_ms)) {
                sample.set = Some(given.to);
            }
        }
        samples
    }

    /// The target when a second began.
    fn target_before(&self, second: usize) -> u32 {
        let values = self.values(Metric::Target);
        let before = second.checked_sub(1).and_then(|before| values.get(before).copied().flatten());
        let found = before.or_else(|| values.get(second).copied().flatten());
        found.map_or(self.settings.min_replicas, |target| count(whole(target)))
    }

    /// Puts each decision of then beside the nearest one of now that goes the same way.
    fn pair(&self, then: Vec<Scaled>, again: &Again) -> Vec<Compared> {
        let mut left: Vec<_> = again.steps.iter().map(|step| Some(self.step(step))).collect();
        let mut all: Vec<_> = then
            .into_iter()
            .map(|then| {
                if !is_of_load(&then) {
                    return Compared { then: Some(then), again: None, verdict: Verdict::Given };
                }
                let near = |other: &Scaled| {
                    (other.to > other.from) == (then.to > then.from)
                        && other.at_ms.abs_diff(then.at_ms) <= TOLERANCE_MS
                };
                let rank = |other: &Scaled| ((other.from, other.to) != (then.from, then.to), other.at_ms);
                let found = left.iter_mut().filter(|other| other.as_ref().is_some_and(near));
                let again = found.min_by_key(|other| other.as_ref().map(rank)).and_then(Option::take);
                let verdict = match &again {
                    None => Verdict::OnlyThen,
                    Some(again) if (again.from, again.to) == (then.from, then.to) => Verdict::Same,
                    Some(_) => Verdict::OtherNumber,
                };
                Compared { then: Some(then), again, verdict }
            })
            .collect();
        let rest = left.into_iter().flatten();
        all.extend(rest.map(|again| Compared {
            then: None,
            again: Some(again),
            verdict: Verdict::OnlyAgain,
        }));
        all.sort_by_key(|compared| compared.then.as_ref().or(compared.again.as_ref()).map(|it| it.at_ms));
        all
    }

    fn step(&self, step: &Step) -> Scaled {
        Scaled {
            at_ms: self.unix_ms(step.at),
            from: step.from,
            to: step.to,
            rule: step.rule.to_string(),
            ongoing: step.inputs.ongoing,
        }
    }
}

/// Whether the load alone led to it.
fn is_of_load(scaled: &Scaled) -> bool {
    let of_load = [Rule::FromZero, Rule::Upscale, Rule::Downscale, Rule::IdleToZero];
    of_load.iter().any(|rule| rule.to_string() == scaled.rule)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
fn whole(number: f32) -> u64 {
    number.round().max(0.0) as u64
}

fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
