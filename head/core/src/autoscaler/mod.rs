//! How many replicas a deployment is to have, from its ongoing requests.
//!
//! [`History`] keeps what reporters said and averages it; [`decide`] is the rule, a plain function of settings, state
//! and observation; [`Scaler`] is both for one deployment, with the time at which the passing of time alone can change
//! the outcome. The head and `cluster simulate` run the same code; who carries a decision out is left to them.

pub mod again;
mod decide;
mod history;
pub mod replay;
mod scaler;

use millstream_pipelines::Autoscaling;

pub use decide::{Bound, Decision, Direction, Inputs, Intent, Observed, Rule, Scaling, decide};
pub use history::{History, Load, Point};
pub use scaler::{RESOLUTION, Scaler};

/// The target of a deployment about which nothing has been decided yet.
#[must_use]
pub fn initial(config: &Autoscaling) -> u32 {
    config.min_replicas
}

/// A target within the bounds of these settings.
#[must_use]
pub fn bound(config: &Autoscaling, target: u32) -> u32 {
    target.clamp(config.min_replicas, config.max_replicas.max(config.min_replicas))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_target_is_the_minimum_and_every_target_keeps_the_bounds() {
        for (min, max, target, expected) in [(0, 3, 5, 3), (1, 3, 0, 1), (7, 7, 1, 7), (0, 3, 0, 0)] {
            let config = Autoscaling { min_replicas: min, max_replicas: max, ..Autoscaling::default() };
            assert_eq!((initial(&config), bound(&config, target)), (min, expected));
        }
    }
}
