//! One deployment at an ingress: the real pool, and the model of what its actor-like shell does (keys of replicas,
//! waiters, wakes).

use std::collections::BTreeMap;
use std::time::Instant;

use millstream_core::model::ReplicaRoute;
use millstream_ingress::decisions::{
    CallCounts, Grant, Key, Locality, Member, Pool, PoolLimits, Ticket, TrafficShare,
};
use millstream_pipelines::DeploymentSpec;
use millstream_proto::ReplicaId;

use super::{Ingress, Instance};
use crate::Mutation;
use crate::clock::Timer;
use crate::cx::Cx;

/// A replica that calls may go to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) key: Key,
    pub(super) id: ReplicaId,
    pub(super) address: String,
    /// The revision that it was started for.
    pub(super) revision: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) pool: Pool,
    pub(super) targets: Vec<Target>,
    pub(super) waiters: BTreeMap<Ticket, u64>,
    pub(super) idempotent: bool,
    /// Calls that ever came, and those on the way, to replicas that have left the routes as well.
    pub(super) arrived: u64,
    pub(super) ongoing: u64,
    /// How calls ended, as far as the head has not been told.
    pub(super) counts: CallCounts,
    next_key: Key,
    wake_at: Option<Instant>,
}

impl Deployment {
    pub(super) fn new() -> Self {
        let limits = PoolLimits { max_ongoing: 1, max_queued: None, near_room: 1 };
        Self {
            pool: Pool::new(limits),
            targets: Vec::new(),
            waiters: BTreeMap::new(),
            idempotent: false,
            arrived: 0,
            ongoing: 0,
            counts: CallCounts::default(),
            next_key: 0,
            wake_at: None,
        }
    }

    /// Takes the replicas of a new table; those that stay keep their keys.
    fn retarget(&mut self, replicas: &[ReplicaRoute]) -> Vec<Member> {
        let old = std::mem::take(&mut self.targets);
        let mut members = Vec::new();
        for replica in replicas {
            let same = |target: &&Target| target.id == replica.replica && target.address == replica.address;
            let target = old.iter().find(same).cloned().unwrap_or_else(|| {
                let key = self.next_key;
                self.next_key += 1;
                let (id, address) = (replica.replica.clone(), replica.address.clone());
                Target { key, id, address, revision: replica.revision }
            });
            let serves = replica.serves.iter().copied().collect();
            let answers = replica.answers.iter().copied().collect();
            members.push(Member { key: target.key, locality: Locality::Remote, serves, answers });
            self.targets.push(target);
        }
        members
    }

    pub(super) fn target(&self, key: Key) -> Option<&Target> {
        self.targets.iter().find(|target| target.key == key)
    }
}

impl Ingress {
    /// Puts settings and replicas of a new table in force.
    pub(super) fn update(
        &mut self,
        instance: Instance,
        spec: Option<&DeploymentSpec>,
        (replicas, shares, num_ingresses): (&[ReplicaRoute], &[TrafficShare], u32),
        cx: &mut Cx,
    ) {
        let now = cx.instant();
        let Some(deployment) = self.deployments.get_mut(&instance) else { return };
        if let Some(spec) = spec {
            deployment.idempotent = spec.limits.idempotent;
            let max_ongoing = spec.limits.max_ongoing_requests.max(1);
            let max_queued = spec.limits.max_queued_requests;
            deployment.pool.set_limits(PoolLimits { max_ongoing, max_queued, near_room: 2 });
        }
        deployment.pool.set_num_ingresses(num_ingresses);
        let mut members = deployment.retarget(replicas);
        if cx.mutation == Mutation::IngressAsksAnybody {
            members.iter_mut().for_each(|member| member.answers.clear());
        }
        let grants = deployment.pool.set_replicas(members, shares, now, &mut cx.rng);
        self.deliver(instance, &grants, cx);
    }

    /// Waiting requests that are bound now send their calls.
    pub(super) fn deliver(&mut self, instance: Instance, grants: &[Grant], cx: &mut Cx) {
        for grant in grants {
            let deployment = self.deployments.get_mut(&instance);
            if let Some(request) = deployment.and_then(|deployment| deployment.waiters.remove(&grant.ticket))
            {
                self.send_call(request, instance, grant.key, cx);
            }
        }
        self.schedule_wake(instance, cx);
    }

    /// Some waits end by the passing of time alone.
    pub(super) fn schedule_wake(&mut self, instance: Instance, cx: &mut Cx) {
        let now = cx.instant();
        let Some(deployment) = self.deployments.get_mut(&instance) else { return };
        let Some(at) = deployment.pool.next_wake() else { return };
        if deployment.wake_at.is_some_and(|planned| planned <= at && planned >= now) {
            return;
        }
        deployment.wake_at = Some(at);
        cx.timer(self.process, at.saturating_duration_since(now), Timer::Wake(instance));
    }

    pub(super) fn wake(&mut self, instance: Instance, cx: &mut Cx) {
        let now = cx.instant();
        let Some(deployment) = self.deployments.get_mut(&instance) else { return };
        deployment.wake_at = None;
        let grants = deployment.pool.pump(now, &mut cx.rng);
        self.deliver(instance, &grants, cx);
    }
}
