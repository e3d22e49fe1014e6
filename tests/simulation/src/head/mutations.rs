//! Faults that are put into a head on purpose, in what it is told and what it publishes; those of its commands are where it
//! sends them.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::reconcile::observe::Report;
use millstream_core::reconcile::{State, routes};
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

    /// The next table, if it differs.
    pub(super) fn next_table(&mut self, now: Duration, cx: &Cx) -> Option<routes::RouteTable> {
        let publish = |state: &mut State| routes::publish(state, &self.desired, &cx.timing, now);
        match cx.mutation {
            Mutation::HeadRoutesTheConvicted => {
                let conclusions = std::mem::take(&mut self.state.conclusions);
                let table = publish(&mut self.state);
                self.state.conclusions = conclusions;
                table
            }
            Mutation::HeadSharesMoreThanAll => {
                publish(&mut self.state)?;
                for pipeline in Arc::make_mut(&mut self.state.routes.pipelines) {
                    pipeline.variants.iter_mut().take(1).for_each(|serving| serving.permille = 1000);
                }
                Some(self.state.routes.clone())
            }
            _ => publish(&mut self.state),
        }
    }
}
