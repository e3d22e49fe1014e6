//! Faults that are put into a head on purpose, in what it is told and what it publishes; those of its commands are where it
//! sends them.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::desired::Desired;
use millstream_core::model::{Counted, Report};
use millstream_core::reconcile::Effect;
use millstream_proto::status::ReplicaState;

use super::Head;
use crate::Mutation;
use crate::cx::Cx;

/// What an ingress has counted, as this head takes it.
pub(super) fn counted(mut counted: Counted, cx: &Cx) -> Counted {
    if cx.mutation == Mutation::HeadCountsOldAnswers {
        for tally in counted.values_mut() {
            tally.requests.answered += 1_000;
            tally.deployments.values_mut().for_each(|calls| calls.answered += 1_000);
        }
    }
    counted
}

/// What people ask for, as this head takes it.
pub(super) fn desired(desired: &Arc<Desired>, cx: &Cx) -> Arc<Desired> {
    let mut desired = Arc::clone(desired);
    if cx.mutation == Mutation::HeadForgetsCordons {
        Arc::make_mut(&mut desired).cordons.clear();
    }
    desired
}

impl Head {
    /// What a worker says of a replica, as this head takes it.
    pub(super) fn mutate(&mut self, mut report: Report, cx: &Cx) -> Report {
        if cx.mutation == Mutation::HeadOverlooksReports {
            let nodes = self.reconciler.state_mut().nodes.values_mut();
            let known = nodes.filter_map(|node| node.edit().replicas.get_mut(&report.id)).next();
            known.into_iter().for_each(|replica| replica.state = report.state);
        }
        if cx.mutation == Mutation::HeadTakesStartingForReady && report.state == ReplicaState::Starting {
            report.state = ReplicaState::Ready;
        }
        report
    }

    /// The table that it publishes, by a mutation.
    pub(super) fn mutate_table(&mut self, effects: &mut Vec<Effect>, now: Duration, cx: &Cx) {
        let reconciler = &mut self.reconciler;
        match cx.mutation {
            Mutation::HeadRoutesTheConvicted if !reconciler.state().conclusions.is_empty() => {
                let conclusions = std::mem::take(&mut reconciler.state_mut().conclusions);
                let table = reconciler.publish_again(now);
                reconciler.state_mut().conclusions = conclusions;
                effects.extend(table.map(Effect::Publish));
            }
            Mutation::HeadSharesMoreThanAll => {
                for effect in effects {
                    let Effect::Publish(table) = effect else { continue };
                    for pipeline in Arc::make_mut(&mut table.pipelines) {
                        Arc::make_mut(pipeline)
                            .variants
                            .iter_mut()
                            .take(1)
                            .for_each(|serving| serving.permille = 1000);
                    }
                    reconciler.state_mut().routes = table.clone();
                }
            }
            Mutation::HeadNamesTheStopped => {
                let stopped = self.watched.stopped.keys().next();
                for effect in effects {
                    let (Effect::Publish(table), Some(stopped)) = (effect, stopped) else { continue };
                    let mut routes = Arc::make_mut(&mut table.pipelines).iter_mut().map(Arc::make_mut);
                    let mut replicas = routes.next().into_iter().flat_map(|route| &mut route.deployments);
                    let replicas = replicas.next().into_iter().flat_map(|route| &mut route.replicas);
                    replicas.take(1).for_each(|replica| replica.replica = stopped.clone());
                }
            }
            _ => {}
        }
    }
}
