//! One pipeline and what surrounds it, as the rules about its replicas, its serving revision and its draining revisions see
//! it, and what they ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_pipelines::{DeploymentSpec, FullName, Name};

use super::timer::Timer;
use super::view::{ReplicaView, View};
use crate::desired::{Mode, Pipeline, Revision};
use crate::model::{Command, Reason, State};
use crate::scheduler::GroupId;
use crate::{Timing, autoscaler};

/// Replicas to start, before they have places.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WantedReplicas {
    pub(crate) deployment: FullName,
    pub(crate) revision: u64,
    pub(crate) count: usize,
    /// Set when it starts together with others or not at all.
    pub(crate) group: Option<GroupId>,
}

/// What a pipeline needs.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) commands: Vec<Command>,
    pub(crate) start: Vec<WantedReplicas>,
}

/// One pipeline and what surrounds it.
pub(crate) struct Context<'a> {
    pub(crate) name: &'a Name,
    pub(crate) pipeline: &'a Pipeline,
    pub(crate) view: &'a View<'a>,
    pub(crate) state: &'a State,
    pub(crate) timing: &'a Timing,
    pub(super) timer: &'a Timer,
}

impl Needs {
    pub(crate) fn want(&mut self, deployment: &FullName, revision: &Revision, count: usize) {
        if count > 0 {
            let revision = revision.stored.number;
            self.start.push(WantedReplicas { deployment: deployment.clone(), revision, count, group: None });
        }
    }
}

impl<'a> Context<'a> {
    /// The revision that is to serve: what people want, or what their wish was rolled back to although the store does not
    /// know it yet.
    pub(super) fn wanted(&self) -> Option<&'a Arc<Revision>> {
        let back = self.rolled_back_to().and_then(|to| self.pipeline.revisions.get(&to));
        back.or_else(|| self.pipeline.wanted())
    }

    /// How the wanted revision takes over.
    pub(super) fn mode(&self) -> Mode {
        match (self.pipeline.rollout, self.rolled_back_to()) {
            (Some(stored), None) => stored.mode,
            _ => Mode::Rolling,
        }
    }

    pub(super) fn rolled_back_to(&self) -> Option<u64> {
        let conclusion = self.state.conclusions.get(self.name)?;
        let back = conclusion.back.as_ref().filter(|_| conclusion.revision == self.pipeline.wanted)?;
        Some(back.0)
    }

    pub(crate) fn full_name(&self, deployment: &Name) -> FullName {
        FullName { pipeline: self.name.clone(), deployment: deployment.clone() }
    }

    /// How many replicas a deployment is to have under these settings.
    pub(crate) fn target(&self, deployment: &FullName, spec: &DeploymentSpec) -> usize {
        target(&self.state.targets, deployment, spec)
    }

    /// How many replicas a deployment of the wanted revision is to have. Before the revision serves there is one at least of
    /// each model, so that it has been loaded once and the file checked against what it takes and returns. (Knative's initial
    /// scale.)
    pub(crate) fn wanted_target(&self, deployment: &FullName, spec: &DeploymentSpec) -> usize {
        let target = self.target(deployment, spec);
        if self.is_proven() { target } else { target.max(num_to_prove(spec)) }
    }

    /// Whether the wanted revision serves. A head that has just come to lead does not know, and takes it for granted.
    fn is_proven(&self) -> bool {
        let serving = self.state.serving.get(self.name);
        let wanted = self.wanted().map(|wanted| wanted.stored.number);
        serving.is_none_or(|serving| serving.complete && Some(serving.revision) == wanted)
    }

    /// Whether the revision fits its models, as far as they are known, and every deployment of it has `needed` ready replicas.
    pub(crate) fn has_ready(
        &self,
        revision: &Revision,
        needed: impl Fn(&Name, &DeploymentSpec) -> usize,
    ) -> bool {
        let fits = self.state.mismatch(self.name, revision.stored.number).is_none();
        fits && revision.compiled.as_ref().is_ok_and(|compiled| {
            compiled.deployments.iter().all(|(name, spec)| {
                self.view.num_ready(&self.full_name(name), revision) >= needed(name, spec)
            })
        })
    }
}

/// Lets a replica leave.
pub(super) fn retire(seen: &ReplicaView<'_>, reason: Reason) -> Command {
    Command::Retire { node: seen.node_id.clone(), replica: seen.id.clone(), reason }
}

/// How many replicas it takes to know what a deployment's model takes and returns.
pub(super) fn num_to_prove(spec: &DeploymentSpec) -> usize {
    usize::from(spec.model.is_some() && spec.autoscaling.max_replicas > 0)
}

/// How many replicas run beside those of the serving revision: for a canary or a shadow as many as its part of the
/// requests needs.
pub(crate) fn beside(mode: Mode, target: usize) -> usize {
    match mode {
        Mode::Rolling | Mode::Promoted { .. } => target,
        Mode::Canary { permille } | Mode::Shadow { permille } | Mode::Steps { permille } => {
            (target * usize::from(permille)).div_ceil(1000).clamp(target.min(1), target)
        }
    }
}

/// Whether a verdict is against a revision, in force here or stored.
pub(crate) fn is_convicted(state: &State, name: &Name, pipeline: &Pipeline, revision: u64) -> bool {
    let conclusion = state.conclusions.get(name);
    conclusion.is_some_and(|conclusion| conclusion.revision == revision && conclusion.back.is_some())
        || pipeline.verdicts.contains_key(&revision)
}

/// Whether replicas of either settings can answer the same calls.
pub(crate) fn is_interchangeable(a: &DeploymentSpec, b: &DeploymentSpec) -> bool {
    a.task == b.task && a.inputs == b.inputs
}

/// What the autoscaler has decided, by deployment.
pub(crate) type Targets = BTreeMap<FullName, u32>;

/// How many replicas a deployment is to have: what the autoscaler has decided, within the bounds of these settings.
pub(crate) fn target(targets: &Targets, deployment: &FullName, spec: &DeploymentSpec) -> usize {
    let decided = targets.get(deployment).copied();
    decided.map_or_else(
        || autoscaler::initial(&spec.autoscaling),
        |target| autoscaler::bound(&spec.autoscaling, target),
    ) as usize
}
