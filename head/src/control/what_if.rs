//! What the last hour of a deployment would have come to with other bounds: its recorded numbers, replayed by the autoscaler's own
//! code. Changes nothing.

use std::time::Duration;

use millstream_core::autoscaler::replay::{Second, Settings, replay};
use millstream_core::present::series::{CAPACITY, Metric};
use millstream_pipelines::FullName;
use millstream_proto::what_if::{Replicas, WhatIf, WhatIfRequest, WouldBe};

use super::Error;
use crate::leadership::Term;

/// How long a replica takes to become ready, unless said otherwise.
const START_TIME: Duration = Duration::from_secs(5);

/// See the module.
pub(crate) fn what_if(term: &Term, request: &WhatIfRequest) -> Result<WhatIf, Error> {
    let (name, settings) = settings_of(term, request)?;
    let since = request.since_s.unwrap_or(CAPACITY).clamp(1, CAPACITY);
    let subject = name.to_string();
    let history = &term.host.history;
    let (range, found) = {
        let rings = history.rings.lock();
        let range = rings.range(since, 1);
        let found = rings.read(range.clone(), 1, |key| key.subject == subject);
        let owned = found.into_iter().map(|(key, values)| (key.metric, values));
        (range, owned.collect::<Vec<_>>())
    };
    let values = |metric: Metric| {
        let found = found.iter().find(|(it, _)| *it == metric);
        found.map_or(&[][..], |(_, values)| values.as_slice())
    };
    let ready = values(Metric::Ready);
    // What this head has not seen says nothing.
    let first = ready.iter().position(Option::is_some).unwrap_or(ready.len());
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
    if observed.is_empty() {
        return Err(Error::NotFound(format!(
            "nothing of `{name}` has been recorded yet; ask again in a few seconds"
        )));
    }
    let actual = actual(seconds.map(|second| {
        [Metric::Ready, Metric::Queued, Metric::CallsPerSecond].map(|metric| at(metric, second))
    }));
    let replayed = replay(&observed, &Settings { replicas: whole(at(Metric::Ready, first)), ..settings });
    let begins = range.start + u64::try_from(first).unwrap_or(0);
    Ok(WhatIf {
        deployment: subject,
        actual,
        simulated: WouldBe {
            replicas: Replicas {
                replica_seconds: replayed.replica_seconds,
                max_ready: most(replayed.ready.iter().copied().map(f64::from)),
                waited_ratio: replayed.waited_ratio,
            },
            start_unix_ms: history.started_unix_ms + begins * 1000,
            step_ms: 1000,
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

/// The deployment and the settings that it is replayed with.
fn settings_of(term: &Term, request: &WhatIfRequest) -> Result<(FullName, Settings), Error> {
    let text = &request.deployment;
    let name: FullName = text.parse().map_err(|_| {
        Error::NotFound(format!("`{text}` is not a deployment; write it as PIPELINE/DEPLOYMENT"))
    })?;
    let desired = term.catalog.desired();
    let wanted = desired.pipelines.get(&name.pipeline).and_then(|pipeline| pipeline.wanted());
    let spec = wanted.and_then(|wanted| wanted.spec(&name.deployment));
    let spec = spec.ok_or_else(|| {
        Error::NotFound(format!("there is no deployment `{name}`; `cluster status` lists those there are"))
    })?;
    let mut autoscaling = spec.autoscaling.clone();
    autoscaling.min_replicas = request.min_replicas.unwrap_or(autoscaling.min_replicas);
    autoscaling.max_replicas = request.max_replicas.unwrap_or(autoscaling.max_replicas);
    if let Some(target) = request.target_ongoing_requests {
        autoscaling.target_ongoing_requests = target;
    }
    let (min, max) = (autoscaling.min_replicas, autoscaling.max_replicas);
    if max < min.max(1) || max > 10_000 {
        return Err(Error::Invalid(format!(
            "from {min} to {max} replicas is not a range; give at least 1 and at most 10000, the most not below the fewest"
        )));
    }
    if !(0.001..=1_000_000.0).contains(&autoscaling.target_ongoing_requests) {
        let detail = "`target_ongoing_requests` is out of range; give a number from 0.001 to 1000000";
        return Err(Error::Invalid(detail.to_owned()));
    }
    let max_ongoing = spec.limits.max_ongoing_requests;
    Ok((name, Settings { autoscaling, max_ongoing, replicas: 0, start_time: START_TIME }))
}

fn most(values: impl Iterator<Item = f64>) -> u32 {
    whole(values.fold(0.0, f64::max))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of replicas")]
fn whole(number: f64) -> u32 {
    number.round().max(0.0) as u32
}
