//! A cluster as it was recorded, decided about again: by the code that decided then. `decisions` looks at the number of
//! replicas over the last hour, `places` at where those of this moment are.

pub mod decisions;
pub mod places;

use std::collections::BTreeMap;

use millstream_pipelines::{DeploymentSpec, FullName, Plan};
use millstream_status::series::Series;
use millstream_status::status::ClusterStatus;
use millstream_status::what_if::{WhatIf, WhatIfRequest};

/// What is deployed: each deployment's settings, with bounds that were set by hand in place of the file's.
#[derive(Debug, Clone, Default)]
pub struct Specs(pub BTreeMap<FullName, DeploymentSpec>);

impl Specs {
    /// Takes in a pipeline's file.
    ///
    /// # Errors
    /// When it cannot be compiled, in words.
    pub fn add(&mut self, file_name: &str, source: &str, status: &ClusterStatus) -> Result<(), String> {
        let plan = Plan::compile(file_name, source).map_err(|faults| faults.to_string())?;
        for (deployment, spec) in plan.deployments() {
            let name = FullName { pipeline: plan.name().clone(), deployment: deployment.clone() };
            let mut spec = spec.clone();
            if let Some((min, max)) = bounds_by_hand(&name, status) {
                (spec.autoscaling.min_replicas, spec.autoscaling.max_replicas) = (min, max);
            }
            self.0.insert(name, spec);
        }
        Ok(())
    }
}

fn bounds_by_hand(name: &FullName, status: &ClusterStatus) -> Option<(u32, u32)> {
    let name = name.to_string();
    let mut all = status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
    let bounds = all.find(|deployment| deployment.full_name == name)?.bounds;
    bounds.bounds_by_hand.then_some((bounds.min_replicas, bounds.max_replicas))
}

/// What the recorded time would have come to with other settings; the same as the dashboard asks a head.
///
/// # Errors
/// When they make no sense, or nothing was recorded, in words.
pub fn otherwise(spec: &DeploymentSpec, series: &Series, request: &WhatIfRequest) -> Result<WhatIf, String> {
    let settings = millstream_core::present::what_if::settings(spec, request)?;
    let found = millstream_core::present::what_if::what_if(&request.deployment, series, settings);
    found.ok_or_else(|| format!("nothing of `{}` was recorded", request.deployment))
}
