//! Ongoing requests over time, as reporters told them: one step function each, bounded in size, summed when read.
//!
//! A report holds until the next one of the same reporter. Before its first report a reporter counts as having nothing;
//! time before anybody could report is not known and enters no average. A reporter that is gone drops out, its past too.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

/// Most steps kept of a reporter; beyond, neighbours are merged into their mean.
const MAX_POINTS: usize = 512;
/// Parts of a request that values are kept in, so that sums are exact and means of steps keep three digits.
const MILLI: u64 = 1000;

/// Requests of a deployment at one reporter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Load {
    /// Sent to replicas, not yet answered.
    pub ongoing: u64,
    /// Waiting.
    pub queued: u64,
    /// Requests that have begun since the report before: short ones may begin and end between two.
    pub arrived: u64,
}

/// From this time on, this many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Point {
    /// The time.
    pub at: Duration,
    /// Thousandths of requests.
    pub milli: u64,
}

/// What one reporter said.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
struct Series {
    points: VecDeque<Point>,
    queued: u64,
}

/// What all reporters said about one deployment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct History<R: Ord> {
    reporters: BTreeMap<R, Series>,
    last_active: Option<Duration>,
}

impl<R: Ord> Default for History<R> {
    fn default() -> Self {
        Self { reporters: BTreeMap::new(), last_active: None }
    }
}

impl<R: Ord + Clone> History<R> {
    /// Takes a report. Steps that ended more than `look_back` ago are dropped. Costs the steps kept of that reporter at
    /// most, a constant on average.
    pub fn record(&mut self, reporter: &R, load: Load, look_back: Duration, now: Duration) {
        let milli = load.ongoing.saturating_add(load.queued).saturating_mul(MILLI);
        if milli > 0 || load.arrived > 0 || self.current(reporter) > 0 {
            self.last_active = Some(now);
        }
        if milli == 0 && !self.reporters.contains_key(reporter) {
            return;
        }
        let series = self.reporters.entry(reporter.clone()).or_default();
        series.queued = load.queued;
        series.push(Point { at: now, milli }, look_back);
        if series.is_over(look_back, now) {
            self.reporters.remove(reporter);
        }
    }

    /// A reporter is gone: what it said no longer counts.
    pub fn forget(&mut self, reporter: &R) {
        self.reporters.remove(reporter);
    }

    /// Drops reporters whose last requests ended more than `look_back` ago.
    pub fn prune(&mut self, look_back: Duration, now: Duration) {
        self.reporters.retain(|_, series| !series.is_over(look_back, now));
    }

    fn current(&self, reporter: &R) -> u64 {
        self.reporters.get(reporter).map_or(0, Series::current)
    }

    /// Requests by the latest reports, waiting ones included.
    #[must_use]
    pub fn ongoing_now(&self) -> u64 {
        self.reporters.values().map(Series::current).sum::<u64>() / MILLI
    }

    /// Waiting requests by the latest reports.
    #[must_use]
    pub fn queued_now(&self) -> u64 {
        self.reporters.values().map(|series| series.queued).sum()
    }

    /// When somebody last reported a request, or the end of the last one.
    #[must_use]
    pub fn last_active(&self) -> Option<Duration> {
        self.last_active
    }

    /// Time-weighted mean of the sum over the last `look_back`, or over the part of it that began at `known_since`:
    /// what was before is not known. The present value when no time has passed.
    #[must_use]
    pub fn mean(&self, look_back: Duration, known_since: Duration, now: Duration) -> f64 {
        let from = now.saturating_sub(look_back).max(known_since).min(now);
        let length = (now - from).as_micros();
        if length == 0 {
            return requests(u128::from(self.reporters.values().map(Series::current).sum::<u64>()), 1);
        }
        let area: u128 = self.reporters.values().map(|series| series.area(from, now)).sum();
        requests(area, length)
    }

    /// Until when the mean may change although nobody reports anything new.
    #[must_use]
    pub fn moves_until(&self, look_back: Duration) -> Option<Duration> {
        let last_steps = self.reporters.values().filter_map(|series| series.points.back());
        last_steps.map(|point| point.at + look_back).max()
    }

    /// Whether nobody has any request, now or within what is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reporters.is_empty()
    }

    /// The sum as one step function, for people and tests.
    #[must_use]
    pub fn merged(&self) -> Vec<Point> {
        let mut changes: Vec<(Duration, i128)> = Vec::new();
        for series in self.reporters.values() {
            let mut before = 0;
            for point in &series.points {
                changes.push((point.at, i128::from(point.milli) - before));
                before = i128::from(point.milli);
            }
        }
        changes.sort_by_key(|&(at, _)| at);
        let mut merged: Vec<Point> = Vec::new();
        let mut sum = 0;
        for (at, change) in changes {
            sum += change;
            let milli = u64::try_from(sum).unwrap_or(0);
            match merged.last_mut() {
                Some(last) if last.at == at => last.milli = milli,
                _ => merged.push(Point { at, milli }),
            }
        }
        merged
    }
}

/// Thousandths over a length, in requests.
fn requests(milli: u128, length: u128) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "15 digits are more than any report has")]
    let mean = milli as f64 / length as f64;
    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    let unit = MILLI as f64;
    mean / unit
}

impl Series {
    fn current(&self) -> u64 {
        self.points.back().map_or(0, |point| point.milli)
    }

    fn push(&mut self, point: Point, look_back: Duration) {
        match self.points.back_mut() {
            Some(last) if last.milli == point.milli => {}
            Some(last) if last.at >= point.at => last.milli = point.milli,
            _ => self.points.push_back(point),
        }
        let start = point.at.saturating_sub(look_back);
        // The step that reaches into the window stays.
        while self.points.get(1).is_some_and(|second| second.at <= start) {
            self.points.pop_front();
        }
        if self.points.len() > MAX_POINTS {
            self.thin();
        }
    }

    /// Merges neighbours pairwise; the newest steps stay as they are.
    fn thin(&mut self) {
        let old: Vec<_> = std::mem::take(&mut self.points).into();
        let (early, late) = old.split_at(MAX_POINTS / 2);
        for (index, pair) in early.chunks(2).enumerate() {
            let [first, second] = pair else {
                self.points.extend(pair);
                continue;
            };
            let end = old[index * 2 + 2].at;
            let (one, two) = ((second.at - first.at).as_micros(), (end - second.at).as_micros());
            let area = u128::from(first.milli) * one + u128::from(second.milli) * two;
            let mean = (area + (one + two) / 2).checked_div(one + two).unwrap_or(u128::from(second.milli));
            self.points.push_back(Point { at: first.at, milli: u64::try_from(mean).unwrap_or(u64::MAX) });
        }
        self.points.extend(late);
    }

    /// Thousandths × microseconds between two times.
    fn area(&self, from: Duration, to: Duration) -> u128 {
        let ends = self.points.iter().skip(1).map(|point| point.at).chain([Duration::MAX]);
        let steps = self.points.iter().zip(ends);
        let overlap = |(point, end): (&Point, Duration)| {
            let length = end.min(to).saturating_sub(point.at.max(from));
            u128::from(point.milli) * length.as_micros()
        };
        steps.map(overlap).sum()
    }

    /// Whether all that it could add to a mean is nothing.
    fn is_over(&self, look_back: Duration, now: Duration) -> bool {
        self.points.back().is_none_or(|last| last.milli == 0 && last.at + look_back <= now)
    }
}

#[cfg(test)]
mod tests;
