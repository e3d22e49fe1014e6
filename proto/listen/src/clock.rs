//! The one place of this crate that reads a clock. It follows tokio's, so that tests may pause it.

use std::time::Instant;

/// The present instant.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that reads the clock")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
