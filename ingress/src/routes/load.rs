//! What the head is told about requests at this ingress: a plain function of the loads before and now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_pipelines::{FullName, Name};
use millstream_proto::v1;

use super::pipeline::Route;
use crate::dispatch::{CallCounts, Deployment, Load, Outcomes};

/// Loads by deployment; those that never had a request are left out.
pub(crate) type DeploymentLoads = BTreeMap<FullName, Load>;

/// The loads of those deployments that ever had any.
pub(crate) fn loads_of<'a>(deployments: impl Iterator<Item = &'a Arc<Deployment>>) -> DeploymentLoads {
    let loads = deployments.map(|deployment| (deployment.name(), deployment.load()));
    loads.filter(|(_, load)| *load != Load::default()).map(|(name, load)| (name.clone(), load)).collect()
}

/// How calls and requests ended since the last report.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    calls: BTreeMap<FullName, CallCounts>,
    requests: Vec<v1::PipelineReport>,
}

impl Endings {
    /// Takes what was counted.
    pub(crate) fn take<'a>(
        deployments: impl Iterator<Item = &'a Arc<Deployment>>,
        routes: &BTreeMap<Name, Arc<Route>>,
    ) -> Self {
        let calls = deployments.filter_map(|deployment| {
            let counts = deployment.take_counts();
            (!counts.is_empty()).then(|| (deployment.name().clone(), counts))
        });
        let requests = routes.iter().filter_map(|(name, route)| {
            let variants = || route.variants.iter();
            let outcomes: Vec<_> =
                variants().filter_map(|variant| variant.counts.take_outcomes(variant.revision)).collect();
            let shadow = variants().filter_map(|variant| variant.counts.take_shadow(variant.revision)).next();
            let stages: Vec<_> = variants()
                .flat_map(|variant| variant.stage_counts.iter().zip(variant.plan.stages()))
                .filter_map(|(counts, (stage, _))| counts.take(stage))
                .collect();
            let any = !outcomes.is_empty() || shadow.is_some() || !stages.is_empty();
            any.then(|| v1::PipelineReport { pipeline: name.to_string(), outcomes, shadow, stages })
        });
        Self { calls: calls.collect(), requests: requests.collect() }
    }
}

/// The report that follows `before`: all loads, those that came and went meanwhile, zeros for those that ended, and how
/// calls and requests ended. `None` while there is nothing to say.
pub(crate) fn report(
    before: &DeploymentLoads,
    now: &DeploymentLoads,
    mut endings: Endings,
) -> Option<v1::LoadReport> {
    let has_any = |load: Load| load.ongoing > 0 || load.queued > 0;
    let load_of = |loads: &DeploymentLoads, name: &FullName| loads.get(name).copied().unwrap_or_default();
    let names: BTreeSet<_> = before.keys().chain(now.keys()).chain(endings.calls.keys()).cloned().collect();
    let deployments = names.into_iter().filter_map(|name| {
        let (reported, load) = (load_of(before, &name), load_of(now, &name));
        // A deployment that left the routes and came back counts from the start.
        let arrived = load.arrived.checked_sub(reported.arrived).unwrap_or(load.arrived);
        let counts = endings.calls.remove(&name);
        if counts.is_none() && !has_any(load) && !has_any(reported) && arrived == 0 {
            return None;
        }
        let counts = counts.unwrap_or_default();
        let outcomes = counts.by_revision.iter().map(|&(revision, outcomes)| {
            let Outcomes { answered, failed } = outcomes;
            v1::Outcomes { revision, answered, failed, durations: Vec::new() }
        });
        Some(v1::DeploymentLoad {
            pipeline: name.pipeline.to_string(),
            deployment: name.deployment.to_string(),
            ongoing: load.ongoing,
            queued: load.queued,
            outcomes: outcomes.collect(),
            shed: counts.shed,
            arrived,
        })
    });
    let deployments: Vec<_> = deployments.collect();
    let any = !deployments.is_empty() || !endings.requests.is_empty();
    any.then_some(v1::LoadReport { deployments, pipelines: endings.requests })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(list: &[(&str, u64, u64, u64)]) -> DeploymentLoads {
        list.iter()
            .map(|&(name, ongoing, queued, arrived)| {
                (name.parse().unwrap(), Load { ongoing, queued, arrived })
            })
            .collect()
    }

    #[test]
    fn a_report_tells_what_there_is_what_came_and_went_and_once_what_ended() {
        let table = [
            (loads(&[]), loads(&[]), None),
            (loads(&[]), loads(&[("a/b", 1, 0, 1)]), Some(vec![("b", 1, 0, 1)])),
            (loads(&[("a/b", 1, 0, 1)]), loads(&[("a/b", 1, 0, 1)]), Some(vec![("b", 1, 0, 0)])),
            (
                loads(&[("a/b", 1, 0, 1)]),
                loads(&[("a/c", 0, 2, 2)]),
                Some(vec![("b", 0, 0, 0), ("c", 0, 2, 2)]),
            ),
            (loads(&[("a/b", 1, 0, 1)]), loads(&[("a/b", 0, 0, 1)]), Some(vec![("b", 0, 0, 0)])),
            (loads(&[("a/b", 0, 0, 1)]), loads(&[("a/b", 0, 0, 1)]), None),
            (loads(&[("a/b", 0, 0, 1)]), loads(&[("a/b", 0, 0, 4)]), Some(vec![("b", 0, 0, 3)])),
            (loads(&[("a/b", 0, 0, 9)]), loads(&[("a/b", 0, 0, 1)]), Some(vec![("b", 0, 0, 1)])),
        ];
        for (before, now, expected) in table {
            let reported = report(&before, &now, Endings::default()).map(|report| report.deployments);
            let reported = reported.as_ref().map(|list| {
                list.iter()
                    .map(|load| (load.deployment.as_str(), load.ongoing, load.queued, load.arrived))
                    .collect::<Vec<_>>()
            });
            assert_eq!(reported, expected);
        }
    }

    #[test]
    fn what_ended_between_two_reports_is_told_although_nothing_is_under_way() {
        let mut counts = CallCounts::default();
        counts.count(3, crate::model::Outcome::Answered);
        let calls = [("a/b".parse().unwrap(), counts)].into();
        let reported = report(&loads(&[]), &loads(&[]), Endings { calls, requests: Vec::new() }).unwrap();
        assert_eq!(
            reported.deployments[0].outcomes,
            [v1::Outcomes { revision: 3, answered: 1, ..v1::Outcomes::default() }]
        );
    }
}
