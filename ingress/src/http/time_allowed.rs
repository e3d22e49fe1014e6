//! How long a request may take.

use std::time::Duration;

use crate::limits::RequestLimits;
use crate::routes::DeadlineOf;

/// How long a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) time: Duration,
    pub(super) by: DeadlineOf,
}

/// What the client asks for, else what the pipeline says, within the limits.
pub(super) fn allowed(
    asked: Option<Duration>,
    pipeline: Option<Duration>,
    limits: &RequestLimits,
) -> Allowed {
    let usual = pipeline.unwrap_or(limits.default_deadline).min(limits.max_deadline);
    let time = asked.unwrap_or(usual).min(limits.max_deadline);
    Allowed { time, by: if time < usual { DeadlineOf::Client } else { DeadlineOf::Pipeline } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_decides_then_the_pipeline_then_the_default_within_the_limit() {
        let seconds = Duration::from_secs;
        let table = [
            (None, None, 60, DeadlineOf::Pipeline),
            (None, Some(10), 10, DeadlineOf::Pipeline),
            (Some(2), Some(10), 2, DeadlineOf::Client),
            (Some(10), Some(10), 10, DeadlineOf::Pipeline),
            (Some(20), Some(10), 20, DeadlineOf::Pipeline),
            (Some(9999), None, 600, DeadlineOf::Pipeline),
            (Some(30), None, 30, DeadlineOf::Client),
        ];
        for (asked, pipeline, time, by) in table {
            let allowed = allowed(asked.map(seconds), pipeline.map(seconds), &RequestLimits::default());
            assert_eq!(allowed, Allowed { time: seconds(time), by });
        }
    }
}
