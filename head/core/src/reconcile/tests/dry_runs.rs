//! What a dry run says, against what then happens.

use super::*;
use crate::dry_run;
use millstream_status::deploy_plan::{DeployPlan, DeploymentChange};

impl Cluster {
    /// The plan of deploying these as `p`.
    fn plan(&self, specs: &[DeploymentSpec]) -> DeployPlan {
        let compiled = compiled("p", specs.iter().cloned());
        let source = format!("{specs:?}");
        let candidate = Candidate { file_name: "p.toml".into(), source, source_dir: "/".into(), compiled };
        let mut desired = self.desired.clone();
        if let Deployed::New(revision) = deploy(&self.desired, candidate, 1).unwrap() {
            desired.add(&name("p"), revision);
        }
        dry_run::plan(&self.head, &desired, &name("p"), self.now)
    }
}

fn counts(plan: &DeployPlan) -> (DeploymentChange, usize, usize, usize) {
    let only = &plan.deployments[0];
    (only.change, only.starts.len(), only.stops.len(), only.updates.len())
}

#[test]
fn a_plan_tells_what_then_happens() {
    let mut cluster = serving(3);
    cluster.join_ingress();
    assert_eq!(counts(&cluster.plan(&[model(3, 2)])), (DeploymentChange::Replaced, 3, 3, 0));
    assert_eq!(counts(&cluster.plan(&[model(2, 1)])), (DeploymentChange::InPlace, 0, 1, 3));
    let unchanged = cluster.plan(&[model(3, 1)]);
    assert!(!unchanged.changed);
    assert_eq!(counts(&unchanged), (DeploymentChange::Unchanged, 0, 0, 0));
    let mut other = model(1, 1);
    other.name = name("other");
    let swapped = cluster.plan(&[other]);
    let changes: Vec<_> =
        swapped.deployments.iter().map(|plan| (plan.full_name.as_str(), plan.change)).collect();
    assert_eq!(changes, [("p/model", DeploymentChange::Removed), ("p/other", DeploymentChange::New)]);
    assert_eq!((swapped.deployments[0].stops.len(), swapped.deployments[1].starts.len()), (3, 1));
}

#[test]
fn what_does_not_fit_is_said_and_nothing_is_changed() {
    let cluster = serving(1);
    let before = cluster.state.clone();
    let mut huge = model(1, 2);
    huge.demand.cpu_milli = 1_000_000;
    let plan = cluster.plan(&[huge]);
    assert_eq!(plan.deployments[0].pending.len(), 2, "a reason for each node");
    assert_eq!(plan.deployments[0].stops.len(), 0, "what serves stays");
    assert_eq!(cluster.state, before);
}
