//! The rule: what the ongoing requests ask for, smoothed, bounded, and held until it was wished for long enough.

use std::fmt;
use std::time::Duration;

use millstream_pipelines::Autoscaling;
use serde::{Deserialize, Serialize};

use super::bound;

/// What a quotient may be above a whole number and still mean it.
const ROUNDING: f64 = 1e-9;

/// What has been decided about a deployment so far.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Scaling {
    /// Replicas it is to have.
    pub target: u32,
    /// A change that is wished for, and since when without a break.
    pub intent: Option<Intent>,
    /// Since when the only replica has had nothing to do.
    pub idle_since: Option<Duration>,
}

/// A change that is wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Which way.
    pub direction: Direction,
    /// Since when.
    pub since: Duration,
    /// The latest number wished for.
    pub wanted: u32,
}

/// More replicas or fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// More.
    Up,
    /// Fewer.
    Down,
}

/// What is seen of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Observed {
    /// Ongoing requests, waiting ones included, averaged over `look_back`.
    pub ongoing: f64,
    /// The same by the latest reports.
    pub ongoing_now: u64,
    /// Those of them that wait.
    pub queued: u64,
    /// When there was last a request.
    pub last_active: Option<Duration>,
    /// Replicas that take requests.
    pub ready: u32,
    /// Replicas on their way to that.
    pub starting: u32,
}

/// What a decision was made of, for events and people.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Inputs {
    /// Ongoing requests, averaged over `look_back`.
    pub ongoing: f64,
    /// Ongoing requests by the latest reports.
    pub ongoing_now: u64,
    /// Waiting requests by the latest reports.
    pub queued: u64,
    /// Ready replicas.
    pub ready: u32,
    /// Starting replicas.
    pub starting: u32,
    /// `ongoing` by `target_ongoing_requests`.
    pub raw: f64,
    /// Replicas that this asks for, after smoothing, before bounds.
    pub unbounded: u32,
    /// Replicas that this asks for, within bounds.
    pub wanted: u32,
    /// The bound that `wanted` was held at.
    pub bounded_by: Option<Bound>,
}

/// An end of the range of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// `min_replicas`.
    MinReplicas,
    /// `max_replicas`.
    MaxReplicas,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MinReplicas => "min_replicas",
            Self::MaxReplicas => "max_replicas",
        })
    }
}

/// Why a target changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The first waiting request of a deployment without replicas.
    FromZero,
    /// More were wished for during `upscale_delay`.
    Upscale,
    /// Fewer were wished for during `downscale_delay`.
    Downscale,
    /// The last replica idled for `idle_timeout`.
    IdleToZero,
    /// A revision begins to serve: what was loaded to check it stays for a while.
    Initial,
    /// The bounds changed.
    Bounds,
    /// A head that has just come to lead goes on with what runs.
    Adopted,
    /// People have set other bounds in place of the file's.
    ByHand,
}

impl Rule {
    /// Its name in metrics and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FromZero => "from_zero",
            Self::Upscale => "upscale",
            Self::Downscale => "downscale",
            Self::IdleToZero => "idle_to_zero",
            Self::Initial => "initial",
            Self::Bounds => "bounds",
            Self::ByHand => "by_hand",
            Self::Adopted => "adopted",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FromZero => "a request waits and there is no replica",
            Self::Upscale => "more replicas were wished for during upscale_delay",
            Self::Downscale => "fewer replicas were wished for during downscale_delay",
            Self::IdleToZero => "the last replica idled for idle_timeout",
            Self::Initial => "it was loaded to check its revision, and stays until it has been idle",
            Self::Bounds => "its bounds changed",
            Self::ByHand => "`cluster scale` has set its bounds",
            Self::Adopted => "a head that has just come to lead goes on with what runs",
        })
    }
}

/// What becomes of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Decision {
    /// What has been decided from now on.
    pub scaling: Scaling,
    /// The rule that changed the target; `None` when it stays.
    pub rule: Option<Rule>,
    /// What the decision was made of.
    pub inputs: Inputs,
    /// When the same observation would decide otherwise.
    pub wake_at: Option<Duration>,
}

