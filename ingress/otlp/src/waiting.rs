//! Traces that wait for the collector, in the bytes that they will be sent in.
//!
//! A trace is written where its request has ended: its spans, their names and attributes are a hundred small pieces of memory, which
//! go back at once to the thread that took them, while they are still in its cache. What waits is a few large ones.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Bytes that wait for the collector. What comes beyond is dropped and counted.
const MAX_WAITING_BYTES: usize = 16 << 20;
/// Bytes that go out together: collectors take at least four times as much. A larger trace goes alone.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<Batches>);

#[derive(Debug, Default)]
struct Batches {
    /// Those that are whole, and the one that is filled.
    batches: VecDeque<Vec<u8>>,
    num_bytes: usize,
    /// Traces that were too many.
    num_dropped: u64,
}

/// What a trace has done to what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is the first one of a batch: somebody should look after it.
    Begins,
    /// It has joined others.
    Joins,
    /// It was dropped.
    Dropped,
}

impl Waiting {
    /// Adds a trace.
    pub(crate) fn add(&self, trace: Vec<u8>) -> Added {
        let Batches { batches, num_bytes, num_dropped } = &mut *self.0.lock();
        if *num_bytes + trace.len() > MAX_WAITING_BYTES {
            *num_dropped += 1;
            return Added::Dropped;
        }
        *num_bytes += trace.len();
        match batches.back_mut() {
            Some(last) if last.len() + trace.len() <= MAX_BATCH_BYTES => {
                last.extend(trace);
                Added::Joins
            }
            _ => {
                batches.push_back(trace);
                Added::Begins
            }
        }
    }

    /// The batch that has waited longest.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let Batches { batches, num_bytes, .. } = &mut *self.0.lock();
        let batch = batches.pop_front()?;
        *num_bytes -= batch.len();
        Some(batch)
    }

    /// How many traces were dropped since it was asked last.
    pub(crate) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.0.lock().num_dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_go_out_together_and_none_is_cut() {
        let waiting = Waiting::default();
        let add = |num_bytes| waiting.add(vec![1; num_bytes]);
        assert_eq!(
            [add(600), add(400), add(MAX_BATCH_BYTES - 999)],
            [Added::Begins, Added::Joins, Added::Begins]
        );
        assert_eq!(add(2 * MAX_BATCH_BYTES), Added::Begins, "larger than a batch");
        let taken = std::iter::from_fn(|| waiting.take()).map(|batch| batch.len()).collect::<Vec<_>>();
        assert_eq!(taken, [1000, MAX_BATCH_BYTES - 999, 2 * MAX_BATCH_BYTES]);
    }

    #[test]
    fn what_is_too_much_is_dropped_and_counted() {
        let waiting = Waiting::default();
        let half = || waiting.add(vec![1; MAX_WAITING_BYTES / 2]);
        assert_eq!([half(), half(), half()], [Added::Begins, Added::Begins, Added::Dropped]);
        assert_eq!([waiting.take_dropped(), waiting.take_dropped()], [1, 0]);
        assert!(waiting.take().is_some());
        assert_eq!(half(), Added::Begins);
    }
}
