//! What is decided, in the process's log.

use millstream_core::model::{Command, Scale};
use millstream_core::rollout::{self, ChangeKind};

/// Logs a command.
pub(super) fn log(command: &Command) {
    match command {
        Command::Serve { pipeline, revision, complete } => {
            tracing::info!(%pipeline, revision, complete, "requests run on this revision");
        }
        Command::Rollout(change) => {
            let rollout::Change { pipeline, revision, baseline, kind } = change;
            match kind {
                ChangeKind::RollBack { reason } => {
                    tracing::warn!(%pipeline, revision, baseline, reason, "going back to the revision before");
                }
                kind => tracing::info!(%pipeline, revision, baseline, ?kind, "rollout"),
            }
        }
        Command::Start(order) => {
            tracing::info!(replica_id = %order.replica, node_id = %order.node, deployment = %order.deployment,
                revision = order.revision, "starting a replica");
        }
        Command::Update(order) => {
            tracing::info!(replica_id = %order.replica, revision = order.revision, "telling a replica new settings");
        }
        Command::Retire { replica, reason, .. } => {
            tracing::info!(replica_id = %replica, %reason, "taking a replica out of the routes");
        }
        Command::Stop { replica, reason, .. } => {
            tracing::info!(replica_id = %replica, %reason, "stopping a replica");
        }
        Command::ReplaceNode { node } => {
            tracing::warn!(node_id = %node, "node is lost; its replicas are placed elsewhere");
        }
        Command::Alarm { raised: true } => {
            tracing::error!(
                "half of the nodes look dead at once; replicas are not replaced until they come back"
            );
        }
        Command::Alarm { raised: false } => tracing::info!("enough nodes are back"),
        Command::Scale(scale) => {
            let Scale { deployment, from, to, rule, inputs, .. } = &**scale;
            let (ongoing, queued, ready) = (inputs.ongoing, inputs.queued, inputs.ready);
            tracing::info!(%deployment, from, to, %rule, ongoing, queued, ready, "scaling");
        }
        Command::Settle
        | Command::ForgetNode { .. }
        | Command::ForgetIngress { .. }
        | Command::ForgetPipeline { .. } => {}
    }
}
