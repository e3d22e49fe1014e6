//! What the rules ask of a head's commands and tables.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::model::{Command, PipelineRoute, Variant};
use millstream_core::rollout::{Change, ChangeKind};
use millstream_pipelines::Name;
use millstream_proto::ReplicaId;

use super::Head;
use crate::Mutation;
use crate::checks::Rule;
use crate::cx::Cx;

impl Head {
    /// A replica may be told to stop only when no ingress of this head sends to it, or had time to learn that; it may be started
    /// on nodes that people do not keep free.
    pub(super) fn check(&mut self, command: &Command, now: Duration, cx: &mut Cx) {
        match command {
            Command::Retire { replica, .. } => {
                self.watched.retired.insert(replica.clone(), now);
                if cx.mutation == Mutation::HeadStopsAtOnce {
                    self.check_stop(replica, now, cx);
                }
            }
            Command::ReplaceNode { node } => {
                // Should it come back, all is decided afresh.
                self.watched.stopped.retain(|_, there| there != node);
            }
            Command::Stop { node, replica, .. } => {
                self.watched.stopped.insert(replica.clone(), node.clone());
                self.check_stop(replica, now, cx);
            }
            Command::Start(order) => {
                let stored = &cx.store.desired;
                let name = self.state().nodes.get(&order.node).map(|node| &node.name);
                let is_kept = name.is_some_and(|name| stored.cordons.contains_key(name));
                // One that has been replaced may not have heard.
                if is_kept && stored.generation == self.desired().generation {
                    let detail = format!("{} is started on {}", order.replica, order.node);
                    cx.checks.fail(Rule::CordonedGetNothing, detail);
                }
            }
            _ => {}
        }
    }

    fn check_stop(&self, replica: &ReplicaId, now: Duration, cx: &mut Cx) {
        let bound = cx.timing.ack_timeout;
        // A worker refuses what a head says that has been replaced. One for which nothing is desired waits for nobody.
        if self.state().epoch < cx.store.epoch || self.desired().pipelines.is_empty() {
            return;
        }
        // One that this head did not take out of the routes was told to stop by the head before.
        let Some(&retired) = self.watched.retired.get(replica) else { return };
        if now.saturating_sub(retired) >= bound {
            return;
        }
        for ingress in cx.checks.ingresses() {
            let open = self.ingress_streams.values().any(|stream| stream.process == ingress);
            // One that has not said a word to this head may still dial: the bound runs from the head's start.
            let heard = self.watched.heard.get(&ingress).copied().unwrap_or_default();
            let gone = !open && now.saturating_sub(heard) >= bound;
            if !gone && cx.checks.may_send(ingress, replica) {
                let detail = format!("{replica} is told to stop while {ingress:?} may send to it");
                cx.checks.fail(Rule::StopsAfterRoutes, detail);
            }
        }
    }

    /// While it asks to be woken later, there is nothing to decide.
    pub(super) fn check_wakes(&mut self, cx: &mut Cx) {
        let now = self.clock(cx);
        self.num_checks += 1;
        // It costs a look at everything.
        let is_calm = self.reconciler.next_wake().is_none_or(|at| at > now);
        if is_calm && self.num_checks.is_multiple_of(16) {
            let found = self.reconciler.overlooked(now);
            if let Some(effect) = found.first() {
                cx.checks.fail(Rule::NothingOverlooked, format!("{effect:?}"));
            }
        }
    }

    /// Parts of requests add up, and a revision that was convicted gets none, unless it serves already and the one before
    /// it is not ready again.
    pub(super) fn check_table(&self, before: &[Arc<PipelineRoute>], cx: &mut Cx) {
        for pipeline in self.state().routes.pipelines.iter() {
            let variants = &pipeline.variants;
            let sum: u32 = variants.iter().map(|variant| u32::from(variant.permille)).sum();
            if sum != 1000 {
                cx.checks.fail(Rule::WholeOfRequests, format!("{sum} thousandths of {}", pipeline.name));
            }
            let number = |variant: &Variant| variant.revision.stored.number;
            let known = before.iter().find(|known| known.name == pipeline.name);
            let served = known.and_then(|known| known.variants.first()).map(number);
            for (index, revision) in variants.iter().map(number).enumerate() {
                let serves_on = index == 0 && served == Some(revision);
                if self.is_convicted(&pipeline.name, revision) && !serves_on {
                    let detail = format!("{}@{revision} was convicted, and is routed", pipeline.name);
                    cx.checks.fail(Rule::ConvictedNotRouted, detail);
                }
            }
        }
    }

    fn is_convicted(&self, pipeline: &Name, revision: u64) -> bool {
        let conclusion = self.state().conclusions.get(pipeline);
        let here =
            conclusion.is_some_and(|conclusion| conclusion.revision == revision && conclusion.back.is_some());
        let stored = self.desired().pipelines.get(pipeline);
        here || stored.is_some_and(|stored| stored.verdicts.contains_key(&revision))
    }

    /// Replicas of a revision that was convicted leave before others are there; so do those that it is on its way back
    /// from when a third revision is deployed amid that: nothing tells them from replicas that have proven nothing.
    pub(super) fn excuse(&self, command: &Command, before: &[Arc<PipelineRoute>], cx: &mut Cx) {
        if let Command::Rollout(Change { kind: ChangeKind::End, revision, baseline, .. }) = command
            && revision < baseline
        {
            cx.disturbed(Duration::ZERO);
        }
        let Command::Serve { pipeline, revision, .. } = command else { return };
        let before = before.iter().find(|route| route.name == *pipeline);
        let served = before.and_then(|route| Some(route.variants.first()?.revision.stored.number));
        if served.is_some_and(|served| served != *revision && self.is_convicted(pipeline, served)) {
            cx.disturbed(Duration::ZERO);
        }
    }
}
