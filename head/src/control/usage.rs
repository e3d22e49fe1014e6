//! What API keys have used.

use millstream_core::usage::HOUR_MS;
use millstream_proto::usage::{UsageBy, UsageReport};

use super::Error;
use crate::clock;
use crate::leadership::Term;

/// What is shown when nobody says since when: a day.
const DEFAULT_LAST_MS: u64 = 24 * HOUR_MS;

/// What keys have used since then (milliseconds since the Unix epoch), told apart by the parts that `by` names.
pub(crate) fn report(term: &Term, since_ms: Option<u64>, by: Option<&str>) -> Result<UsageReport, Error> {
    let by = by.map(str::parse::<UsageBy>).transpose().map_err(|error| Error::Invalid(error.to_string()))?;
    let since_ms = since_ms.unwrap_or_else(|| ago(DEFAULT_LAST_MS));
    Ok(term.usage.report(by.unwrap_or_default(), since_ms))
}

/// So long ago, in milliseconds since the Unix epoch.
pub(crate) fn ago(last_ms: u64) -> u64 {
    clock::unix_ms().saturating_sub(last_ms)
}
