//! The one place of this crate that reads a clock. It follows tokio's, so that tests may pause it.

use std::time::Instant;

/// The present instant.
#[must_use]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
