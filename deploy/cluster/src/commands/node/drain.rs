//! `cluster node drain`: asks for it, shows how what runs on the node moves, and says in the end why the rest has not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use millstream_pipelines::parse_duration;
use millstream_proto::ReplicaId;
use millstream_proto::status::{ClusterStatus, DeploymentStatus, NodeState, ReplicaState};
use millstream_proto::v1::change_node_request::Change;
use serde::Serialize;
use serde_json::json;

use crate::client::{Client, StatusWatch};
use crate::exit::Failure;
use crate::output::Output;
use crate::progress::{Display, Line};

/// Flags of `cluster node drain`.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// Name or id of a node.
    #[arg(value_name = "NODE")]
    node: String,
    /// Return once the cluster has stored it, before anything has moved.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait until nothing runs there. The drain goes on afterwards.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    timeout: Duration,
}

/// Runs the command.
pub(super) async fn run(client: &mut Client, output: Output, args: &DrainArgs) -> Result<(), Failure> {
    let node = client.change_node(&args.node, Change::Drain).await?.node;
    if args.no_wait {
        let json = json!({"node": node, "drained": false});
        return output.show(&json, || {
            format!(
                "{node} is being drained; `cluster node list` shows it as draining until nothing runs there"
            )
        });
    }
    let mut drain = Drain { node: node.clone(), seen: BTreeMap::new() };
    let mut watch = client.watch_status().await?;
    let deadline = millstream_clock::now() + args.timeout;
    let waited = tokio::select! {
        waited = tokio::time::timeout_at(deadline.into(), until_over(&mut drain, &mut watch)) => waited,
        _ = tokio::signal::ctrl_c() => return Err(Failure::interrupted(goes_on(&node, "not waited for any longer"))),
    };
    match waited {
        Ok(ended) => ended?,
        Err(_) => {
            let left = drain.left(&client.status().await?);
            return Err(too_late(&node, args.timeout, &left));
        }
    }
    let num_moved = drain.seen.values().map(BTreeSet::len).sum::<usize>();
    let json = json!({"node": node, "drained": true, "replicas": num_moved});
    output.show(&json, || {
        let left = match num_moved {
            0 => "nothing ran there".to_owned(),
            1 => "its replica has left".to_owned(),
            many => format!("its {many} replicas have left"),
        };
        format!(
            "{node} is drained: {left}; stop its process, or `cluster node uncordon {node}` takes it back"
        )
    })
}

/// Follows the drain until nothing runs on the node.
async fn until_over(drain: &mut Drain, watch: &mut StatusWatch) -> Result<(), Failure> {
    let mut display = Display::new();
    loop {
        let Some(status) = watch.next().await? else {
            return Err(Failure::unreachable("the cluster went away before the node was drained"));
        };
        display.show(drain.lines(&status));
        match drain.verdict(&status) {
            Verdict::Waiting => {}
            Verdict::Empty => return Ok(()),
            Verdict::TakenBack => {
                let node = &drain.node;
                return Err(Failure::failed(format!("somebody has taken the drain of {node} back")));
            }
        }
    }
}

fn goes_on(node: &str, what: &str) -> String {
    format!("{what}: the drain of {node} goes on; `cluster node uncordon {node}` ends it")
}

fn too_late(node: &str, timeout: Duration, left: &[Left]) -> Failure {
    let mut text = format!("{node} is not empty after {}", humantime::format_duration(timeout));
    for Left { deployment, replicas, why, .. } in left {
        let replicas = if *replicas == 1 { "1 replica".to_owned() } else { format!("{replicas} replicas") };
        text += &format!("\n  {deployment}: {replicas}, {why}");
    }
    Failure::failed(format!("{text}\n{}", goes_on(node, "this command no longer waits")))
        .with("left", json!(left))
}

/// A drain under way, as its command sees it.
struct Drain {
    node: String,
    /// The replicas that were on the node at some time, by deployment.
    seen: BTreeMap<String, BTreeSet<ReplicaId>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Waiting,
    Empty,
    TakenBack,
}

/// What of a deployment is still on the node.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Left {
    deployment: String,
    replicas: usize,
    /// Those of them that only finish their calls.
    finishing: usize,
    /// What the others wait for, in words.
    why: String,
    /// What is missing for their replacements.
    reasons: Vec<String>,
}

impl Drain {
    /// What is on the node.
    fn left(&self, status: &ClusterStatus) -> Vec<Left> {
        let deployments = status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments);
        deployments.filter_map(|deployment| self.left_of(deployment)).collect()
    }

    fn left_of(&self, deployment: &DeploymentStatus) -> Option<Left> {
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            deployment.replicas.iter().partition(|replica| replica.node == self.node);
        let finishing = here.iter().filter(|replica| replica.state == ReplicaState::Draining).count();
        let failed = elsewhere.iter().find(|replica| !replica.error.is_empty());
        let reasons = deployment.pending.clone();
        let why = match (reasons.is_empty(), failed) {
            _ if finishing == here.len() => "finishing its calls".to_owned(),
            (false, _) => format!("no other place ({})", reasons.join("; ")),
            (true, Some(failed)) => format!("its replacement on {} failed: {}", failed.node, failed.error),
            (true, None) => "its replacement is not ready yet".to_owned(),
        };
        let left =
            Left { deployment: deployment.full_name.clone(), replicas: here.len(), finishing, why, reasons };
        (left.replicas > 0).then_some(left)
    }

    /// What people see: of each deployment that was there how much has moved, and what the rest waits for.
    fn lines(&mut self, status: &ClusterStatus) -> Vec<Line> {
        for deployment in status.pipelines.iter().flat_map(|pipeline| &pipeline.deployments) {
            let here = deployment.replicas.iter().filter(|replica| replica.node == self.node);
            let here: Vec<_> = here.map(|replica| replica.id.clone()).collect();
            if !here.is_empty() {
                self.seen.entry(deployment.full_name.clone()).or_default().extend(here);
            }
        }
        let left = self.left(status);
        let line = |(deployment, seen): (&String, &BTreeSet<ReplicaId>)| {
            let left = left.iter().find(|left| left.deployment == *deployment);
            let num_moved = seen.len() - left.map_or(0, |left| left.replicas);
            let text = match left {
                Some(left) => format!("{num_moved} of {} moved; {}", seen.len(), left.why),
                None => format!("{num_moved} of {} moved", seen.len()),
            };
            let (key, what, is_over) = (deployment.clone(), deployment.clone(), left.is_none());
            Line { key, what, text, is_over }
        };
        self.seen.iter().map(line).collect()
    }

    fn verdict(&self, status: &ClusterStatus) -> Verdict {
        let node = status.nodes.iter().find(|node| node.name == self.node);
        match node.map(|node| node.state) {
            Some(NodeState::Ready) => Verdict::TakenBack,
            // Cordoned instead, with what is there.
            Some(NodeState::Cordoned) if !self.left(status).is_empty() => Verdict::TakenBack,
            Some(NodeState::Cordoned | NodeState::Left) | None => Verdict::Empty,
            Some(NodeState::Draining | NodeState::Unreachable) => Verdict::Waiting,
        }
    }
}

#[cfg(test)]
mod tests;
