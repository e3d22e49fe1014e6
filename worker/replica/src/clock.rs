//! The only place of this crate that reads the clock; decisions get the time as an argument.

use std::time::Instant;

/// The time now.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
