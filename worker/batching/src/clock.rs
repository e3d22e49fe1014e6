//! The one place where this crate reads the clock.

use std::time::Instant;

/// The present instant.
pub(crate) fn now() -> Instant {
    Instant::now()
}
