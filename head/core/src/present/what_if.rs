//! What a recorded hour of a deployment would have come to with other settings, for people: beside what it came to.

use std::time::Duration;

use millstream_pipelines::{Autoscaling, DeploymentSpec};
use millstream_status::series::Series;
use millstream_status::what_if::{Replicas, WhatIf, WhatIfRequest, WouldBe};

use super::series::Metric;
use crate::autoscaler::replay::{Second, Settings, replay};

/// How long a replica takes to become ready, unless said otherwise.
pub const START_TIME: Duration = Duration::from_secs(5);

/// The settings of a deployment with what is asked for in their place.
///
/// # Errors
/// When that makes no sense, in words.
pub fn settings(spec: &DeploymentSpec, request: &WhatIfRequest) -> Result<Settings, String> {
    let mut autoscaling = spec.autoscaling.clone();
    autoscaling.min_replicas = request.min_replicas.unwrap_or(autoscaling.min_replicas);
    autoscaling.max_replicas = request.max_replicas.unwrap_or(autoscaling.max_replicas);
    if let Some(target) = request.target_ongoing_requests {
        autoscaling.target_ongoing_requests = target;
    }
    let Autoscaling { min_replicas: min, max_replicas: max, target_ongoing_requests, .. } = autoscaling;
    if max < min.max(1) || max > 10_000 {
        return Err(format!(
            "from {min} to {max} replicas is not a range; give at least 1 and at most 10000, the most not below the fewest"
        ));
    }
    if !(0.001..=1_000_000.0).contains(&target_ongoing_requests) {
        let detail = "`target_ongoing_requests` is out of range; give a number from 0.001 to 1000000";
        return Err(detail.to_owned());
    }
    let max_ongoing = spec.limits.max_ongoing_requests;
    Ok(Settings { autoscaling, max_ongoing, replicas: 0, start_time: START_TIME })
}

/// What would have been, from series of a second each; `None` when nothing of the deployment was recorded. O(seconds).
#[must_use]
pub fn what_if(deployment: &str, series: &Series, settings: Settings) -> Option<WhatIf> {
    let values = |metric: Metric| series.of_deployment(deployment, metric.as_str());
    let ready = values(Metric::Ready);
    // What this head has not seen says nothing.
    let first = ready.iter().position(Option::is_some)?;
    let at = |metric: Metric, second: usize| {
        f64::from(values(metric).get(second).copied().flatten().unwrap_or(0.0))
    };
    let seconds = first..ready.len();
    let observed: Vec<_> = seconds
        .clone()
        .map(|second| Second {
            calls: at(Metric::CallsPerSecond, second),
            ongoing: at(Metric::Ongoing, second),
        })
        .collect();
    let actual = actual(seconds.map(|second| {
        [Metric::Ready, Metric::Queued, Metric::CallsPerSecond].map(|metric| at(metric, second))
    }));
    let replayed = replay(&observed, &Settings { replicas: whole(at(Metric::Ready, first)), ..settings });
    let begins = u64::try_from(first).unwrap_or(0) * series.step_ms;
    Some(WhatIf {
        deployment: deployment.to_owned(),
        actual,
        simulated: WouldBe {
            replicas: Replicas {
                replica_seconds: replayed.replica_seconds,
                max_ready: most(replayed.ready.iter().copied().map(f64::from)),
                waited_ratio: replayed.waited_ratio,
            },
            start_unix_ms: series.start_unix_ms + begins,
            step_ms: series.step_ms,
            ready: replayed.ready,
            queued: replayed.queued,
        },
    })
}

/// What was, of each second's ready replicas, waiting calls and calls that ended.
fn actual(seconds: impl Iterator<Item = [f64; 3]>) -> Replicas {
    let (mut actual, mut waited, mut all) =
        (Replicas { replica_seconds: 0.0, max_ready: 0, waited_ratio: 0.0 }, 0.0, 0.0);
    for [ready, queued, calls] in seconds {
        actual.replica_seconds += ready;
        actual.max_ready = actual.max_ready.max(whole(ready));
        all += calls;
        waited += if queued >= 1.0 { calls } else { 0.0 };
    }
    actual.waited_ratio = if all > 0.0 { waited / all } else { 0.0 };
    actual
}

fn most(values: impl Iterator<Item = f64>) -> u32 {
    whole(values.fold(0.0, f64::max))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of replicas")]
fn whole(number: f64) -> u32 {
    number.round().max(0.0) as u32
}

#[cfg(test)]
mod tests {
    use millstream_status::series::OneSeries;

    use super::*;
    use crate::testing::spec;

    #[test]
    fn what_was_stands_beside_what_would_have_been() {
        let one = |metric: &str, values: Vec<Option<f32>>| OneSeries {
            metric: metric.into(),
            pipeline: None,
            deployment: Some("p/model".into()),
            node: None,
            values,
        };
        let recorded = |value: f32| [vec![None; 5], vec![Some(value); 100]].concat();
        let all = [("ready", 4.0), ("ongoing", 2.0), ("calls_per_second", 20.0), ("queued", 0.0)];
        let series = all.map(|(metric, value)| one(metric, recorded(value))).into();
        let series = Series { start_unix_ms: 1000, step_ms: 1000, series };
        let request = WhatIfRequest { max_replicas: Some(1), ..WhatIfRequest::default() };
        let settings = settings(&spec("model"), &request).unwrap();
        let found = what_if("p/model", &series, settings.clone()).unwrap();
        assert!((found.actual.replica_seconds - 400.0).abs() < 1e-6, "{found:?}");
        assert!((found.simulated.replicas.replica_seconds - 100.0).abs() < 1.0, "{found:?}");
        assert_eq!((found.simulated.start_unix_ms, found.simulated.ready.len()), (6000, 100));
        assert_eq!(what_if("p/other", &series, settings), None);
    }

    #[test]
    fn bounds_that_make_no_sense_are_refused() {
        for (min, max, target) in [(Some(3), Some(2), None), (None, Some(0), None), (None, None, Some(0.0))] {
            let request = WhatIfRequest {
                min_replicas: min,
                max_replicas: max,
                target_ongoing_requests: target,
                ..WhatIfRequest::default()
            };
            assert!(settings(&spec("model"), &request).is_err(), "{request:?}");
        }
    }
}
