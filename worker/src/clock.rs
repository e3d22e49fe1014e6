//! The only place of this crate that reads the clock; decisions get the time as an argument.

use std::time::Instant;

/// The time now.
pub(crate) fn now() -> Instant {
    Instant::now()
}
