//! The decisions again that were made about a recorded load: what was observed, second by second, goes through the very
//! [`Scaler`] that decided then, on a virtual clock.
//!
//! Replicas are as many as there were, whatever is decided here: so each decision is made from what the one of then was made
//! from. What other settings would have come to is another question, see `replay`.

use std::time::Duration;

use millstream_pipelines::Autoscaling;

use super::{Inputs, Load, RESOLUTION, Rule, Scaler, Scaling};

/// What was observed in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Requests.
    pub load: Load,
    /// Replicas that took requests.
    pub ready: u32,
    /// Replicas on their way to that.
    pub starting: u32,
    /// A target that something else than the load has set then: people, a deploy, a new head.
    pub set: Option<u32>,
}

/// A change of the target.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When, from the first second on.
    pub at: Duration,
    /// Replicas wanted before.
    pub from: u32,
    /// Replicas wanted from then on.
    pub to: u32,
    /// Why.
    pub rule: Rule,
    /// What it was made of.
    pub inputs: Inputs,
}

/// The decisions of a recorded time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Again {
    /// Changes of the target, the oldest first.
    pub steps: Vec<Step>,
    /// The target at the end of each second.
    pub targets: Vec<u32>,
}

/// The only reporter.
const INGRESS: u8 = 0;

/// Decides again. Nothing is known of seconds that are `None`: the load before such a gap does not count after it. Of the first
/// `known` seconds only the load is taken in. O(seconds).
#[must_use]
pub fn decide_again(observed: &[Option<Sample>], known: usize, target: u32, settings: &Autoscaling) -> Again {
    let scaler: Scaler<u8> = Scaler::new(target);
    let mut clock = Clock { scaler, settings, known_since: Duration::ZERO, steps: Vec::new() };
    let mut targets = Vec::with_capacity(observed.len());
    for (second, sample) in (0_u64..).zip(observed) {
        let begins = Duration::from_secs(second);
        match sample {
            None => {
                clock.scaler.history.forget(&INGRESS);
                clock.known_since = begins + Duration::from_secs(1);
            }
            Some(sample) => {
                clock.observe(sample, begins);
                if targets.len() >= known {
                    clock.run(sample, begins);
                }
            }
        }
        targets.push(clock.scaler.scaling.target);
    }
    Again { steps: clock.steps, targets }
}

/// A deployment on a virtual clock.
struct Clock<'a> {
    scaler: Scaler<u8>,
    settings: &'a Autoscaling,
    known_since: Duration,
    steps: Vec<Step>,
}

impl Clock<'_> {
    fn observe(&mut self, sample: &Sample, now: Duration) {
        if let Some(target) = sample.set {
            self.scaler.scaling = Scaling { target, ..Scaling::default() };
        }
        self.scaler.record(&INGRESS, sample.load, self.settings.look_back, now);
    }

    /// A second goes by.
    fn run(&mut self, sample: &Sample, begins: Duration) {
        let mut now = begins;
        while now < begins + Duration::from_secs(1) {
            // One decision may ask for another at once.
            for _ in 0..4 {
                if !self.decide(sample, now) {
                    break;
                }
            }
            now += RESOLUTION;
        }
    }

    /// Whether the target has changed.
    fn decide(&mut self, sample: &Sample, now: Duration) -> bool {
        if self.scaler.wake_at.is_none_or(|at| at > now) {
            return false;
        }
        let from = self.scaler.scaling.target;
        let counts = (sample.ready, sample.starting);
        let decision = self.scaler.decide(self.settings, counts, self.known_since, now);
        let Some(rule) = decision.rule else { return false };
        self.steps.push(Step { at: now, from, to: decision.scaling.target, rule, inputs: decision.inputs });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Autoscaling {
        Autoscaling {
            min_replicas: 1,
            max_replicas: 4,
            downscale_delay: Duration::from_secs(10),
            ..Autoscaling::default()
        }
    }

    fn sample(ongoing: u64, ready: u32) -> Option<Sample> {
        Some(Sample { load: Load { ongoing, ..Load::default() }, ready, ..Sample::default() })
    }

    fn steps(again: &Again) -> Vec<(u64, u32, u32, Rule)> {
        again.steps.iter().map(|step| (step.at.as_secs(), step.from, step.to, step.rule)).collect()
    }

    #[test]
    fn a_load_that_comes_and_goes_is_decided_as_a_cluster_would() {
        let mut observed = vec![sample(0, 1); 10];
        observed.extend([sample(6, 1); 10]);
        observed.extend([sample(6, 3); 10]);
        observed.extend([sample(0, 3); 30]);
        let again = decide_again(&observed, 0, 1, &settings());
        let found = steps(&again);
        // The average of 2 s reaches what 2, then 3 replicas are for; it is 0 two seconds after the end, and 10 s count.
        assert_eq!(found.first().map(|step| (step.1, step.3)), Some((1, Rule::Upscale)), "{found:?}");
        assert!((10..13).contains(&found[0].0), "{found:?}");
        assert_eq!(again.targets[29], 3, "{found:?}");
        let last = found.last().unwrap();
        assert_eq!((last.2, last.3), (1, Rule::Downscale));
        assert!((40..44).contains(&last.0), "{found:?}");
        assert_eq!(again.targets.len(), observed.len());
    }

    #[test]
    fn what_something_else_has_set_counts_from_then_on() {
        let mut observed = vec![sample(0, 1); 5];
        observed.extend([Some(Sample { ready: 1, set: Some(4), ..Sample::default() })]);
        observed.extend([sample(8, 4); 20]);
        let again = decide_again(&observed, 0, 1, &settings());
        assert_eq!((steps(&again), again.targets[4], again.targets[6]), (vec![], 1, 4));
    }

    #[test]
    fn the_load_before_a_gap_does_not_count_after_it() {
        let mut observed = vec![sample(8, 4); 5];
        observed.extend([None; 3]);
        observed.extend([sample(2, 1); 5]);
        assert_eq!(steps(&decide_again(&observed, 8, 1, &settings())), []);
    }
}
