//! `batch = "auto"`: how long a batch takes, how often inputs come, and what follows from it for size and wait.
//!
//! The duration of a batch of n inputs is taken as a·n + b and fitted to the last runs by least squares. From it:
//!
//! - **Size**: a call that comes just after a batch has begun waits for that one and then runs in the next, so that a
//!   batch may take half of the latency aimed at. When the target is missed anyway (the oldest has waited too long), the
//!   largest batch clears the queue soonest.
//! - **Wait**: n waiting inputs that wait for one more, expected after the mean gap g, all lose g + a; the one more,
//!   which would otherwise come while they run, gains b − g. So waiting pays while n·(g + a) < b − g, and never beyond
//!   what the target leaves. Where a batch costs little more than its parts (b near 0) nobody ever waits.
//!
//! One peer waits by a rule of the same kind (it learns a and b from its last 50 batches); this one is derived above.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Runs that are remembered.
const NUM_RUNS: usize = 50;
/// Weight of the newest gap in their mean.
const NEWEST_GAP: f64 = 0.1;
/// How many mean gaps after the last input one more is still expected.
const PATIENCE: f64 = 2.0;

/// What sums of seconds may be off by.
const ROUNDING_S: f64 = 1e-9;

/// What has been learnt about one replica.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Learned {
    /// Inputs and seconds of the last runs, oldest first.
    runs: VecDeque<(f64, f64)>,
    /// Mean seconds between inputs.
    gap_s: Option<f64>,
    last_input: Option<Instant>,
}

/// How long a batch takes, in seconds: `per_input` · n + `fixed`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Seconds for each input, not negative.
    pub per_input: f64,
    /// Seconds for each batch, not negative.
    pub fixed: f64,
}

/// What bounds the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// Most inputs, at least 1.
    pub max_size: usize,
    /// How long the oldest may wait for company, from its arrival.
    pub max_wait: Duration,
}

impl Learned {
    /// Notes a run.
    pub fn ran(&mut self, inputs: usize, duration: Duration) {
        if self.runs.len() == NUM_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back((float(inputs), duration.as_secs_f64()));
    }

    /// Notes inputs that came since the last that were noted.
    pub fn came(&mut self, inputs: usize, now: Instant) {
        if inputs == 0 {
            return;
        }
        if let Some(last) = self.last_input {
            let gap = now.saturating_duration_since(last).as_secs_f64() / float(inputs);
            self.gap_s = Some(self.gap_s.map_or(gap, |mean| mean + NEWEST_GAP * (gap - mean)));
        }
        self.last_input = Some(now);
    }

    /// How long a batch takes by what has been seen; `None` before the first run. Runs of a single size do not tell what
    /// a batch costs by itself: then all of it counts as its inputs'.
    #[must_use]
    pub fn line(&self) -> Option<Line> {
        let count = float(self.runs.len());
        if self.runs.is_empty() {
            return None;
        }
        let (sum_n, sum_s) = self.runs.iter().fold((0.0, 0.0), |(n, s), run| (n + run.0, s + run.1));
        let (mean_n, mean_s) = (sum_n / count, sum_s / count);
        let spread: f64 = self.runs.iter().map(|run| (run.0 - mean_n).powi(2)).sum();
        let common: f64 = self.runs.iter().map(|run| (run.0 - mean_n) * (run.1 - mean_s)).sum();
        let through_zero = Line { per_input: mean_s / mean_n, fixed: 0.0 };
        if spread < f64::EPSILON {
            return Some(through_zero);
        }
        let per_input = common / spread;
        let fixed = mean_s - per_input * mean_n;
        Some(if per_input < 0.0 {
            Line { per_input: 0.0, fixed: mean_s }
        } else if fixed < 0.0 {
            through_zero
        } else {
            Line { per_input, fixed }
        })
    }

    /// Size and wait for a batch, to answer within `target`. `waiting` inputs wait, the oldest since `oldest`; no batch
    /// grows beyond `max_size`.
    #[must_use]
    pub fn advise(
        &self,
        target: Duration,
        max_size: usize,
        (waiting, oldest): (usize, Instant),
        now: Instant,
    ) -> Advice {
        let Some(line) = self.line() else { return Advice { max_size, max_wait: Duration::ZERO } };
        let target_s = target.as_secs_f64();
        let age_s = now.saturating_duration_since(oldest).as_secs_f64();
        let takes = |inputs: usize| line.per_input * float(inputs) + line.fixed;
        let size = largest(max_size, |inputs| 2.0 * takes(inputs) <= target_s + ROUNDING_S);
        if age_s + takes(size) > target_s {
            return Advice { max_size, max_wait: Duration::ZERO };
        }
        let wait_s = match (self.gap_s, self.last_input) {
            (Some(gap_s), Some(last)) if waiting < size && pays(line, waiting, gap_s) => {
                let expected = last.saturating_duration_since(oldest).as_secs_f64() + PATIENCE * gap_s;
                expected.min(target_s - takes(waiting + 1)).max(0.0)
            }
            _ => 0.0,
        };
        Advice { max_size: size, max_wait: Duration::try_from_secs_f64(wait_s).unwrap_or_default() }
    }
}

