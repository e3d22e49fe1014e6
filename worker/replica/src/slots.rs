//! How many calls a replica has, and whether it takes more: one atomic word, so that admission and closing can never
//! miss one another, and no lock on the request path.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The bit that says that no more calls are taken; the others count the ongoing ones.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// Places for calls in one replica.
#[derive(Debug)]
pub(crate) struct Slots {
    word: AtomicUsize,
    max: AtomicUsize,
    emptied: Notify,
}

/// Why there is no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `max_ongoing_requests` are under way.
    Full,
    /// The replica drains or has ended.
    Closed,
}

impl Slots {
    /// Open, with room for `max` calls.
    pub(crate) fn new(max: u32) -> Arc<Self> {
        let slots = Self { word: AtomicUsize::new(0), max: AtomicUsize::new(1), emptied: Notify::new() };
        slots.set_max(max);
        Arc::new(slots)
    }

    /// Makes room for `max` calls from now on; those that are in stay.
    pub(crate) fn set_max(&self, max: u32) {
        let max = usize::try_from(max).unwrap_or(usize::MAX).clamp(1, CLOSED - 1);
        self.max.store(max, Ordering::Relaxed);
    }

    /// Takes a slot, which is given back when it is dropped.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Slot, Refusal> {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & CLOSED != 0 {
                return Err(Refusal::Closed);
            }
            if word >= self.max.load(Ordering::Relaxed) {
                return Err(Refusal::Full);
            }
            match self.word.compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(Slot { slots: self.clone() }),
                Err(current) => word = current,
            }
        }
    }

    /// Calls under way.
    pub(crate) fn ongoing(&self) -> usize {
        self.word.load(Ordering::Acquire) & !CLOSED
    }

    /// Takes no more calls, for good.
    pub(crate) fn close(&self) {
        if self.word.fetch_or(CLOSED, Ordering::AcqRel) & !CLOSED == 0 {
            self.emptied.notify_waiters();
        }
    }

    /// Waits until it is closed and the last call is over.
    pub(crate) async fn closed_and_empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // Listen before looking, so that a change in between is not missed.
            emptied.as_mut().enable();
            if self.word.load(Ordering::Acquire) == CLOSED {
                return;
            }
            emptied.await;
        }
    }
}

/// One call's place.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
}

/// A place that is given back once, by whoever comes first: the call's end, or its caller's leaving. What a caller that
/// has left still has in the engine counts no more: the place is free for another call.
#[derive(Debug, Clone)]
pub(crate) struct SharedSlot(Arc<Mutex<Option<Slot>>>);

impl SharedSlot {
    /// The place, to be held by both ends of a call.
    pub(crate) fn new(slot: Slot) -> Self {
        Self(Arc::new(Mutex::new(Some(slot))))
    }

    /// Returns the place; `false` where that has been done.
    pub(crate) fn give_back(&self) -> bool {
        self.0.lock().take().is_some()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.slots.word.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1 {
            self.slots.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_limit_is_hard_and_dropping_gives_back() {
        let slots = Slots::new(2);
        let first = slots.take().unwrap();
        let _second = slots.take().unwrap();
        assert_eq!(slots.take().unwrap_err(), Refusal::Full);
        drop(first);
        assert_eq!(slots.ongoing(), 1);
        assert!(slots.take().is_ok());
    }

    #[test]
    fn a_shared_place_is_given_back_once() {
        let slots = Slots::new(2);
        let _other = slots.take().unwrap();
        let (end, caller) = {
            let slot = SharedSlot::new(slots.take().unwrap());
            (slot.clone(), slot)
        };
        assert!(caller.give_back());
        assert_eq!(slots.ongoing(), 1);
        assert!(!end.give_back());
        assert_eq!(slots.ongoing(), 1);
    }

    #[test]
    fn a_new_limit_counts_from_now_on() {
        let slots = Slots::new(2);
        let _both = (slots.take().unwrap(), slots.take().unwrap());
        slots.set_max(3);
        let _third = slots.take().unwrap();
        slots.set_max(1);
        assert_eq!(slots.take().unwrap_err(), Refusal::Full);
        assert_eq!(slots.ongoing(), 3);
    }

    #[test]
    fn the_limit_holds_under_contention() {
        let slots = Slots::new(3);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let slot = slots.take();
                        assert!(slots.ongoing() <= 3);
                        drop(slot);
                    }
                });
            }
        });
        assert_eq!(slots.ongoing(), 0);
    }

    #[tokio::test]
    async fn closing_refuses_at_once_and_waits_for_the_last_call() {
        let slots = Slots::new(8);
        let slot = slots.take().unwrap();
        slots.close();
        assert_eq!(slots.take().unwrap_err(), Refusal::Closed);
        assert_eq!(slots.ongoing(), 1);
        let waiting = tokio::time::timeout(Duration::from_millis(20), slots.closed_and_empty());
        assert!(waiting.await.is_err());
        let waiting = tokio::spawn({
            let slots = slots.clone();
            async move { slots.closed_and_empty().await }
        });
        tokio::task::yield_now().await;
        drop(slot);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn closing_an_empty_one_is_seen_by_who_waits_already() {
        let slots = Slots::new(8);
        let waiting = tokio::spawn({
            let slots = slots.clone();
            async move { slots.closed_and_empty().await }
        });
        tokio::task::yield_now().await;
        slots.close();
        waiting.await.unwrap();
    }
}
