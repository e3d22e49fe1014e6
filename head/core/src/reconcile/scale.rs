//! Autoscaling of what is observed: loads go into histories, histories into decisions, decisions into commands.
//!
//! Only deployments that have requests, or more replicas than their minimum, have a [`Scaler`]; the others cost nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_pipelines::{Autoscaling, DeploymentSpec, FullName};
use millstream_status::IngressId;
use millstream_status::status::ReplicaState;

use super::moving::split;
use super::pass::Pass;
use super::scope::{Change, Scope};
use super::view::{ReplicaView, View};
use crate::autoscaler::{Inputs, Rule, Scaler, bound};
use crate::desired::{Desired, Pipeline, Revision, StoredRollout};
use crate::model::{Command, Load, ReplicaCounts, RouteTable, Scale, SessionId, State};
use crate::rollout::Phase;

/// The settings that a deployment is scaled by: the wanted revision's; for one that only requests on other revisions
/// call, those of the newest revision that has it.
fn settings<'a>(desired: &'a Desired, routes: &RouteTable, name: &FullName) -> Option<&'a Autoscaling> {
    let pipeline = desired.pipelines.get(&name.pipeline)?;
    let wanted = pipeline.wanted().and_then(|wanted| wanted.spec(&name.deployment));
    let others = || {
        routes.deployment(name)?;
        pipeline.revisions.values().rev().find_map(|revision| revision.spec(&name.deployment))
    };
    wanted.or_else(others).map(|spec| &spec.autoscaling)
}

/// Whether there is anything to decide under these settings.
fn is_scalable(settings: &Autoscaling) -> bool {
    settings.min_replicas < settings.max_replicas
}

impl State {
    /// How many replicas a deployment is to have under these settings.
    fn target_of(&self, name: &FullName, settings: &Autoscaling) -> u32 {
        self.targets.get(name).map_or(settings.min_replicas, |&target| bound(settings, target))
    }

    /// Books a new target, and has it looked at.
    pub(super) fn book_scale(&mut self, scale: &Scale, now: Duration) {
        self.targets.insert(scale.deployment.clone(), scale.to);
        let scaler = self.scalers.entry(scale.deployment.clone()).or_insert_with(|| Scaler::new(scale.to));
        scaler.scaling.target = scale.to;
        scaler.wake_at = Some(now);
    }

    /// Takes what a pass has counted; deployments whose number of replicas has changed are decided about again.
    pub(super) fn take_counts(
        &mut self,
        scope: &Scope,
        counts: BTreeMap<FullName, ReplicaCounts>,
        now: Duration,
    ) {
        for (name, scaler) in &mut self.scalers {
            if scope.contains(&name.pipeline) && self.counts.get(name) != counts.get(name) {
                scaler.wake_at = Some(now);
            }
        }
        self.counts.retain(|name, _| !scope.contains(&name.pipeline));
        self.counts.extend(counts);
    }

    /// When a scaler is to be looked at; `None` when nothing but news can change a target.
    #[must_use]
    pub fn next_scale(&self) -> Option<Duration> {
        self.scalers.values().filter_map(|scaler| scaler.wake_at).min()
    }

    /// An ingress is gone, or begins anew: what it said no longer counts.
    pub(super) fn forget_loads(&mut self, ingress: &IngressId, now: Duration) {
        for scaler in self.scalers.values_mut() {
            scaler.history.forget(ingress);
            scaler.wake_at = Some(now);
        }
    }
}

