//! What requests may hold in memory together: their bodies, the values made of them, and their answers. Without it the bound would be that of one request
//! times the number of connections and streams.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What every value takes in memory, whatever it is.
pub(crate) const VALUE_BYTES: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct ByteBudget {
    max: usize,
    used: AtomicUsize,
}

impl ByteBudget {
    /// So many bytes at a time.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, used: AtomicUsize::new(0) }
    }

    /// Takes bytes; says whether there were as many.
    pub(crate) fn take(&self, num_bytes: usize) -> bool {
        let before = self.used.fetch_add(num_bytes, Ordering::Relaxed);
        let fits = before.saturating_add(num_bytes) <= self.max;
        if !fits {
            self.give_back(num_bytes);
        }
        fits
    }

    /// Takes bytes that are there already, whether or not they fit: what comes next is refused instead.
    pub(crate) fn take_anyway(&self, num_bytes: usize) {
        self.used.fetch_add(num_bytes, Ordering::Relaxed);
    }

    /// Returns bytes.
    pub(crate) fn give_back(&self, num_bytes: usize) {
        self.used.fetch_sub(num_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let budget = ByteBudget::new(100);
        assert!(budget.take(60) && budget.take(40));
        assert!(!budget.take(1));
        budget.give_back(40);
        assert!(!budget.take(41) && budget.take(40));
        budget.take_anyway(50);
        budget.give_back(100);
        assert!(!budget.take(51) && budget.take(50));
    }
}
