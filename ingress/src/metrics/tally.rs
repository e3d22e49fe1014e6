//! Counts that are asked for by clients: how often something was, and how long all of it took.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    count: AtomicU64,
    nanos: AtomicU64,
}

/// What was counted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tallied {
    /// How often.
    pub count: u64,
    /// All of it together.
    pub nanos: u64,
}

impl Tally {
    /// One more, which took so long.
    pub(crate) fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn read(&self) -> Tallied {
        Tallied { count: self.count.load(Ordering::Relaxed), nanos: self.nanos.load(Ordering::Relaxed) }
    }
}
