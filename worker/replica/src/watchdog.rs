//! Whether an engine's step has taken too long to come back, as plain state. Callers' deadlines have no part in it: how long a step may
//! take follows from the deployment's own steps and from how much this one computes.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The least time that a step is given.
const MIN_LIMIT: Duration = Duration::from_secs(10);
/// What one is given while little is known.
const UNKNOWN_LIMIT: Duration = Duration::from_secs(300);
/// Steps below which little is known.
const MIN_STEPS: u32 = 8;
/// How much longer than the slowest of late one may take for the same work.
const FACTOR: f64 = 20.0;
/// What is left of the slowest after each step that is quicker.
const FADING: f64 = 0.99;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watchdog(Mutex<Steps>);

#[derive(Debug, Default)]
struct Steps {
    /// When each lane's step under way began, and how much it computes.
    running: Vec<Option<(Instant, u64)>>,
    num_ever: u32,
    /// Of late, for one unit of work.
    slowest_s: f64,
    /// What the deployment's file says.
    fixed: Option<Duration>,
}

impl Steps {
    fn limit(&self, units: u64) -> Duration {
        if let Some(fixed) = self.fixed {
            return fixed;
        }
        if self.num_ever < MIN_STEPS {
            return UNKNOWN_LIMIT;
        }
        #[expect(clippy::cast_precision_loss, reason = "a step computes less than 2^53 tokens")]
        let usual_s = self.slowest_s * units as f64;
        Duration::try_from_secs_f64(usual_s * FACTOR).unwrap_or(Duration::MAX).max(MIN_LIMIT)
    }
}

impl Watchdog {
    /// Steps may take that long, whatever others took.
    pub(crate) fn set_fixed(&self, fixed: Option<Duration>) {
        self.0.lock().fixed = fixed;
    }

    /// A lane's step begins.
    pub(crate) fn begin(&self, lane: usize, now: Instant) {
        let running = &mut self.0.lock().running;
        if running.len() <= lane {
            running.resize(lane + 1, None);
        }
        running[lane] = Some((now, 1));
    }

    /// It is about to compute so much.
    pub(crate) fn computes(&self, lane: usize, units: usize, now: Instant) {
        if let Some(Some((began, known))) = self.0.lock().running.get_mut(lane) {
            // What was done before in this step counts no more.
            *began = now;
            *known = u64::try_from(units).unwrap_or(u64::MAX).max(1);
        }
    }

    /// It has come back; one that ran nothing says nothing about others.
    pub(crate) fn end(&self, lane: usize, num_inputs: usize, now: Instant) {
        let mut steps = self.0.lock();
        let Some((began, units)) = steps.running.get_mut(lane).and_then(Option::take) else { return };
        if num_inputs == 0 {
            return;
        }
        steps.num_ever = steps.num_ever.saturating_add(1);
        #[expect(clippy::cast_precision_loss, reason = "a step computes less than 2^53 tokens")]
        let took_s = now.saturating_duration_since(began).as_secs_f64() / units as f64;
        steps.slowest_s = took_s.max(steps.slowest_s * FADING);
    }

    /// The limit that a step under way has passed.
    pub(crate) fn overdue(&self, now: Instant) -> Option<Duration> {
        let steps = self.0.lock();
        steps.running.iter().flatten().find_map(|&(began, units)| {
            let limit = steps.limit(units);
            (now.saturating_duration_since(began) >= limit).then_some(limit)
        })
    }

    /// How often to look.
    pub(crate) fn interval(&self) -> Duration {
        let fixed = self.0.lock().fixed.unwrap_or(MIN_LIMIT);
        (fixed / 8).clamp(Duration::from_millis(5), Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn after(steps: &[(u32, usize)]) -> (Watchdog, Instant) {
        let watchdog = Watchdog::default();
        let mut now = millstream_clock::now();
        for &(ms, units) in steps {
            now += MS;
            watchdog.begin(0, now);
            watchdog.computes(0, units, now);
            now += MS * ms;
            watchdog.end(0, 1, now);
        }
        (watchdog, now)
    }

    fn limit_of(watchdog: &Watchdog, units: u64) -> Duration {
        watchdog.0.lock().limit(units)
    }

    #[test]
    fn a_step_is_given_by_what_others_took_for_their_work() {
        let table = [
            // few steps say little
            (vec![(1, 1); 7], 1, UNKNOWN_LIMIT),
            (vec![(1, 1); 8], 1, MIN_LIMIT),
            // 2 ms a token: 20 times that
            (vec![(200, 100); 8], 1000, Duration::from_secs(40)),
            (vec![(200, 100); 8], 1, MIN_LIMIT),
        ];
        for (steps, units, expected) in table {
            let (watchdog, _) = after(&steps);
            let limit = limit_of(&watchdog, units);
            assert!(limit >= expected && limit < expected + 20 * MS, "{steps:?} {units}: {limit:?}");
        }
    }

    #[test]
    fn slow_steps_are_remembered_and_fade() {
        let mut steps = vec![(1000, 1)];
        steps.extend([(1, 1); 60]);
        let (watchdog, _) = after(&steps);
        assert!(limit_of(&watchdog, 1) > MIN_LIMIT, "{watchdog:?}");
        steps.extend([(1, 1); 60]);
        assert_eq!(limit_of(&after(&steps).0, 1), MIN_LIMIT);
    }

    #[test]
    fn only_a_step_that_runs_is_overdue() {
        let (watchdog, now) = after(&[(1, 1); 8]);
        assert_eq!(watchdog.overdue(now + Duration::from_secs(3600)), None);
        watchdog.begin(0, now);
        assert_eq!(watchdog.overdue(now + MIN_LIMIT - MS), None);
        assert_eq!(watchdog.overdue(now + MIN_LIMIT), Some(MIN_LIMIT));
        watchdog.set_fixed(Some(MS));
        assert_eq!(watchdog.overdue(now + MS), Some(MS));
        watchdog.computes(0, 5, now + MS);
        assert_eq!(watchdog.overdue(now + MS), None, "it began anew");
    }
}