/// Decides how many replicas a deployment is to have from now on.
#[must_use]
pub fn decide(config: &Autoscaling, scaling: &Scaling, observed: &Observed, now: Duration) -> Decision {
    let inputs = inputs(config, observed);
    let held = |scaling| Decision { scaling, rule: None, inputs, wake_at: None };
    let moved = |target, rule| {
        let scaling = Scaling { target, intent: None, idle_since: None };
        Decision { scaling, rule: Some(rule), inputs, wake_at: None }
    };
    let target = scaling.target;
    if bound(config, target) != target {
        return moved(bound(config, target), Rule::Bounds);
    }
    if target == 0 {
        return match observed.ongoing_now {
            0 => held(Scaling { target, intent: None, idle_since: None }),
            _ => moved(bound(config, first_replicas(config)), Rule::FromZero),
        };
    }
    let no_load = observed.ongoing_now == 0 && observed.ongoing <= 0.0;
    if no_load && observed.ready == 0 && observed.starting > 0 {
        return held(Scaling { target, intent: None, idle_since: None });
    }
    if config.min_replicas == 0 && target == 1 && no_load && observed.ready <= 1 {
        let idle_since = scaling.idle_since.unwrap_or(now).max(observed.last_active.unwrap_or_default());
        let until = idle_since + config.idle_timeout;
        if now >= until {
            return moved(0, Rule::IdleToZero);
        }
        let idle = Scaling { target, intent: None, idle_since: Some(idle_since) };
        return Decision { wake_at: Some(until), ..held(idle) };
    }
    let direction = match inputs.wanted.cmp(&target) {
        std::cmp::Ordering::Greater if is_tolerated(config, target, &inputs) => {
            return held(Scaling { target, intent: None, idle_since: None });
        }
        std::cmp::Ordering::Greater => Direction::Up,
        std::cmp::Ordering::Less => Direction::Down,
        std::cmp::Ordering::Equal => return held(Scaling { target, intent: None, idle_since: None }),
    };
    let since =
        scaling.intent.filter(|intent| intent.direction == direction).map_or(now, |intent| intent.since);
    let (delay, rule) = match direction {
        Direction::Up => (config.upscale_delay, Rule::Upscale),
        Direction::Down => (config.downscale_delay, Rule::Downscale),
    };
    if now >= since + delay {
        return moved(inputs.wanted, rule);
    }
    let intent = Intent { direction, since, wanted: inputs.wanted };
    let wishing = Scaling { target, intent: Some(intent), idle_since: None };
    Decision { wake_at: Some(since + delay), ..held(wishing) }
}

/// Whether the load is so little above what the target aims at that it may be noise: nobody waits, and the replicas
/// have room for it. Without this a short average rides up on every peak of a steady load, and comes down slowly.
/// Source: the tolerance of Kubernetes' horizontal pod autoscaler, 0.1 there, without the look at the queue.
fn is_tolerated(config: &Autoscaling, target: u32, inputs: &Inputs) -> bool {
    inputs.queued == 0 && inputs.raw <= f64::from(target) * (1.0 + config.upscale_tolerance)
}

/// What the first waiting request asks for.
fn first_replicas(config: &Autoscaling) -> u32 {
    whole(config.upscaling_factor).max(1)
}

/// What the observation asks for: never none, that takes an idle time.
fn inputs(config: &Autoscaling, observed: &Observed) -> Inputs {
    let raw = observed.ongoing / config.target_ongoing_requests;
    let ready = f64::from(observed.ready);
    let factor = if raw > ready { config.upscaling_factor } else { config.downscaling_factor };
    let mut unbounded = whole(ready + factor * (raw - ready));
    if whole(raw) < observed.ready && unbounded == observed.ready {
        // A step down that smoothing rounds away.
        unbounded -= 1;
    }
    let unbounded = unbounded.max(1);
    let wanted = bound(config, unbounded);
    Inputs {
        ongoing: observed.ongoing,
        ongoing_now: observed.ongoing_now,
        queued: observed.queued,
        ready: observed.ready,
        starting: observed.starting,
        raw,
        unbounded,
        wanted,
        bounded_by: match wanted.cmp(&unbounded) {
            std::cmp::Ordering::Less => Some(Bound::MaxReplicas),
            std::cmp::Ordering::Greater => Some(Bound::MinReplicas),
            std::cmp::Ordering::Equal => None,
        },
    }
}

/// The next whole number, 0 at least.
fn whole(number: f64) -> u32 {
    let number = (number - ROUNDING).ceil().clamp(0.0, f64::from(u32::MAX));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped just above")]
    let number = number as u32;
    number
}

#[cfg(test)]
mod tests;
