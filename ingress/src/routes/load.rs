//! What the head is told about requests at this ingress: a plain function of the loads before and now.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_pipelines::FullName;
use millstream_proto::v1;

use crate::dispatch::{Deployment, Load};

/// Loads by deployment; those without any request are left out.
pub(crate) type DeploymentLoads = BTreeMap<FullName, Load>;

/// The loads of those deployments that have any.
pub(crate) fn loads_of<'a>(deployments: impl Iterator<Item = &'a Arc<Deployment>>) -> DeploymentLoads {
    let loads = deployments.map(|deployment| (deployment.name(), deployment.load()));
    loads.filter(|(_, load)| *load != Load::default()).map(|(name, load)| (name.clone(), load)).collect()
}

/// The report that follows `before`: all loads, and zeros for those that ended. `None` while there is nothing to say.
pub(crate) fn report(before: &DeploymentLoads, now: &DeploymentLoads) -> Option<v1::LoadReport> {
    if before.is_empty() && now.is_empty() {
        return None;
    }
    let ended = before.keys().filter(|name| !now.contains_key(*name)).map(|name| (name, Load::default()));
    let deployments = now.iter().map(|(name, load)| (name, *load)).chain(ended);
    let deployments = deployments.map(|(name, load)| v1::DeploymentLoad {
        pipeline: name.pipeline.to_string(),
        deployment: name.deployment.to_string(),
        ongoing: load.ongoing,
        queued: load.queued,
    });
    Some(v1::LoadReport { deployments: deployments.collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads(list: &[(&str, u64, u64)]) -> DeploymentLoads {
        list.iter()
            .map(|&(name, ongoing, queued)| (name.parse().unwrap(), Load { ongoing, queued }))
            .collect()
    }

    #[test]
    fn a_report_tells_what_there_is_and_once_what_ended() {
        let table = [
            (loads(&[]), loads(&[]), None),
            (loads(&[]), loads(&[("a/b", 1, 0)]), Some(vec![("b", 1, 0)])),
            (loads(&[("a/b", 1, 0)]), loads(&[("a/b", 1, 0)]), Some(vec![("b", 1, 0)])),
            (loads(&[("a/b", 1, 0)]), loads(&[("a/c", 0, 2)]), Some(vec![("c", 0, 2), ("b", 0, 0)])),
        ];
        for (before, now, expected) in table {
            let told = report(&before, &now).map(|report| report.deployments);
            let told = told.as_ref().map(|list| {
                list.iter()
                    .map(|load| (load.deployment.as_str(), load.ongoing, load.queued))
                    .collect::<Vec<_>>()
            });
            assert_eq!(told, expected);
        }
    }
}
