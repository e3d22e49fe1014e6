//! What a head observes and decides, in a line of the history.

use millstream_core::model::{Command, Observation};

pub(super) fn brief(observation: &Observation) -> String {
    match observation {
        Observation::NodeJoined(session, registration) => {
            let replicas = registration.replicas.iter().map(|it| format!("{} {:?}", it.id, it.state));
            format!("{} joins ({session:?}) with {:?}", registration.id, replicas.collect::<Vec<_>>())
        }
        Observation::ReplicaChanged(node, _, report) => {
            format!("{} on {node} is {:?}, restarts {}", report.id, report.state, report.restarts)
        }
        Observation::Counted(_, _, counted) => {
            let tallies = counted.iter().map(|((pipeline, revision), tally)| {
                let of = |outcomes: &millstream_core::rollout::Outcomes| {
                    format!("{}/{}", outcomes.failed, outcomes.total())
                };
                let calls: Vec<_> = tally.deployments.values().map(of).collect();
                format!("{pipeline}@{revision} {} {}", of(&tally.requests), calls.join(" "))
            });
            format!("failures {}", tallies.collect::<Vec<_>>().join(", "))
        }
        other => format!("{other:?}"),
    }
}

pub(super) fn brief_command(command: &Command) -> String {
    match command {
        Command::Start(order) => {
            format!(
                "start {} of revision {} on {}, {:?}",
                order.replica, order.revision, order.node, order.gpus
            )
        }
        Command::Update(order) => format!("update {} to revision {}", order.replica, order.revision),
        Command::Scale(scale) => {
            format!("scale {} from {} to {}, {:?}", scale.deployment, scale.from, scale.to, scale.rule)
        }
        other => format!("{other:?}"),
    }
}
