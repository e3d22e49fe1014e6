//! Revisions that get no new requests, and on which requests may still be under way: a request keeps the plan that it
//! began with. Deployments that only such a plan calls stay, ready and routed, for as long as [`Timing`]'s watch after
//! requests moved, and for as long as a rollout may lead back to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_pipelines::{FullName, Name};
use millstream_status::status::ReplicaState;

use super::context::{Context, Needs, is_convicted};
use super::timer::Timer;
use super::view::ReplicaView;
use crate::Timing;
use crate::desired::{Desired, Revision};
use crate::model::{PipelineRoute, State};
use crate::rollout::Phase;

/// Whether requests of a revision that left the routes then may still be under way.
fn may_be_under_way(since: Duration, timing: &Timing, timer: &Timer) -> bool {
    !timer.reached(since + timing.rollout.watch)
}

/// The revisions of a pipeline on which requests may be under way, by number: those that the last table names, those
/// that it named a while ago, the one that a rollout may go back to; for a head that has just come to lead, all that
/// have ready replicas. Those in `known`, which are looked after anyway, are left out; so nothing is left as a rule.
pub(super) fn draining_revisions<'a>(
    context: &Context<'a>,
    known: impl Fn(u64) -> bool,
) -> Vec<&'a Arc<Revision>> {
    let Context { name, pipeline, view, state, timing, timer } = *context;
    let routed = state.routes.pipeline(name).into_iter().flat_map(|route| &route.variants);
    let routed = routed.map(|variant| variant.revision.stored.number);
    let left = state.draining.get(name).into_iter().flatten();
    let left = left.filter(|(_, since)| may_be_under_way(**since, timing, timer)).map(|(number, _)| *number);
    let rollout = state.rollouts.get(name).filter(|rollout| rollout.phase >= Phase::Moving);
    let baseline = rollout.map(|rollout| rollout.baseline);
    let unsettled = (!state.settling.is_over).then(|| view.of_pipeline(name)).into_iter().flatten();
    let ready = unsettled.flat_map(|(_, replicas)| replicas).filter(|seen| seen.is_ready());
    let ready = ready.map(|seen| seen.replica.revision);
    let mut numbers: Vec<u64> =
        routed.chain(left).chain(baseline).chain(ready).filter(|number| !known(*number)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.iter().filter_map(|number| pipeline.revisions.get(number)).collect()
}

/// Whether a replica answers requests of one of these revisions.
pub(super) fn serves_any(seen: &ReplicaView<'_>, revisions: &[&Arc<Revision>]) -> bool {
    let deployment = &seen.replica.deployment.deployment;
    revisions.iter().any(|revision| revision.spec(deployment).is_some() && seen.serves(revision))
}

/// Whether a table names a revision.
fn names(table: &[Arc<PipelineRoute>], pipeline: &Name, revision: u64) -> bool {
    let route = table.binary_search_by(|route| route.name.cmp(pipeline)).ok().map(|index| &table[index]);
    route.is_some_and(|route| route.variants.iter().any(|it| it.revision.stored.number == revision))
}

impl State {
    /// A head that has just come to lead: on whatever is ready requests may be under way.
    pub(super) fn drain_all(&mut self, now: Duration) {
        let replicas = self.nodes.values().flat_map(|node| node.replicas.values());
        for replica in replicas.filter(|replica| replica.state == ReplicaState::Ready) {
            let pipeline = replica.deployment.pipeline.clone();
            self.draining.entry(pipeline).or_default().insert(replica.revision, now);
        }
    }

    /// Notes which revisions leave the routes with the next table, and forgets those that left long ago.
    pub(super) fn note_draining(
        &mut self,
        next: &[Arc<PipelineRoute>],
        desired: &Desired,
        timing: &Timing,
        timer: &Timer,
    ) {
        for route in self.routes.pipelines.iter() {
            let same = next.binary_search_by(|it| it.name.cmp(&route.name));
            if same.is_ok_and(|index| Arc::ptr_eq(&next[index], route)) {
                continue;
            }
            for revision in route.variants.iter().map(|variant| variant.revision.stored.number) {
                if !names(next, &route.name, revision) {
                    self.draining.entry(route.name.clone()).or_default().insert(revision, timer.now());
                }
            }
        }
        self.draining.retain(|name, left| {
            left.retain(|number, since| {
                may_be_under_way(*since, timing, timer) && !names(next, name, *number)
            });
            !left.is_empty() && desired.pipelines.contains_key(name)
        });
    }
}

impl Context<'_> {
    /// Deployments that only revisions have on which requests may be under way keep what they have, and at least one
    /// replica, as long as they are to have any.
    pub(super) fn keep_for_draining(
        &self,
        draining: &[&Arc<Revision>],
        known: impl Fn(&Name) -> bool,
        needs: &mut Needs,
    ) {
        // What runs is not known yet, or is in order.
        if !self.state.settling.is_over {
            return;
        }
        let mut last: BTreeMap<&Name, &Revision> = BTreeMap::new();
        for revision in draining {
            let compiled = revision.compiled.iter().flat_map(|compiled| compiled.deployments.keys());
            last.extend(compiled.filter(|name| !known(name)).map(|name| (name, revision.as_ref())));
        }
        for (name, revision) in last {
            let deployment: FullName = self.full_name(name);
            let there = self.view.counted(&deployment).any(|seen| serves_any(seen, draining));
            let target = revision.spec(name).map_or(0, |spec| self.target(&deployment, spec));
            let convicted = is_convicted(self.state, self.name, self.pipeline, revision.stored.number);
            if !there && target > 0 && !convicted {
                needs.want(&deployment, revision, 1);
            }
        }
    }
}
