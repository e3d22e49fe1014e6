//! The last hour of the cluster's numbers, second by second, for the dashboard to draw: rings of plain numbers in memory,
//! lost when the head ends. Plain data; the time is an argument, in whole seconds.
//!
//! A ring has [`CAPACITY`] numbers of 4 bytes: 14.4 kB a series. At most [`MAX_SERIES`] series are kept, so at most 30 MB;
//! a cluster of 10 deployments in 4 pipelines and 4 nodes with devices has 80 series and 1 MB.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use millstream_status::series::{OneSeries, Series};
use serde::Serialize;

use crate::present::numbers::Numbers;

/// Seconds that are kept.
pub const CAPACITY: u64 = 3600;
/// Most series. When more are observed, those that have ended give way; when none has, the new ones are left out.
pub const MAX_SERIES: usize = 2048;

/// What is kept of a pipeline, a deployment or a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Requests at replicas of a deployment.
    Ongoing,
    /// Requests that wait for a deployment.
    Queued,
    /// Replicas wanted of a deployment, as decided.
    Target,
    /// Replicas that the requests of the moment ask for.
    Desired,
    /// Ready replicas of a deployment.
    Ready,
    /// Requests of a pipeline that end in a second, with an answer or by a fault of ours.
    RequestsPerSecond,
    /// Those of them that failed by a fault of ours, over ten seconds.
    FailedPerSecond,
    /// What half of a pipeline's requests with an answer took at most over ten seconds, in milliseconds.
    P50Ms,
    /// The same of 99%.
    P99Ms,
    /// Calls of a deployment that do.
    CallsPerSecond,
    /// Devices' worth of booked shares on a node: the sum over its devices.
    GpuBooked,
}

impl Metric {
    /// All, with their names.
    pub const ALL: [(Self, &'static str); 11] = [
        (Self::Ongoing, "ongoing"),
        (Self::Queued, "queued"),
        (Self::Target, "target"),
        (Self::Desired, "desired"),
        (Self::Ready, "ready"),
        (Self::RequestsPerSecond, "requests_per_second"),
        (Self::FailedPerSecond, "failed_per_second"),
        (Self::P50Ms, "p50_ms"),
        (Self::P99Ms, "p99_ms"),
        (Self::CallsPerSecond, "calls_per_second"),
        (Self::GpuBooked, "gpu_booked"),
    ];

    /// Whose numbers they are.
    #[must_use]
    pub fn scope(self) -> Scope {
        match self {
            Self::RequestsPerSecond | Self::FailedPerSecond | Self::P50Ms | Self::P99Ms => Scope::Pipeline,
            Self::GpuBooked => Scope::Node,
            _ => Scope::Deployment,
        }
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.into_iter().find(|(metric, _)| *metric == self).map_or("", |(_, name)| name)
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, its)| *its == name).map(|(metric, _)| metric)
    }
}

/// Whose numbers a metric has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// A pipeline's.
    Pipeline,
    /// A deployment's.
    Deployment,
    /// A node's.
    Node,
}

/// Whose numbers a series has: a pipeline's name, a deployment's full name, or a node's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// What.
    pub metric: Metric,
    /// Whose.
    pub subject: String,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
struct Ring {
    /// By second modulo [`CAPACITY`]; NaN where nothing was observed.
    values: Box<[f32]>,
    /// The last second with a number.
    last: u64,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    rings: BTreeMap<Key, Ring>,
    /// The last second that was observed.
    now: Option<u64>,
}

impl History {
    /// Takes in the numbers of a second. Seconds that were missed have no numbers; an earlier second is ignored. What
    /// has not been observed for [`CAPACITY`] seconds is forgotten. O(series).
    pub fn observe(&mut self, second: u64, samples: impl IntoIterator<Item = (Key, f32)>) {
        if self.now.is_some_and(|now| second < now) {
            return;
        }
        let oldest = (second + 1).saturating_sub(CAPACITY);
        self.rings.retain(|_, ring| ring.last >= oldest);
        let before = self.now.replace(second).map_or(second, |now| (now + 1).max(oldest));
        for ring in self.rings.values_mut() {
            for missed in before..=second {
                ring.values[slot(missed)] = f32::NAN;
            }
        }
        for (key, value) in samples {
            if !self.rings.contains_key(&key) && !self.make_room(second) {
                continue;
            }
            let values = || vec![f32::NAN; slots()].into_boxed_slice();
            let ring = self.rings.entry(key).or_insert_with(|| Ring { values: values(), last: second });
            ring.values[slot(second)] = value;
            ring.last = second;
        }
    }

