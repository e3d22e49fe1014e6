//! What the head is told about requests at this ingress: a plain function of the loads before and now.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_pipelines::FullName;
use millstream_proto::v1;

use crate::dispatch::{Deployment, Load};

/// Loads by deployment; those that never had a request are left out.
pub(crate) type DeploymentLoads = BTreeMap<FullName, Load>;

/// The loads of those deployments that ever had any.
pub(crate) fn loads_of<'a>(deployments: impl Iterator<Item = &'a Arc<Deployment>>) -> DeploymentLoads {
    let loads = deployments.map(|deployment| (deployment.name(), deployment.load()));
    loads.filter(|(_, load)| *load != Load::default()).map(|(name, load)| (name.clone(), load)).collect()
}

/// The report that follows `before`: all loads, those that came and went meanwhile, and zeros for those that ended.
/// `None` while there is nothing to say.
pub(crate) fn report(before: &DeploymentLoads, now: &DeploymentLoads) -> Option<v1::LoadReport> {
    let has_any = |load: &Load| load.ongoing > 0 || load.queued > 0;
    let told = |name: &FullName| before.get(name).copied().unwrap_or_default();
    let mut deployments: Vec<v1::DeploymentLoad> = Vec::new();
    let mut tell = |name: &FullName, load: Load, arrived: u64| {
        deployments.push(v1::DeploymentLoad {
            pipeline: name.pipeline.to_string(),
            deployment: name.deployment.to_string(),
            ongoing: load.ongoing,
            queued: load.queued,
            arrived,
        });
    };
    for (name, load) in now {
        let before = told(name);
        // A deployment that left the routes and came back counts from the start.
        let arrived = load.arrived.checked_sub(before.arrived).unwrap_or(load.arrived);
        if has_any(load) || has_any(&before) || arrived > 0 {
            tell(name, *load, arrived);
        }
    }
    let ended = before.iter().filter(|(name, load)| has_any(load) && !now.contains_key(*name));
    for (name, _) in ended {
        tell(name, Load::default(), 0);
    }
    (!deployments.is_empty()).then_some(v1::LoadReport { deployments })
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
                Some(vec![("c", 0, 2, 2), ("b", 0, 0, 0)]),
            ),
            (loads(&[("a/b", 1, 0, 1)]), loads(&[("a/b", 0, 0, 1)]), Some(vec![("b", 0, 0, 0)])),
            (loads(&[("a/b", 0, 0, 1)]), loads(&[("a/b", 0, 0, 1)]), None),
            (loads(&[("a/b", 0, 0, 1)]), loads(&[("a/b", 0, 0, 4)]), Some(vec![("b", 0, 0, 3)])),
            (loads(&[("a/b", 0, 0, 9)]), loads(&[("a/b", 0, 0, 1)]), Some(vec![("b", 0, 0, 1)])),
        ];
        for (before, now, expected) in table {
            let told = report(&before, &now).map(|report| report.deployments);
            let told = told.as_ref().map(|list| {
                list.iter()
                    .map(|load| (load.deployment.as_str(), load.ongoing, load.queued, load.arrived))
                    .collect::<Vec<_>>()
            });
            assert_eq!(told, expected);
        }
    }
}