/// Takes an ingress's report. A request that waits for a deployment without replicas is acted upon at once.
pub(super) fn load(
    state: &mut State,
    desired: &Desired,
    (id, session): (&IngressId, SessionId),
    loads: BTreeMap<FullName, Load>,
    now: Duration,
) -> Change {
    let known = state.ingresses.get_mut(id).filter(|ingress| ingress.session == Some(session));
    let Some(ingress) = known else { return Change::Nothing };
    let before = std::mem::take(&mut Arc::make_mut(ingress).loads);
    let mut change = if before == loads { Change::Nothing } else { Change::Numbers };
    let left_out =
        before.keys().filter(|name| !loads.contains_key(*name)).map(|name| (name, Load::default()));
    for (name, load) in loads.iter().map(|(name, load)| (name, *load)).chain(left_out) {
        let settings = settings(desired, &state.routes, name).filter(|settings| is_scalable(settings));
        let Some(settings) = settings else { continue };
        let target = state.target_of(name, settings);
        if let Some(scaler) = state.scalers.get_mut(name) {
            scaler.record(id, load, settings.look_back, now);
        } else if load != Load::default() {
            let mut scaler = Scaler::new(target);
            scaler.record(id, load, settings.look_back, now);
            state.scalers.insert(name.clone(), scaler);
        }
        if target == 0 && load.ongoing + load.queued > 0 {
            change = Change::Pipeline(name.pipeline.clone());
        }
    }
    // A trial may end early once nobody asks any more.
    let is_busy = |load: &Load| load.ongoing + load.queued > 0;
    let calmed = before.iter().filter(|(name, load)| is_busy(load) && !loads.get(*name).is_some_and(is_busy));
    let on_trial = |name: &FullName| {
        let rollout = state.rollouts.get(&name.pipeline);
        rollout.is_some_and(|rollout| matches!(rollout.phase, Phase::Trial | Phase::Half))
    };
    if change == Change::Numbers && calmed.map(|(name, _)| name).any(on_trial) {
        change = Change::Outcomes;
    }
    if let Some(ingress) = state.ingresses.get_mut(id) {
        Arc::make_mut(ingress).loads = loads;
    }
    change
}

/// Decides about those deployments whose time has come; the caller books each command and carries it out. Costs
/// nothing for deployments without requests.
pub(super) fn scale(state: &mut State, desired: &Desired, now: Duration) -> Vec<Command> {
    let mut commands = Vec::new();
    if !state.settling.is_over || state.stopping {
        return commands;
    }
    let since =
        state.ingresses.values().filter(|ingress| ingress.session.is_some()).map(|ingress| ingress.since);
    let known_since = since.min().unwrap_or(now);
    let mut dormant = Vec::new();
    let State { scalers, targets, counts, routes, .. } = state;
    for (name, scaler) in scalers {
        if scaler.wake_at.is_none_or(|at| at > now) {
            continue;
        }
        let settings = settings(desired, routes, name).filter(|settings| is_scalable(settings));
        let Some(settings) = settings else {
            dormant.push(name.clone());
            continue;
        };
        let from = targets.get(name).copied().unwrap_or(settings.min_replicas);
        scaler.scaling.target = from;
        let Some(&ReplicaCounts { ready, starting }) = counts.get(name) else {
            // Its replicas are counted by the next pass, which asks for a decision then.
            scaler.wake_at = None;
            continue;
        };
        let decision = scaler.decide(settings, (ready, starting), known_since, now);
        if let Some(rule) = decision.rule {
            let (deployment, to, inputs) = (name.clone(), decision.scaling.target, decision.inputs);
            let scale = Scale { deployment, from, to, rule, inputs, settings: settings.clone() };
            commands.push(Command::Scale(Box::new(scale)));
        } else if scaler.is_dormant() && decision.scaling.target == settings.min_replicas {
            dormant.push(name.clone());
        }
    }
    for name in dormant {
        state.scalers.remove(&name);
    }
    commands
}