    /// Whether one more series may be kept; the one that ended first gives way.
    fn make_room(&mut self, now: u64) -> bool {
        if self.rings.len() < MAX_SERIES {
            return true;
        }
        // One that was observed in the second before may still come in this one.
        let ended = self.rings.iter().filter(|(_, ring)| ring.last + 1 < now);
        let Some(first) = ended.min_by_key(|(_, ring)| ring.last).map(|(key, _)| key.clone()) else {
            return false;
        };
        self.rings.remove(&first);
        true
    }

    /// Number of series.
    #[must_use]
    pub fn num_series(&self) -> usize {
        self.rings.len()
    }

    /// The seconds that `since` seconds up to now are, in whole steps; empty before the first observation.
    #[must_use]
    pub fn range(&self, since: u64, step: u64) -> Range<u64> {
        let Some(now) = self.now else { return 0..0 };
        let end = now + 1;
        let whole_steps = since.min(CAPACITY).min(end) / step.max(1) * step.max(1);
        end - whole_steps..end
    }

    /// The means over each step of the range, for every series that `wanted` takes and that has a number in it; by key.
    pub fn read(
        &self,
        range: Range<u64>,
        step: u64,
        wanted: impl Fn(&Key) -> bool,
    ) -> Vec<(&Key, Vec<Option<f32>>)> {
        let step = usize::try_from(step.max(1)).unwrap_or(usize::MAX);
        let series = self.rings.iter().filter(|(key, _)| wanted(key)).map(|(key, ring)| {
            let values: Vec<_> = range.clone().map(|second| ring.values[slot(second)]).collect();
            (key, values.chunks(step).map(mean).collect::<Vec<_>>())
        });
        series.filter(|(_, values)| values.iter().any(Option::is_some)).collect()
    }
}

impl History {
    /// The same as [`Self::read`], as programs are shown it. `zero_unix_ms` is when second 0 began.
    pub fn shown(
        &self,
        range: Range<u64>,
        step: u64,
        zero_unix_ms: u64,
        wanted: impl Fn(&Key) -> bool,
    ) -> Series {
        let start_unix_ms = zero_unix_ms + range.start * 1000;
        let series = self.read(range, step, wanted).into_iter().map(|(key, values)| {
            let scope = key.metric.scope();
            let pipeline = key.subject.split('/').next().map(str::to_owned);
            let subject_of = |wanted: Scope| (scope == wanted).then(|| key.subject.clone());
            OneSeries {
                metric: key.metric.as_str().to_owned(),
                pipeline: pipeline.filter(|_| scope != Scope::Node),
                deployment: subject_of(Scope::Deployment),
                node: subject_of(Scope::Node),
                values,
            }
        });
        Series { start_unix_ms, step_ms: step * 1000, series: series.collect() }
    }
}

