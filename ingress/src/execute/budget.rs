//! Counts active requests and retries under way, so that retries do not become the load.

use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::Notify;

use super::retry::within_budget;

/// Counts active requests and retries under way, for the whole ingress.
#[derive(Debug, Default)]
pub(crate) struct RetryBudget {
    active: AtomicU32,
    retrying: AtomicU32,
    /// Told when a retry gives its place back.
    freed: Notify,
}

impl RetryBudget {
    /// Counts a request until the guard is dropped.
    pub(crate) fn enter(&self) -> Active<'_> {
        self.active.fetch_add(1, Ordering::Relaxed);
        Active { budget: self }
    }

    /// Whether there are active requests.
    pub(crate) fn is_busy(&self) -> bool {
        self.active.load(Ordering::Relaxed) > 0
    }

    /// Takes a place for a retry until the guard is dropped; `None` when the budget is spent.
    pub(crate) fn retry(&self) -> Option<Retrying<'_>> {
        let active = self.active.load(Ordering::Relaxed);
        let taken = self.retrying.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |retrying| {
            within_budget(retrying, active).then_some(retrying + 1)
        });
        // Made only when the place was taken: it is given back when the guard is dropped.
        taken.is_ok().then(|| Retrying { budget: self })
    }

    /// Waits for a place.
    pub(crate) async fn retry_later(&self) -> Retrying<'_> {
        loop {
            let mut freed = pin!(self.freed.notified());
            // Listen before looking, so that a place that is given back in between is not missed.
            freed.as_mut().enable();
            if let Some(place) = self.retry() {
                return place;
            }
            freed.await;
        }
    }
}

/// An active request, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Active<'a> {
    budget: &'a RetryBudget,
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.budget.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A retry under way, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Retrying<'a> {
    budget: &'a RetryBudget,
}

impl Drop for Retrying<'_> {
    fn drop(&mut self) {
        self.budget.retrying.fetch_sub(1, Ordering::Relaxed);
        self.budget.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_is_a_fifth_of_the_active_requests_and_at_least_three() {
        for (active, expected) in [(0, 3), (1, 3), (15, 3), (20, 4), (100, 20)] {
            let budget = RetryBudget::default();
            let _active: Vec<_> = (0..active).map(|_| budget.enter()).collect();
            let taken: Vec<_> = std::iter::from_fn(|| budget.retry()).take(200).collect();
            assert_eq!(taken.len(), expected, "{active}");
            drop(taken);
            assert!(budget.retry().is_some(), "a retry that ended gives its place back");
        }
    }

    #[tokio::test]
    async fn who_waits_for_a_place_gets_the_next_one() {
        let budget = RetryBudget::default();
        let mut taken: Vec<_> = std::iter::from_fn(|| budget.retry()).take(3).collect();
        let mut waiting = std::pin::pin!(budget.retry_later());
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        taken.pop();
        assert!(futures_util::poll!(waiting.as_mut()).is_ready());
    }
}
