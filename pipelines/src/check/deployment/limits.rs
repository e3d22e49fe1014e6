//! How calls run together, and the bounds on requests and times.

use std::time::Duration;

use crate::fault::FaultSink;
use crate::raw::{RawValue, Reader};
use crate::{Batch, EngineKind, Limits};

/// Inputs in one batch unless the file says otherwise.
const DEFAULT_BATCH_SIZE: u32 = 32;
/// Fewest calls in a replica by default.
const DEFAULT_ONGOING: u32 = 16;
/// Calls in an echo replica by default.
const ECHO_ONGOING: u32 = 64;

const MAX_BATCH: u32 = 65_536;
const MAX_REQUESTS: u32 = 1_000_000;
const DAY: Duration = Duration::from_secs(86_400);

/// `batch = { max_size, max_wait, max_tokens, preferred_sizes }`.
pub(super) fn batch(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Batch {
    let mut batch = Batch {
        max_size: DEFAULT_BATCH_SIZE,
        max_wait: Duration::ZERO,
        max_tokens: None,
        preferred_sizes: Vec::new(),
    };
    let Some(mut keys) = table.table("batch", faults) else { return batch };
    let max_size = keys.int("max_size", 1..=MAX_BATCH, faults);
    let max_wait = keys.duration("max_wait", Duration::ZERO..=Duration::from_secs(60), faults);
    batch.max_tokens = keys.int("max_tokens", 1..=100_000_000, faults);
    batch.max_size = max_size.unwrap_or(batch.max_size);
    batch.max_wait = max_wait.unwrap_or_default();
    batch.preferred_sizes = preferred_sizes(&mut keys, batch.max_size, faults);
    keys.finish(faults);
    batch
}

/// Ascending sizes within the batch.
fn preferred_sizes(keys: &mut Reader<'_>, max_size: u32, faults: &mut FaultSink<'_>) -> Vec<u32> {
    let Some((_, raw)) = keys.raw("preferred_sizes") else { return Vec::new() };
    let RawValue::Array(items) = &raw.value else {
        keys.wrong_kind("preferred_sizes", raw, "an array such as `[4, 8]`", faults);
        return Vec::new();
    };
    let mut sizes: Vec<u32> = Vec::with_capacity(items.len());
    for item in items {
        let RawValue::Int(value) = item.value else {
            keys.wrong_kind("preferred_sizes", item, "a whole number", faults);
            continue;
        };
        let size = u32::try_from(value).ok().filter(|size| (1..=max_size).contains(size));
        match size {
            Some(size) if sizes.last().is_none_or(|&last| last < size) => sizes.push(size),
            Some(size) => faults.push(
                item.span.clone(),
                format!("{} has `{size}` after a size that is not smaller", keys.label("preferred_sizes")),
                "write the sizes in ascending order, each once",
            ),
            None => faults.push(
                item.span.clone(),
                format!("{} has `{value}`", keys.label("preferred_sizes")),
                format!("use sizes from 1 to `batch.max_size`, which is {max_size}"),
            ),
        }
    }
    sizes
}

/// The keys about requests and times.
pub(super) fn limits(
    table: &mut Reader<'_>,
    engine: EngineKind,
    batch: &Batch,
    faults: &mut FaultSink<'_>,
) -> Limits {
    // Twice the batch: one runs while the next one fills.
    let ongoing = if engine == EngineKind::Echo {
        ECHO_ONGOING
    } else {
        batch.max_size.saturating_mul(2).max(DEFAULT_ONGOING)
    };
    Limits {
        max_ongoing_requests: table.int("max_ongoing_requests", 1..=MAX_REQUESTS, faults).unwrap_or(ongoing),
        max_queued_requests: table.int("max_queued_requests", 0..=MAX_REQUESTS, faults),
        drain_timeout: table
            .duration("drain_timeout", Duration::ZERO..=DAY, faults)
            .unwrap_or(Duration::from_secs(30)),
        start_timeout: table
            .duration("start_timeout", Duration::from_millis(1)..=DAY, faults)
            .unwrap_or(Duration::from_secs(300)),
        max_surge: table.int("max_surge", 1..=10_000, faults).unwrap_or(1),
        idempotent: table.bool("idempotent", faults).unwrap_or(true),
    }
}
