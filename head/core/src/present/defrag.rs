//! Which replicas may move, and the moves that would make whole GPUs free, with the names that people know.

use std::time::Duration;

use millstream_status::defrag::{DefragPlan, DeviceRef, ReplicaMove};
use millstream_status::status::ReplicaState;

use crate::Timing;
use crate::desired::Desired;
use crate::model::State;
use crate::reconcile::view::{free, takes_replicas};
use crate::scheduler::WHOLE_DEVICE;
use crate::scheduler::defrag::{Occupied, Seat, Tenant, defrag};

/// Finds the moves. Ready replicas that stay may move, on nodes that take replicas.
#[must_use]
pub fn plan(desired: &Desired, state: &State, timing: &Timing, now: Duration) -> DefragPlan {
    let nodes: Vec<_> = state
        .nodes
        .iter()
        .filter(|(_, node)| takes_replicas(node, &desired.cordons, timing, now))
        .map(|(id, node)| {
            let stays = |replica: &&crate::model::Replica| {
                replica.state == ReplicaState::Ready && replica.leaving.is_none()
            };
            let tenants = node.replicas.iter().filter(|(_, replica)| stays(replica));
            let tenant = |(id, replica): (&millstream_status::ReplicaId, &crate::model::Replica)| {
                let pipeline = desired.pipelines.get(&replica.deployment.pipeline)?;
                let spec = pipeline.revisions.get(&replica.revision)?.spec(&replica.deployment.deployment)?;
                let (deployment, gpus) = (replica.deployment.clone(), replica.gpus.clone());
                Some(Tenant { replica: id.clone(), deployment, demand: spec.demand.clone(), gpus })
            };
            Occupied { node: free(id, node), tenants: tenants.filter_map(tenant).collect() }
        })
        .collect();
    let found = defrag(&nodes);
    let device = |seat: &Seat| DeviceRef {
        node: state.nodes.get(&seat.node).map_or_else(|| seat.node.to_string(), |node| node.name.clone()),
        index: seat.index,
    };
    DefragPlan {
        moves: found
            .moves
            .iter()
            .map(|made| ReplicaMove {
                replica: made.replica.clone(),
                deployment: made.deployment.to_string(),
                share: f64::from(made.milli) / f64::from(WHOLE_DEVICE),
                from: device(&made.from),
                to: device(&made.to),
            })
            .collect(),
        freed: found.freed.iter().map(device).collect(),
    }
}
