//! Bounds and words that several tables of a file share.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Longest deadline that a file may set.
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// Shortest.
pub(super) const MIN_TIMEOUT: Duration = Duration::from_millis(1);
/// Bounds of the bound on bodies: what is larger than the largest does not fit a message between processes.
pub(super) const MAX_BODY_BOUNDS: RangeInclusive<u64> = (1 << 10)..=(64 << 20);
/// How names are written.
pub(super) const NAME_HELP: &str =
    "use lower-case letters, digits, `_` and `-`, a letter first, at most 63 characters";
