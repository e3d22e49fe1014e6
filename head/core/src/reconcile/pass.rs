//! What one pass over the cluster is made of.

use millstream_pipelines::Name;

use super::context::Context;
use super::scope::Scope;
use super::timer::Timer;
use super::view::View;
use crate::Timing;
use crate::desired::{Desired, Pipeline};
use crate::model::State;

/// What a pass is made of.
#[derive(Clone, Copy)]
pub(super) struct Pass<'a> {
    pub(super) desired: &'a Desired,
    pub(super) state: &'a State,
    pub(super) timing: &'a Timing,
    pub(super) timer: &'a Timer,
    pub(super) scope: &'a Scope,
}

impl<'a> Pass<'a> {
    pub(super) fn view(&self) -> View<'a> {
        View::of_scope(self.scope, self.state, &self.desired.cordons, self.timing, self.timer.now())
    }

    /// The pipelines that it is about.
    pub(super) fn pipelines(&self) -> impl Iterator<Item = (&'a Name, &'a Pipeline)> {
        self.desired.pipelines.iter().filter(|(name, _)| self.scope.contains(name))
    }

    pub(super) fn context(&self, name: &'a Name, pipeline: &'a Pipeline, view: &'a View<'a>) -> Context<'a> {
        let Self { state, timing, timer, .. } = *self;
        Context { name, pipeline, view, state, timing, timer }
    }
}
