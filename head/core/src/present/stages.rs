//! The calls of each stage in the last minute, as ingresses report them: for people, nothing is decided by it.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_pipelines::Name;
use millstream_status::stage::StageTraffic;

use crate::model::Traffic;
use crate::rollout::Tally;

/// Most stages; what comes beyond is not counted.
const MAX_STAGES: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub struct StageCalls {
    by_stage: BTreeMap<(Name, String), Traffic>,
}

impl StageCalls {
    /// Counts calls that have just been reported.
    pub fn count(&mut self, pipeline: &Name, stage: &str, tally: &Tally, now: Duration) {
        let key = (pipeline.clone(), stage.to_owned());
        if self.by_stage.len() >= MAX_STAGES && !self.by_stage.contains_key(&key) {
            self.by_stage.retain(|_, traffic| !traffic.is_over(now));
            if self.by_stage.len() >= MAX_STAGES {
                return;
            }
        }
        self.by_stage.entry(key).or_default().count(0, tally, now);
    }

    /// The stages of a pipeline that had calls in the last minute, by name.
    #[must_use]
    pub fn of(&self, pipeline: &Name, now: Duration) -> Vec<StageTraffic> {
        let stages =
            self.by_stage.iter().filter(|((name, _), traffic)| name == pipeline && !traffic.is_over(now));
        let stages = stages.map(|((_, stage), traffic)| {
            let lately = traffic.last_minute(None, now);
            let (calls, failed) = (lately.per_second(), lately.failed_ratio());
            StageTraffic {
                stage: stage.clone(),
                calls_per_second: calls,
                failed_per_second: calls * failed,
                p50_ms: lately.quantile_ms(50),
                p99_ms: lately.quantile_ms(99),
            }
        });
        stages.collect()
    }
}

#[cfg(test)]
mod tests {
    use millstream_status::durations::{Durations, bucket};

    use super::*;
    use crate::rollout::Outcomes;

    #[test]
    fn stages_are_told_apart_and_forgotten_when_nothing_calls_them() {
        let name: Name = "p".parse().unwrap();
        let mut calls = StageCalls::default();
        let at = |seconds| Duration::from_secs(seconds);
        let mut durations = Durations::default();
        durations.count(bucket(Duration::from_millis(8)), 3);
        let tally = Tally { requests: Outcomes { answered: 3, failed: 1 }, durations, ..Tally::default() };
        for second in 0..10 {
            calls.count(&name, "embed", &tally, at(second));
        }
        calls.count(&"q".parse().unwrap(), "embed", &tally, at(5));
        let stages = calls.of(&name, at(10));
        assert_eq!((stages.len(), stages[0].stage.as_str()), (1, "embed"));
        assert!(
            (stages[0].calls_per_second - 4.0).abs() < 0.1 && (stages[0].failed_per_second - 1.0).abs() < 0.1
        );
        assert!(stages[0].p50_ms.is_some_and(|p50| (8.0..=10.0).contains(&p50)), "{stages:?}");
        assert_eq!(calls.of(&name, at(100)), []);
    }
}