/// The mean of the numbers there are.
fn mean(values: &[f32]) -> Option<f32> {
    let (mut sum, mut count) = (0.0_f64, 0_u32);
    for value in values.iter().filter(|value| !value.is_nan()) {
        sum += f64::from(*value);
        count += 1;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a mean of 32-bit numbers is within their range")]
    let mean = (sum / f64::from(count)) as f32;
    (count > 0).then_some(mean)
}

fn slots() -> usize {
    usize::try_from(CAPACITY).expect("3600 is within every usize")
}

fn slot(second: u64) -> usize {
    usize::try_from(second % CAPACITY).expect("below 3600")
}

/// What is kept of the cluster's numbers.
pub fn samples(numbers: &Numbers) -> impl Iterator<Item = (Key, f32)> {
    let deployments = numbers.deployments.iter().flat_map(|numbers| {
        let subject = numbers.deployment.to_string();
        let values = [
            (Metric::Ongoing, number(numbers.ongoing)),
            (Metric::Queued, number(numbers.queued)),
            (Metric::Target, number(numbers.target_replicas.into())),
            (Metric::Desired, number(numbers.desired_replicas.into())),
            (Metric::Ready, number(numbers.ready_replicas.into())),
        ];
        values.map(|(metric, value)| (Key { metric, subject: subject.clone() }, value))
    });
    let nodes = numbers.nodes.iter().filter(|node| !node.devices.is_empty()).map(|node| {
        let booked: f64 = node.devices.iter().map(|(_, booked)| booked).sum();
        #[expect(clippy::cast_possible_truncation, reason = "a sum of a few shares")]
        let booked = booked as f32;
        (Key { metric: Metric::GpuBooked, subject: node.name.clone() }, booked)
    });
    let pipelines = numbers.pipelines.iter().flat_map(|numbers| {
        let subject = numbers.pipeline.to_string();
        let lately = &numbers.lately;
        let values = [
            (Metric::FailedPerSecond, Some(lately.per_second() * lately.failed_ratio())),
            (Metric::P50Ms, lately.quantile_ms(50)),
            (Metric::P99Ms, lately.quantile_ms(99)),
        ];
        #[expect(clippy::cast_possible_truncation, reason = "drawn in pixels")]
        let sample = |(metric, value): (Metric, Option<f64>)| {
            Some((Key { metric, subject: subject.clone() }, value? as f32))
        };
        values.map(sample).into_iter().flatten().collect::<Vec<_>>()
    });
    deployments.chain(pipelines).chain(nodes)
}

/// What has ended in the cluster since the head began to count.
pub fn totals(numbers: &Numbers) -> impl Iterator<Item = (Key, u64)> {
    let calls = numbers.deployments.iter().map(|numbers| {
        let subject = numbers.deployment.to_string();
        (Key { metric: Metric::CallsPerSecond, subject }, numbers.calls_ended)
    });
    let requests = numbers.pipelines.iter().map(|numbers| {
        let subject = numbers.pipeline.to_string();
        (Key { metric: Metric::RequestsPerSecond, subject }, numbers.requests_ended)
    });
    calls.chain(requests)
}

/// Turns counts that only grow into what they grow by in a second.
#[derive(Debug, Default)]
pub struct Rates {
    before: Option<(Duration, BTreeMap<Key, u64>)>,
}

impl Rates {
    /// What the counts have grown by each second since the last time. Nothing at first: who begins to look does not know
    /// how long that took.
    pub fn observe(&mut self, now: Duration, totals: impl Iterator<Item = (Key, u64)>) -> Vec<(Key, f32)> {
        let totals: BTreeMap<Key, u64> = totals.collect();
        let mut rates = Vec::new();
        if let Some((at, before)) = &self.before {
            let elapsed = now.saturating_sub(*at).as_secs_f32();
            if elapsed <= 0.0 {
                return rates;
            }
            for (key, total) in &totals {
                let known = before.get(key).copied().unwrap_or(0);
                // A reconciler that was restarted counts from the start.
                let grown = total.checked_sub(known).unwrap_or(*total);
                rates.push((key.clone(), number(grown) / elapsed));
            }
        }
        self.before = Some((now, totals));
        rates
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 16 million, and drawn in pixels")]
fn number(count: u64) -> f32 {
    count as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(subject: &str) -> Key {
        Key { metric: Metric::Ongoing, subject: subject.to_owned() }
    }

    fn read(history: &History, since: u64, step: u64) -> Vec<(String, Vec<Option<f32>>)> {
        let range = history.range(since, step);
        history
            .read(range, step, |_| true)
            .into_iter()
            .map(|(key, values)| (key.subject.clone(), values))
            .collect()
    }

    #[test]
    fn seconds_come_back_as_they_were_and_missed_ones_are_empty() {
        let mut history = History::default();
        assert_eq!(read(&history, 10, 1), []);
        for (second, value) in [(100, 1.0), (101, 2.0), (104, 4.0)] {
            history.observe(second, [(key("a/b"), value)]);
        }
        history.observe(103, [(key("a/b"), 9.0)]);
        let expected = vec![Some(1.0), Some(2.0), None, None, Some(4.0)];
        assert_eq!(read(&history, 5, 1), [("a/b".to_owned(), expected)]);
    }

    #[test]
    fn counts_become_rates_also_when_a_second_was_missed_or_counting_began_anew() {
        /// A time, the totals then, and the rates that follow.
        type Row = (f32, &'static [(&'static str, u64)], &'static [(&'static str, f32)]);
        let mut rates = Rates::default();
        let table: [Row; 6] = [
            (10.0, &[("a", 100)], &[]),
            (11.0, &[("a", 107)], &[("a", 7.0)]),
            (13.0, &[("a", 107), ("b", 6)], &[("a", 0.0), ("b", 3.0)]),
            (13.5, &[("a", 110), ("b", 6)], &[("a", 6.0), ("b", 0.0)]),
            (14.5, &[("a", 4)], &[("a", 4.0)]),
            (14.5, &[("a", 9)], &[]),
        ];
        for (at, totals, expected) in table {
            let totals = totals.iter().map(|(subject, total)| (key(subject), *total));
            let found = rates.observe(Duration::from_secs_f32(at), totals);
            let found: Vec<_> = found.iter().map(|(key, rate)| (key.subject.as_str(), *rate)).collect();
            assert_eq!(found, expected, "{at}");
        }
    }

    #[test]
    fn steps_are_means_of_what_there_is() {
        let mut history = History::default();
        for (second, value) in [(1, 1.0), (2, 3.0), (3, 5.0), (6, 8.0)] {
            history.observe(second, [(key("a/b"), value)]);
        }
        // 7 seconds were asked for, three whole steps of two fit: 1 and 2, 3 and 4, 5 and 6.
        assert_eq!(history.range(7, 2), 1..7);
        assert_eq!(read(&history, 7, 2)[0].1, [Some(2.0), Some(5.0), Some(8.0)]);
    }

    #[test]
    fn an_hour_is_kept_and_what_ended_before_it_is_forgotten() {
        let mut history = History::default();
        history.observe(0, [(key("old"), 1.0), (key("new"), 1.0)]);
        for second in 1..=CAPACITY {
            history.observe(second, [(key("new"), 2.0)]);
        }
        assert_eq!(history.num_series(), 1);
        let values = &read(&history, u64::MAX, 1)[0].1;
        assert_eq!(values.len(), slots());
        assert!(values.iter().all(|value| *value == Some(2.0)));
    }

    #[test]
    fn a_long_pause_leaves_no_old_numbers_behind() {
        let mut history = History::default();
        for second in 0..100 {
            history.observe(second, [(key("a"), 1.0)]);
        }
        history.observe(50 + CAPACITY, [(key("a"), 5.0)]);
        let values = &read(&history, CAPACITY, 1)[0].1;
        let there: Vec<_> = values.iter().flatten().copied().collect();
        assert_eq!(there.len(), 50, "of the first hundred seconds the last 49 are within the hour, and now");
        assert_eq!(there.last(), Some(&5.0));
    }

    #[test]
    fn the_number_of_series_is_bounded_and_ended_ones_give_way() {
        let mut history = History::default();
        let many = |range: Range<usize>| range.map(|n| (key(&format!("s{n}")), 1.0)).collect::<Vec<_>>();
        history.observe(1, many(0..MAX_SERIES + 100));
        assert_eq!(history.num_series(), MAX_SERIES);
        history.observe(2, many(0..MAX_SERIES - 10));
        history.observe(3, many(0..MAX_SERIES - 10));
        history.observe(4, many(5000..5020).into_iter().chain(many(0..MAX_SERIES - 10)));
        assert_eq!(history.num_series(), MAX_SERIES);
        let fresh = read(&history, 1, 1)
            .iter()
            .filter(|(name, _)| name.len() == 5 && name.starts_with("s50"))
            .count();
        assert_eq!(fresh, 10, "those that came while all others went on were left out");
    }
}