/// What follows from a change of what people ask for: bounds move targets at once, and what is within them goes on from
/// the number it has.
#[must_use]
pub(super) fn rebound(state: &mut State, before: &Desired, after: &Desired) -> Vec<Command> {
    let mut commands = Vec::new();
    for (pipeline, new) in &after.pipelines {
        let newest = |desired: &'_ Desired| desired.pipelines.get(pipeline)?.wanted().cloned();
        let Some(old) = newest(before) else {
            // Nothing of it has been seen to work.
            if let Some(wanted) = newest(after) {
                let (pipeline, revision) = (pipeline.clone(), wanted.stored.number);
                commands.push(Command::Serve { pipeline, revision, complete: false });
            }
            continue;
        };
        let compiled = new.wanted().and_then(|newest| newest.compiled.as_ref().ok());
        for (deployment, spec) in compiled.into_iter().flat_map(|compiled| &compiled.deployments) {
            let Some(old) = old.spec(deployment) else { continue };
            let deployment = FullName { pipeline: pipeline.clone(), deployment: deployment.clone() };
            let settings = &spec.autoscaling;
            let from = state.target_of(&deployment, &old.autoscaling);
            let to = bound(settings, from);
            if to != from {
                let counts = state.counts.get(&deployment).copied();
                let inputs = counted(Some(&counts.unwrap_or_else(|| count_replicas(state, &deployment))), to);
                let is_by_hand = before.scales.get(&deployment) != after.scales.get(&deployment);
                let rule = if is_by_hand { Rule::ByHand } else { Rule::Bounds };
                let settings = settings.clone();
                let scale = Scale { deployment, from, to, rule, inputs, settings };
                commands.push(Command::Scale(Box::new(scale)));
            } else if settings.min_replicas != from {
                state.targets.entry(deployment.clone()).or_insert(from);
                state.scalers.entry(deployment).or_insert_with(|| Scaler::new(from));
            }
        }
    }
    commands
}

/// A deployment that may have no replicas keeps those that were loaded to check its revision, until they have been idle.
pub(super) fn initial(deployment: FullName, spec: &DeploymentSpec, from: usize, to: usize) -> Scale {
    let inputs = Inputs { ready: count(to), unbounded: count(to), wanted: count(to), ..Inputs::default() };
    let (from, to, settings) = (count(from), count(to), spec.autoscaling.clone());
    Scale { deployment, from, to, rule: Rule::Initial, inputs, settings }
}

/// The replicas of a deployment whose number did not change until now.
fn count_replicas(state: &State, deployment: &FullName) -> ReplicaCounts {
    let replicas = state.nodes.values().flat_map(|node| node.replicas.values());
    let mut counts = ReplicaCounts::default();
    for replica in replicas.filter(|it| it.deployment == *deployment && it.leaving.is_none()) {
        match replica.state {
            ReplicaState::Ready => counts.ready += 1,
            ReplicaState::Starting => counts.starting += 1,
            _ => {}
        }
    }
    counts
}

/// Forgets targets, histories and counts of deployments that nobody asks for any more.
pub(super) fn forget_unwanted(state: &mut State, desired: &Desired) {
    let is_known = |name: &FullName| {
        let pipeline = desired.pipelines.get(&name.pipeline);
        let mut revisions = pipeline.into_iter().flat_map(|pipeline| pipeline.revisions.values());
        revisions.any(|revision| revision.spec(&name.deployment).is_some())
    };
    state.targets.retain(|name, _| is_known(name));
    state.scalers.retain(|name, _| is_known(name));
    state.counts.retain(|name, _| is_known(name));
    for (pipeline, ended) in &mut state.ended {
        ended.calls.retain(|deployment, _| {
            is_known(&FullName { pipeline: pipeline.clone(), deployment: deployment.clone() })
        });
    }
}

