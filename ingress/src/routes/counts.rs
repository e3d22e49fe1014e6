//! How requests on one revision of a pipeline ended since the head was last told. Counters, shared by all requests.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use millstream_proto::ErrorClass;
use millstream_proto::durations::{NUM_BUCKETS, bucket};
use millstream_proto::v1;

use crate::metrics::{Tallied, Tally};

/// Who set the time that a request had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeadlineOf {
    /// The pipeline, or the limits of this edge.
    Pipeline,
    /// The client, and it gave less than the pipeline does.
    Client,
}

/// How often something took so long, by bucket.
type Durations = [AtomicU32; NUM_BUCKETS];

/// Counts of one revision; they outlive route tables.
#[derive(Debug)]
pub(crate) struct RequestCounts {
    answered: AtomicU64,
    /// How long those took, by bucket.
    durations: Durations,
    failed: AtomicU64,
    compared: AtomicU64,
    different: AtomicU64,
    copies_failed: AtomicU64,
    /// For clients that ask: answers and failures so far.
    tallies: [Tally; 2],
}

impl Default for RequestCounts {
    fn default() -> Self {
        let (answered, failed, compared, different, copies_failed) = Default::default();
        let durations = [const { AtomicU32::new(0) }; NUM_BUCKETS];
        let tallies = Default::default();
        Self { answered, durations, failed, compared, different, copies_failed, tallies }
    }
}

fn take_durations(durations: &Durations) -> Vec<v1::DurationCount> {
    let buckets = durations.iter().zip(0..).filter(|(count, _)| count.load(Ordering::Relaxed) > 0);
    let taken = buckets
        .map(|(count, bucket)| v1::DurationCount { bucket, count: count.swap(0, Ordering::Relaxed).into() });
    taken.collect()
}

impl RequestCounts {
    /// A request had its response after that time.
    pub(crate) fn answered(&self, took: Duration) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.tallies[0].add(took);
        self.durations[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// A request failed. What the client is to blame for, its own short deadline too, and a queue that is full say nothing
    /// about the revision.
    pub(crate) fn failed(&self, class: ErrorClass, deadline: DeadlineOf) {
        use ErrorClass::{DeadlineExceeded, Internal, Unavailable};
        self.tallies[1].add(Duration::ZERO);
        let is_revisions = match class {
            Internal | Unavailable => true,
            DeadlineExceeded => deadline == DeadlineOf::Pipeline,
            _ => false,
        };
        if is_revisions {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Answers and failures so far, whoever is to blame for those; their times are not counted.
    pub(crate) fn tallied(&self) -> (Tallied, Tallied) {
        let [answered, failed] = &self.tallies;
        (answered.read(), failed.read())
    }

    /// A copy ended: whether its answer was the client's, `None` when it failed.
    pub(crate) fn compared(&self, same: Option<bool>) {
        let counter = match same {
            None => &self.copies_failed,
            Some(_) => &self.compared,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if same == Some(false) {
            self.different.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted of requests since this was last asked.
    pub(crate) fn take_outcomes(&self, revision: u64) -> Option<v1::Outcomes> {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let (answered, failed) = (take(&self.answered), take(&self.failed));
        (answered + failed > 0).then(|| v1::Outcomes {
            revision,
            answered,
            failed,
            durations: take_durations(&self.durations),
        })
    }

    /// What was counted of copies since this was last asked.
    pub(crate) fn take_shadow(&self, revision: u64) -> Option<v1::ShadowOutcomes> {
        let take = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        let (compared, different, failed) =
            (take(&self.compared), take(&self.different), take(&self.copies_failed));
        let any = compared + failed > 0;
        any.then_some(v1::ShadowOutcomes { revision, compared, different, failed })
    }
}

/// Counts of one stage; they go with the revision.
#[derive(Debug)]
pub(crate) struct StageCounts {
    /// How long its calls took, by bucket.
    durations: Durations,
    failed: AtomicU64,
}

impl Default for StageCounts {
    fn default() -> Self {
        Self { durations: [const { AtomicU32::new(0) }; NUM_BUCKETS], failed: AtomicU64::new(0) }
    }
}

impl StageCounts {
    /// A call has ended after that time.
    pub(crate) fn called(&self, took: Duration) {
        self.durations[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// It has failed, whether or not the request does.
    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted since this was last asked.
    pub(crate) fn take(&self, stage: &str) -> Option<v1::StageOutcomes> {
        let failed = self.failed.swap(0, Ordering::Relaxed);
        let durations = take_durations(&self.durations);
        let any = failed > 0 || !durations.is_empty();
        any.then(|| v1::StageOutcomes { stage: stage.to_owned(), failed, durations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_told_once() {
        let counts = RequestCounts::default();
        assert_eq!((counts.take_outcomes(1), counts.take_shadow(1)), (None, None));
        counts.answered(Duration::from_micros(8));
        for class in
            [ErrorClass::Internal, ErrorClass::Invalid, ErrorClass::Overloaded, ErrorClass::Cancelled]
        {
            counts.failed(class, DeadlineOf::Pipeline);
        }
        for deadline in [DeadlineOf::Pipeline, DeadlineOf::Client] {
            counts.failed(ErrorClass::DeadlineExceeded, deadline);
        }
        for same in [Some(true), Some(false), None] {
            counts.compared(same);
        }
        assert_eq!(
            counts.take_outcomes(3),
            Some(v1::Outcomes {
                revision: 3,
                answered: 1,
                failed: 2,
                durations: vec![v1::DurationCount { bucket: 12, count: 1 }],
            })
        );
        let shadow = v1::ShadowOutcomes { revision: 3, compared: 2, different: 1, failed: 1 };
        assert_eq!(counts.take_shadow(3), Some(shadow));
        assert_eq!((counts.take_outcomes(3), counts.take_shadow(3)), (None, None));
    }
}