/// Whether one more input gains more than the `waiting` ones lose by waiting for it.
fn pays(line: Line, waiting: usize, gap_s: f64) -> bool {
    float(waiting) * (gap_s + line.per_input) < line.fixed - gap_s
}

/// The largest size from 1 to `max` that fits, sizes that fit being those up to some bound; 1 when none does.
fn largest(max: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (1, max.max(1));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fits(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn float(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// A replica whose batches of n take `per_input`·n + `fixed` milliseconds, with an input each `gap` until now.
    fn learned(per_input: u64, fixed: u64, gap: u64, now: Instant) -> Learned {
        let mut learned = Learned::default();
        for inputs in 1..=20 {
            learned.ran(inputs, ms(per_input * inputs as u64 + fixed));
        }
        for before in (0..20).rev() {
            learned.came(1, now - ms(gap * before));
        }
        learned
    }

    fn start() -> Instant {
        millstream_clock::now() + Duration::from_secs(3600)
    }

    #[test]
    fn the_line_is_found_and_never_negative() {
        let now = start();
        let line = learned(2, 30, 5, now).line().unwrap();
        assert!((line.per_input - 0.002).abs() < 1e-9 && (line.fixed - 0.030).abs() < 1e-9, "{line:?}");
        let mut same = Learned::default();
        assert_eq!(same.line(), None);
        same.ran(4, ms(20));
        assert_eq!(same.line(), Some(Line { per_input: 0.005, fixed: 0.0 }));
        let mut falling = Learned::default();
        falling.ran(1, ms(20));
        falling.ran(9, ms(10));
        assert_eq!(falling.line(), Some(Line { per_input: 0.0, fixed: 0.015 }));
    }

    #[test]
    fn the_last_runs_count() {
        let mut learned = Learned::default();
        (0..200).for_each(|_| learned.ran(1, ms(900)));
        (0..50).for_each(|run| learned.ran(1 + run % 2, ms(10)));
        assert!(learned.line().unwrap().fixed < 0.011);
    }

    #[test]
    fn a_batch_takes_half_of_the_target_at_most() {
        let now = start();
        let advise = |learned: &Learned, target| learned.advise(ms(target), 64, (1, now), now).max_size;
        let learned = learned(2, 10, 1000, now);
        assert_eq!(advise(&learned, 100), 20, "2 · (2 · 20 + 10) = 100");
        assert_eq!(advise(&learned, 60), 10);
        assert_eq!(advise(&learned, 10_000), 64);
        assert_eq!(advise(&Learned::default(), 60), 64, "nothing is known yet");
        let late = learned.advise(ms(60), 64, (1, now - ms(50)), now);
        assert_eq!(late, Advice { max_size: 64, max_wait: Duration::ZERO }, "missed: clear the queue");
    }

    #[test]
    fn waiting_pays_only_where_a_batch_costs_more_than_its_parts() {
        let now = start();
        // (per input, fixed, gap, waiting) → wait from the arrival of the oldest, which came just now
        let table = [
            (1, 30, 2, 1, 4),
            (1, 30, 2, 9, 4),
            (1, 30, 2, 10, 0),
            (1, 30, 20, 1, 0),
            (10, 0, 2, 1, 0),
            (10, 15, 2, 1, 4),
            (10, 15, 2, 2, 0),
        ];
        for (per_input, fixed, gap, waiting, expected) in table {
            let learned = learned(per_input, fixed, gap, now);
            let advice = learned.advise(ms(1000), 64, (waiting, now), now);
            let off = advice.max_wait.abs_diff(ms(expected));
            assert!(off < ms(1), "{per_input} {fixed} {gap} {waiting}: {advice:?}");
        }
    }

    #[test]
    fn nobody_waits_beyond_what_the_target_leaves() {
        let now = start();
        let learned = learned(1, 30, 6, now);
        let advice = learned.advise(ms(70), 64, (1, now - ms(20)), now);
        // The line asks for 20 + 12 ms; 70 - (2 + 30) are left.
        assert!(advice.max_wait <= ms(38), "{advice:?}");
        let tight = learned.advise(ms(64), 64, (1, now), now);
        assert!(tight.max_size == 2 && tight.max_wait <= ms(12), "{tight:?}");
    }

    proptest! {
        #[test]
        fn advice_keeps_its_bounds(
            runs in prop::collection::vec((1_usize..100, 0_u64..500), 0..80),
            gaps in prop::collection::vec((0_usize..5, 0_u64..500), 0..80),
            max_size in 1_usize..200,
            (target, waiting, age) in (1_u64..1000, 1_usize..200, 0_u64..1000),
        ) {
            let mut now = start();
            let mut learned = Learned::default();
            runs.iter().for_each(|&(inputs, duration)| learned.ran(inputs, ms(duration)));
            for (inputs, gap) in gaps {
                now += ms(gap);
                learned.came(inputs, now);
            }
            let advice = learned.advise(ms(target), max_size, (waiting, now - ms(age)), now);
            prop_assert!((1..=max_size).contains(&advice.max_size));
            prop_assert!(advice.max_wait <= ms(target));
            if let Some(line) = learned.line() {
                prop_assert!(line.per_input >= 0.0 && line.fixed >= 0.0);
            }
        }
    }
}