/// Replicas of every deployment that may scale, those included that only requests on other revisions call.
pub(super) fn counts(pass: Pass<'_>, view: &View<'_>) -> BTreeMap<FullName, ReplicaCounts> {
    let Pass { desired, state, .. } = pass;
    let mut found = BTreeMap::new();
    for (pipeline, asked) in pass.pipelines() {
        let Some(newest) = asked.wanted() else { continue };
        let Ok(compiled) = &newest.compiled else { continue };
        let serving = state.serving.get(pipeline).and_then(|serving| asked.revisions.get(&serving.revision));
        let serving = serving.unwrap_or(newest);
        let routed = state.routes.pipeline(pipeline).into_iter().flat_map(|route| &route.deployments);
        let names: BTreeSet<_> =
            compiled.deployments.keys().chain(routed.map(|route| &route.deployment)).collect();
        for deployment in names {
            let name = FullName { pipeline: pipeline.clone(), deployment: deployment.clone() };
            if !settings(desired, &state.routes, &name).is_some_and(is_scalable) {
                continue;
            }
            let is_wanted = compiled.deployments.contains_key(deployment);
            let mut counts = ReplicaCounts::default();
            for seen in view.counted(&name) {
                let takes_requests =
                    !is_wanted || seen.serves(serving) || seen.replica.revision < serving.stored.number;
                if seen.is_ready() && takes_requests {
                    counts.ready += 1;
                } else if seen.replica.state == millstream_status::status::ReplicaState::Starting {
                    counts.starting += 1;
                }
            }
            found.insert(name, counts);
        }
    }
    found
}

/// A head that has just come to lead goes on with as many replicas as run, within bounds.
pub(super) fn adopt(state: &State, desired: &Desired, view: &View<'_>) -> Vec<Command> {
    let mut commands = Vec::new();
    for (deployment, replicas) in &view.staying {
        let settings = settings(desired, &state.routes, deployment).filter(|settings| is_scalable(settings));
        let Some(settings) = settings else { continue };
        let from = state.target_of(deployment, settings);
        let pipeline = desired.pipelines.get(&deployment.pipeline);
        let to =
            bound(settings, count(pipeline.map_or(0, |pipeline| adopted(pipeline, deployment, replicas))));
        if to != from {
            let (deployment, rule) = ((*deployment).clone(), Rule::Adopted);
            let found = ReplicaCounts {
                ready: count(replicas.iter().filter(|seen| seen.is_ready()).count()),
                starting: 0,
            };
            let (inputs, settings) = (counted(Some(&found), to), settings.clone());
            let scale = Scale { deployment, from, to, rule, inputs, settings };
            commands.push(Command::Scale(Box::new(scale)));
        }
    }
    commands
}

/// How many replicas a deployment was to have, by those that run. During a rollout the replicas of two revisions do: as
/// many as wanted of one of them, or, while old ones leave, `max_surge` more than wanted of both. Of those that a node is
/// drained of, what is to come in their place counts once it is ready.
fn adopted(pipeline: &Pipeline, deployment: &FullName, replicas: &[ReplicaView<'_>]) -> usize {
    let of = |revision: &Arc<Revision>| {
        let (settled, moving) = split(replicas.iter().filter(|seen| seen.serves(revision)));
        let coming = settled.iter().filter(|seen| !seen.is_ready()).count();
        settled.len() + moving.len() - coming.min(moving.len())
    };
    let of_one = pipeline.revisions.values().map(of).max().unwrap_or(0);
    let spec = pipeline.wanted().and_then(|wanted| wanted.spec(&deployment.deployment));
    match (pipeline.rollout, spec) {
        (Some(StoredRollout { mode, .. }), Some(spec)) if mode.is_rolling() => {
            of_one.max(replicas.len().saturating_sub(spec.limits.max_surge as usize))
        }
        // A canary or a shadow is beside all that the old revision has.
        _ => of_one,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Inputs of a change that no request asked for.
fn counted(counts: Option<&ReplicaCounts>, wanted: u32) -> Inputs {
    let ReplicaCounts { ready, starting } = counts.copied().unwrap_or_default();
    Inputs { ready, starting, unbounded: wanted, wanted, ..Inputs::default() }
}

/// Whether every deployment of what is asked for has a fixed number of replicas.
pub(super) fn all_fixed(desired: &Desired) -> bool {
    let newest = desired.pipelines.values().filter_map(|pipeline| pipeline.wanted()?.compiled.as_ref().ok());
    newest.flat_map(|compiled| compiled.deployments.values()).all(|spec| !is_scalable(&spec.autoscaling))
}
