//! The bounds on requests and times.

use std::time::Duration;

use crate::fault::FaultSink;
use crate::raw::Reader;
use crate::{Batch, EngineKind, Limits};

/// Fewest calls in a replica by default.
const DEFAULT_ONGOING: u32 = 16;
/// Calls in an echo replica by default.
const ECHO_ONGOING: u32 = 64;

const MAX_REQUESTS: u32 = 1_000_000;
/// Less would end replicas that are only slow.
const MIN_STEP_TIMEOUT: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);

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
        step_timeout: table.duration("step_timeout", MIN_STEP_TIMEOUT..=DAY, faults),
        max_surge: table.int("max_surge", 0..=10_000, faults).unwrap_or(1),
        idempotent: table.bool("idempotent", faults).unwrap_or(true),
    }
}
