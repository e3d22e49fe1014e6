//! `[rollout]`: by which steps a new revision takes over, and what it must hold meanwhile.

use std::time::Duration;

use super::limits::{MAX_TIMEOUT, MIN_TIMEOUT};
use crate::fault::FaultSink;
use crate::raw::{Raw, RawValue, Reader, parse_percent, parse_quoted_duration};
use crate::{Rollout, TrafficStep};

/// Most steps.
const MAX_STEPS: usize = 20;
const STEP_HELP: &str = "write a part of the requests and how long it stands, such as `\"5% 10m\"`";

/// Reads the table; without it a new revision takes over by itself after a trial.
pub(super) fn rollout(table: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Rollout {
    let Some(mut keys) = table.table("rollout", faults) else { return Rollout::default() };
    let steps = steps(&mut keys, faults);
    let max_p95 = keys.duration("max_p95", MIN_TIMEOUT..=MAX_TIMEOUT, faults);
    keys.finish(faults);
    Rollout { steps, max_p95 }
}

fn steps(keys: &mut Reader<'_>, faults: &mut FaultSink<'_>) -> Vec<TrafficStep> {
    let Some((_, raw)) = keys.raw("steps") else { return Vec::new() };
    let RawValue::Array(items) = &raw.value else {
        keys.wrong_kind("steps", raw, "a list such as `[\"5% 10m\", \"25% 30m\", \"100%\"]`", faults);
        return Vec::new();
    };
    let label = keys.label("steps");
    if items.is_empty() || items.len() > MAX_STEPS {
        let message = format!("{label} has {} steps", items.len());
        faults.push(raw.span.clone(), message, format!("write 1 to {MAX_STEPS}, the last one `\"100%\"`"));
        return Vec::new();
    }
    let mut found: Vec<TrafficStep> = Vec::new();
    let last = items.len() - 1;
    for (index, item) in items.iter().enumerate() {
        let Some(step) = step(item, &label, faults) else { continue };
        let fault = if found.last().is_some_and(|before| before.permille >= step.permille) {
            Some(("is not more than the step before", "let the parts of the requests grow"))
        } else if index == last && step.permille < 1000 {
            Some(("is the last step", "end with `\"100%\"`: the new revision serves then"))
        } else if index == last && !step.hold.is_zero() {
            Some(("has a time", "write `\"100%\"` alone: there the rollout is over"))
        } else if index < last && step.hold.is_zero() {
            Some(("has no time", STEP_HELP))
        } else {
            None
        };
        if let Some((what, help)) = fault {
            let text = item.as_text().unwrap_or_default();
            faults.push(item.span.clone(), format!("{label}: `{text}` {what}"), help);
        }
        found.push(step);
    }
    found
}

fn step(raw: &Raw, label: &str, faults: &mut FaultSink<'_>) -> Option<TrafficStep> {
    let step = raw.as_text().and_then(parse_step);
    if step.is_none() {
        let message = match raw.as_text() {
            Some(text) => format!("{label}: `{text}` is not a step"),
            None => format!("{label}: a step is {}, not a text", raw.kind()),
        };
        faults.push(raw.span.clone(), message, STEP_HELP);
    }
    step
}

/// `5% 10m`, or a part alone.
fn parse_step(text: &str) -> Option<TrafficStep> {
    let mut words = text.split_whitespace();
    let permille = parse_percent(words.next()?)?;
    let hold = match words.next() {
        Some(time) => parse_quoted_duration(time).ok()?,
        None => Duration::ZERO,
    };
    words.next().is_none().then_some(TrafficStep { permille, hold })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Faults, Plan};

    fn compiled(rollout: &str) -> Result<Plan, Faults> {
        let text = format!("name = \"p\"\n[deployments.m]\nengine = \"echo\"\n[rollout]\n{rollout}\n");
        Plan::compile("p.toml", &text)
    }

    #[test]
    fn steps_are_parts_and_times() {
        let plan = compiled("steps = [\"5% 10m\", \"12.5% 30s\", \"100%\"]\nmax_p95 = \"800ms\"").unwrap();
        let step = |permille, seconds| TrafficStep { permille, hold: Duration::from_secs(seconds) };
        assert_eq!(plan.rollout().steps, [step(50, 600), step(125, 30), step(1000, 0)]);
        assert_eq!(plan.rollout().max_p95, Some(Duration::from_millis(800)));
    }

    #[test]
    fn steps_that_lead_nowhere_are_refused_at_their_place() {
        for (steps, expected) in [
            ("\"5% 10m\"", "not a list"),
            ("[]", "has 0 steps"),
            ("[\"5% 10m\"]", "is the last step"),
            ("[\"5%\", \"100%\"]", "has no time"),
            ("[\"25% 1m\", \"5% 1m\", \"100%\"]", "is not more than the step before"),
            ("[\"5% 10m\", \"100% 5m\"]", "has a time"),
            ("[\"5 10m\", \"100%\"]", "is not a step"),
            ("[\"5% 10\", \"100%\"]", "is not a step"),
            ("[\"0% 1m\", \"100%\"]", "is not a step"),
            ("[5, \"100%\"]", "not a text"),
        ] {
            let Err(faults) = compiled(&format!("steps = {steps}")) else { panic!("{steps} was taken") };
            assert!(faults.faults[0].message.contains(expected), "{steps}: {:?}", faults.faults);
        }
    }
}
