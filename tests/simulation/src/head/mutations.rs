//! Faults that are put into a head on purpose, in what it is told and what it publishes; those of its commands are where it
//! sends them.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::reconcile::observe::Report;
use millstream_core::reconcile::{self, Effect, routes};
use millstream_proto::status::ReplicaState;

use super::Head;
use crate::Mutation;
use crate::cx::Cx;

impl Head {
    /// What a worker says of a replica, as this head takes it.
    pub(super) fn mutate(mut report: Report, cx: &Cx) -> Report {
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
                let (desired, timing) = (Arc::clone(reconciler.desired()), reconciler.timing().clone());
                let state = reconciler.state_mut();
                let conclusions = std::mem::take(&mut state.conclusions);
                let table = routes::publish(state, &desired, &timing, &reconcile::Timer::at(now));
                state.conclusions = conclusions;
                effects.extend(table.map(Effect::Publish));
            }
            Mutation::HeadSharesMoreThanAll => {
                for effect in effects {
                    let Effect::Publish(table) = effect else { continue };
                    for pipeline in Arc::make_mut(&mut table.pipelines) {
                        pipeline.variants.iter_mut().take(1).for_each(|serving| serving.permille = 1000);
                    }
                    reconciler.state_mut().routes = table.clone();
                }
            }
            _ => {}
        }
    }
}
