//! `cluster deploy --dry-run`: what would start, stop, change in place, and what does not fit.

use std::fmt::Write as _;

use millstream_proto::deploy_plan::{DeployPlan, DeploymentChange, DeploymentPlan, PlannedReplica};
use millstream_proto::v1::DeployRequest;

use crate::client::Client;
use crate::exit::Failure;
use crate::global::Global;
use crate::output::Output;
use crate::style;

/// Prints the plan of each file, each on top of those before it.
pub(crate) async fn run(global: &Global, client: &mut Client, request: DeployRequest) -> Result<(), Failure> {
    let plans = client.plan_deploy(request).await?;
    Output::of(global)
        .show(&serde_json::json!({ "plans": plans }), || plans.iter().map(render).collect::<String>())
}

pub(super) fn render(plan: &DeployPlan) -> String {
    let mut text = String::new();
    let name = style::strong(&plan.pipeline);
    if !plan.changed {
        let _ = writeln!(text, "{name} revision {} is unchanged", plan.revision);
        return text;
    }
    let _ = writeln!(text, "{name} would become revision {}; nothing is changed yet", plan.revision);
    for broken in &plan.breaking {
        let _ = writeln!(text, "  {} {broken}", style::bad("breaks callers:"));
    }
    if let Some(captures) = &plan.captures {
        let _ = writeln!(text, "  {} {captures}", style::warn("captures"));
    }
    for deployment in &plan.deployments {
        deployment_lines(&mut text, deployment);
    }
    if plan.is_cut_off {
        let _ = writeln!(text, "  and more: the cluster is too large for the whole plan");
    }
    text
}

fn deployment_lines(text: &mut String, plan: &DeploymentPlan) {
    let change = match plan.change {
        DeploymentChange::New => style::good("is new"),
        DeploymentChange::Replaced => style::warn("needs new replicas"),
        DeploymentChange::InPlace => style::good("changes in place"),
        DeploymentChange::Unchanged => "stays as it is".to_owned(),
        DeploymentChange::Removed => style::bad("goes"),
    };
    let _ = writeln!(text, "  {} {change}", plan.full_name);
    for (what, replicas) in [("start on", &plan.starts), ("stop", &plan.stops), ("update", &plan.updates)] {
        for replica in replicas {
            let _ = match what {
                "start on" => writeln!(text, "    {what} {}{}", replica.node, shares(replica)),
                _ => writeln!(text, "    {what} {} on {}", replica.replica, replica.node),
            };
        }
    }
    for reason in &plan.pending {
        let _ = writeln!(text, "    {} {reason}", style::bad("does not fit:"));
    }
}

fn shares(replica: &PlannedReplica) -> String {
    let shares = replica
        .gpus
        .iter()
        .map(|(index, milli)| format!(", {:.3} of GPU {index}", f64::from(*milli) / 1000.0));
    shares.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_what_starts_stops_and_does_not_fit() {
        let replica = |replica: &str, node: &str, gpus| PlannedReplica {
            replica: replica.into(),
            node: node.into(),
            gpus,
        };
        let plan = DeployPlan {
            pipeline: "rag".into(),
            revision: 4,
            changed: true,
            breaking: vec!["the response field `x` goes".into()],
            captures: Some("5% of the requests, sent to `http://a/`".into()),
            deployments: vec![DeploymentPlan {
                full_name: "rag/embedder".into(),
                change: DeploymentChange::Replaced,
                starts: vec![replica("new", "a", vec![(0, 250)])],
                stops: vec![replica("rag-embedder-1-1", "b", vec![])],
                updates: vec![],
                pending: vec!["b: needs 0.25 of one GPU, at most 0 of one is free".into()],
            }],
            is_cut_off: true,
        };
        owo_colors::set_override(false);
        insta::assert_snapshot!(render(&plan), @r"
        rag would become revision 4; nothing is changed yet
          breaks callers: the response field `x` goes
          captures 5% of the requests, sent to `http://a/`
          rag/embedder needs new replicas
            start on a, 0.250 of GPU 0
            stop rag-embedder-1-1 on b
            does not fit: b: needs 0.25 of one GPU, at most 0 of one is free
          and more: the cluster is too large for the whole plan
        ");
        let same = DeployPlan { changed: false, ..plan };
        assert_eq!(render(&same), "rag revision 4 is unchanged\n");
    }
}
