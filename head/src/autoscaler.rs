//! How many replicas a deployment is to have. A pure function; the rules of ongoing requests, smoothing and delays
//! come with the autoscaler proper, this module is their place.

use millstream_pipelines::Autoscaling;

/// The target of a deployment about which nothing has been decided yet: `min_replicas`, but at least one, because
/// nothing starts a first replica on demand yet.
#[must_use]
pub fn initial(config: &Autoscaling) -> u32 {
    config.min_replicas.max(1)
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
    fn the_first_target_is_the_minimum_but_at_least_one() {
        for (min, target) in [(0, 1), (1, 1), (7, 7)] {
            let mut config = crate::testing::spec("model").autoscaling;
            config.min_replicas = min;
            assert_eq!(initial(&config), target);
        }
    }
}
