//! `batch`: a table, or `"auto"`; with `target_latency`, size and wait are chosen by what has been learnt.

use std::time::Duration;

use crate::Batch;
use crate::fault::FaultSink;
use crate::raw::{RawValue, Reader, did_you_mean};

const MAX_BATCH: u32 = 65_536;
/// Most inputs in a batch whose size is chosen.
const AUTO_MAX_SIZE: u32 = 128;
/// Time to answer within that `"auto"` aims at.
const AUTO_TARGET: Duration = Duration::from_millis(50);
const TARGETS: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// Reads `batch`, and `target_latency` beside it.
pub(super) fn batch(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Batch {
    let beside = table.raw("target_latency").map(|(_, raw)| raw.span.clone());
    let target = table.duration("target_latency", TARGETS, faults);
    let is_auto = table.raw("batch").is_some_and(|(_, raw)| matches!(raw.value, RawValue::Text(_)));
    if let (Some(span), false) = (beside, is_auto) {
        let message = format!("{} is set without `batch = \"auto\"`", table.label("target_latency"));
        faults.push(
            span,
            message,
            "add `batch = \"auto\"`, or write it into the table: `batch = { target_latency = \"40ms\" }`",
        );
    }
    let auto = Batch {
        max_size: AUTO_MAX_SIZE,
        target_latency: Some(target.unwrap_or(AUTO_TARGET)),
        ..Batch::default()
    };
    if is_auto {
        if let Some((_, raw)) = table.raw("batch")
            && let RawValue::Text(text) = &raw.value
            && text != "auto"
        {
            let message = format!("{} is `{text}`", table.label("batch"));
            faults.push(raw.span.clone(), message, did_you_mean(text, ["auto"]) + ", or write a table");
        }
        return auto;
    }
    let Some(mut keys) = table.table("batch", faults) else { return Batch::default() };
    let target_latency = keys.duration("target_latency", TARGETS, faults);
    let defaults = if target_latency.is_some() { auto } else { Batch::default() };
    if target_latency.is_some() {
        for key in ["max_wait", "preferred_sizes"] {
            if let Some((_, raw)) = keys.raw(key) {
                let message =
                    format!("{} does not go with `target_latency`, which chooses it", keys.label(key));
                faults.push(raw.span.clone(), message, "leave one of the two out");
            }
        }
    }
    let max_size = keys.int("max_size", 1..=MAX_BATCH, faults).unwrap_or(defaults.max_size);
    let max_wait = keys.duration("max_wait", Duration::ZERO..=Duration::from_secs(60), faults);
    let found = Batch {
        max_size,
        max_wait: max_wait.unwrap_or_default(),
        max_tokens: keys.int("max_tokens", 1..=100_000_000, faults),
        preferred_sizes: preferred_sizes(&mut keys, max_size, faults),
        target_latency,
    };
    keys.finish(faults);
    found
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Plan;

    fn batch_of(settings: &str) -> Result<Batch, Vec<String>> {
        let text = format!("name = \"p\"\n[deployments.a]\nengine = \"echo\"\n{settings}\n");
        match Plan::compile("p.toml", &text) {
            Ok(plan) => Ok(plan.deployments().values().next().unwrap().batch.clone()),
            Err(faults) => Err(faults.faults.into_iter().map(|fault| fault.message).collect()),
        }
    }

    #[test]
    fn auto_has_a_target_and_a_wider_bound() {
        let ms = |ms| Some(Duration::from_millis(ms));
        for (settings, max_size, target) in [
            ("", 32, None),
            ("batch = { max_size = 8 }", 8, None),
            ("batch = \"auto\"", 128, ms(50)),
            ("batch = \"auto\"\ntarget_latency = \"40ms\"", 128, ms(40)),
            ("batch = { target_latency = \"40ms\" }", 128, ms(40)),
            ("batch = { target_latency = \"40ms\", max_size = 16 }", 16, ms(40)),
        ] {
            let batch = batch_of(settings).unwrap();
            assert_eq!((batch.max_size, batch.target_latency), (max_size, target), "{settings}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        for (settings, expected) in [
            ("target_latency = \"40ms\"", "is set without `batch = \"auto\"`"),
            ("batch = \"atuo\"", "is `atuo`"),
            (
                "batch = { target_latency = \"40ms\", max_wait = \"1ms\" }",
                "does not go with `target_latency`",
            ),
            ("batch = { target_latency = \"0ms\" }", "target_latency"),
        ] {
            let faults = batch_of(settings).unwrap_err();
            assert!(faults.len() == 1 && faults[0].contains(expected), "{settings}: {faults:?}");
        }
    }
}
