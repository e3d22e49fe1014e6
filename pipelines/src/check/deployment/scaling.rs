//! `autoscaling`: a table, or `"auto"`.

use std::time::Duration;

use crate::Autoscaling;
use crate::fault::FaultSink;
use crate::raw::{RawValue, Reader, did_you_mean};

const MAX_REPLICAS: u32 = 10_000;
/// Most replicas of `autoscaling = "auto"`.
const AUTO_MAX_REPLICAS: u32 = 100;
const HOUR: Duration = Duration::from_secs(3600);

/// Reads the key; without it there is one replica.
pub(super) fn autoscaling(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Autoscaling {
    let defaults = Autoscaling::default();
    let Some((_, raw)) = table.raw("autoscaling") else { return defaults };
    if let RawValue::Text(text) = &raw.value {
        if text != "auto" {
            let message = format!("{} is `{text}`", table.label("autoscaling"));
            faults.push(raw.span.clone(), message, did_you_mean(text, ["auto"]) + ", or write a table");
        }
        return Autoscaling { max_replicas: AUTO_MAX_REPLICAS, ..defaults };
    }
    let Some(mut keys) = table.table("autoscaling", faults) else { return defaults };
    let min_replicas = keys.int("min_replicas", 0..=MAX_REPLICAS, faults).unwrap_or(defaults.min_replicas);
    let max_given = keys.int("max_replicas", 1..=MAX_REPLICAS, faults);
    if let Some(max) = max_given.filter(|&max| max < min_replicas)
        && let Some((_, raw)) = keys.raw("max_replicas")
    {
        let message = format!(
            "{} is `{max}`, less than `min_replicas`, which is {min_replicas}",
            keys.label("max_replicas")
        );
        faults.push(
            raw.span.clone(),
            message,
            format!("set it to {min_replicas} or more, or lower `min_replicas`"),
        );
    }
    let found = Autoscaling {
        min_replicas,
        max_replicas: max_given.unwrap_or(defaults.max_replicas).max(min_replicas),
        target_ongoing_requests: keys
            .number("target_ongoing_requests", 0.001..=1e6, faults)
            .unwrap_or(defaults.target_ongoing_requests),
        look_back: keys
            .duration("look_back", Duration::from_millis(100)..=HOUR, faults)
            .unwrap_or(defaults.look_back),
        upscale_delay: keys
            .duration("upscale_delay", Duration::ZERO..=HOUR, faults)
            .unwrap_or(defaults.upscale_delay),
        downscale_delay: keys
            .duration("downscale_delay", Duration::ZERO..=24 * HOUR, faults)
            .unwrap_or(defaults.downscale_delay),
        idle_timeout: keys
            .duration("idle_timeout", Duration::ZERO..=24 * HOUR, faults)
            .unwrap_or(defaults.idle_timeout),
        upscaling_factor: keys
            .number("upscaling_factor", 0.001..=1000.0, faults)
            .unwrap_or(defaults.upscaling_factor),
        downscaling_factor: keys
            .number("downscaling_factor", 0.001..=1000.0, faults)
            .unwrap_or(defaults.downscaling_factor),
    };
    keys.finish(faults);
    found
}
