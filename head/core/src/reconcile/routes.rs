//! The route table: which replicas each pipeline's requests may go to. A new one is made only when its content
//! changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_pipelines::{DeploymentSpec, FullName, Name};

use super::context::{is_convicted, is_interchangeable, target};
use super::draining::{draining_revisions, serves_any};
use super::pass::Pass;
use super::scope::Scope;
use super::timer::Timer;
use super::view::{ReplicaView, View};
use crate::Timing;
use crate::desired::{Desired, Pipeline, Revision};
use crate::model::{
    DeploymentRoute, Leaving, PipelineRoute, Replica, ReplicaRoute, RouteTable, StartFailure, State,
    TableVersion, Variant,
};
use crate::rollout::Phase;

/// Makes the next table when it differs from the last one, and notes which leaving replicas it no longer names.
/// While the head does not know yet what runs there is none: ingresses serve on from theirs.
pub(super) fn publish(
    state: &mut State,
    desired: &Desired,
    timing: &Timing,
    timer: &Timer,
    scope: &Scope,
) -> Option<RouteTable> {
    if !state.settling.is_over || state.stopping {
        return None;
    }
    let pipelines = build(Pass { desired, state, timing, timer, scope });
    state.note_draining(&pipelines, desired, timing, timer);
    let num_ingresses = num_ingresses(state);
    let routes = &state.routes;
    let changed = routes.version == TableVersion::default()
        || !is_same(&routes.pipelines, &pipelines)
        || routes.num_ingresses != num_ingresses
        || !Arc::ptr_eq(&routes.keys, &desired.keys.by_name) && routes.keys != desired.keys.by_name;
    if changed {
        let version = routes.version.next(state.epoch);
        let (pipelines, keys) = (Arc::new(pipelines), Arc::clone(&desired.keys.by_name));
        state.routes = RouteTable { version, pipelines, keys, num_ingresses };
    }
    note_gone(state, scope);
    changed.then(|| state.routes.clone())
}

/// Whether the pipelines are those of the last table; one that did not change is shared.
fn is_same(before: &[Arc<PipelineRoute>], next: &[Arc<PipelineRoute>]) -> bool {
    before.len() == next.len() && before.iter().zip(next).all(|(before, next)| Arc::ptr_eq(before, next))
}

/// Replicas that have been taken out of the routes are gone from the newest table on.
fn note_gone(state: &mut State, scope: &Scope) {
    let version = state.routes.version;
    let is_new =
        |replica: &Replica| matches!(replica.leaving, Some(Leaving::Retiring { gone_from: None, .. }));
    let note = |replica: &mut Replica| {
        if let Some(Leaving::Retiring { gone_from: gone_from @ None, .. }) = &mut replica.leaving {
            *gone_from = Some(version);
        }
    };
    match scope {
        Scope::All => {
            let nodes = state.nodes.values_mut().filter(|node| node.replicas.values().any(is_new));
            nodes.flat_map(|node| node.edit().replicas.values_mut()).for_each(note);
        }
        Scope::Pipelines(pipelines) => {
            for (node, id) in pipelines.values().flatten() {
                let known = state.nodes.get(node).and_then(|node| node.replicas.get(id));
                if known.is_some_and(is_new) {
                    state.replica(node, id).map(note);
                }
            }
        }
    }
}

fn num_ingresses(state: &State) -> u32 {
    let connected = state.ingresses.values().filter(|ingress| ingress.session.is_some());
    u32::try_from(connected.count()).unwrap_or(u32::MAX).max(1)
}

fn build(pass: Pass<'_>) -> Vec<Arc<PipelineRoute>> {
    let view = pass.view();
    let known = &pass.state.routes;
    let route = |(name, pipeline): (&Name, &Pipeline)| {
        let before = known.pipeline(name);
        if !pass.scope.contains(name) {
            return before.cloned();
        }
        let next = route(pass, &view, name, pipeline)?;
        // What did not change is shared with the table before.
        Some(before.filter(|before| ***before == next).cloned().unwrap_or_else(|| Arc::new(next)))
    };
    pass.desired.pipelines.iter().filter_map(route).collect()
}

/// A pipeline's part of the table; `None` before anything serves.
fn route(pass: Pass<'_>, view: &View<'_>, name: &Name, pipeline: &Pipeline) -> Option<PipelineRoute> {
    let Pass { state, .. } = pass;
    let variants = variants(state, name, pipeline)?;
    let revisions = variants.iter().map(|variant| &variant.revision);
    let compiled = revisions.filter_map(|revision| revision.compiled.as_ref().ok());
    let names: BTreeSet<_> = compiled.flat_map(|compiled| compiled.deployments.keys()).collect();
    let known = |number| variants.iter().any(|variant| variant.revision.stored.number == number);
    let draining = draining_revisions(&pass.context(name, pipeline, view), known);
    let of_lingering = draining.iter().filter_map(|revision| revision.compiled.as_ref().ok());
    let of_lingering: BTreeSet<_> = of_lingering.flat_map(|compiled| compiled.deployments.keys()).collect();
    let fits = |variant: &&Variant| state.mismatch(name, variant.revision.stored.number).is_none();
    let able: Vec<_> = variants.iter().filter(fits).cloned().collect();
    let helps = |revision| may_answer_for(state, name, pipeline, revision);
    let good: Vec<_> = draining.iter().copied().filter(|revision| helps(revision.stored.number)).collect();
    let deployments = names.union(&of_lingering).map(|&deployment| {
        let full_name = FullName { pipeline: name.clone(), deployment: deployment.clone() };
        if !names.contains(deployment) {
            let mut replicas = left_behind(view, &full_name, &draining);
            tell_apart(&mut replicas, deployment, pipeline, draining.iter().copied());
            return DeploymentRoute { deployment: deployment.clone(), replicas, start_failure: None };
        }
        // What cannot answer for any variant has requests of its own to finish, whatever is held against it.
        let finishes = |seen: &ReplicaView<'_>| {
            let own = pipeline.spec_of_replica(deployment, seen.replica.revision);
            let can = |variant: &Variant| {
                let specs = own.zip(variant.revision.spec(deployment));
                specs.is_some_and(|(own, spec)| is_interchangeable(own, spec))
            };
            serves_any(seen, &draining) && !variants.iter().any(can)
        };
        // One that a good revision has made do with helps out whichever revision it was started for.
        let stood_in = |seen: &ReplicaView<'_>| serves_any(seen, &good);
        let may_answer =
            |seen: &ReplicaView<'_>| helps(seen.replica.revision) || stood_in(seen) || finishes(seen);
        let mut replicas = replicas(view, &full_name, &able, may_answer);
        if let [serving, on_trial] = &*variants {
            let missing = missing(state, view, &full_name, &serving.revision);
            share_with_serving(&mut replicas, deployment, [serving, on_trial], missing, helps);
        }
        let under_way = variants.iter().map(|variant| &variant.revision).chain(draining.iter().copied());
        tell_apart(&mut replicas, deployment, pipeline, under_way);
        let fails = || view.counted(&full_name).any(|seen| seen.fails_to_start());
        let start_failure = match () {
            () if !replicas.is_empty() => None,
            () if able.is_empty() => Some(StartFailure::Mismatch),
            () => fails().then_some(StartFailure::Replicas),
        };
        DeploymentRoute { deployment: deployment.clone(), replicas, start_failure }
    });
    let deployments = deployments.collect();
    Some(PipelineRoute { name: name.clone(), variants, deployments })
}

/// The revision that serves, and one that is on trial beside it.
fn variants(state: &State, name: &Name, pipeline: &Pipeline) -> Option<Vec<Variant>> {
    let understood =
        |number: &u64| pipeline.revisions.get(number).filter(|revision| revision.compiled.is_ok());
    let serving = understood(&state.serving.get(name)?.revision)?;
    let alone = Variant { revision: Arc::clone(serving), permille: 1000, shadow_permille: 0 };
    let on_trial = || {
        let rollout = state.rollouts.get(name).filter(|rollout| rollout.baseline == serving.stored.number)?;
        let mode = pipeline.rollout?.mode;
        let (permille, shadow_permille) = (rollout.permille(mode), rollout.shadow_permille(mode));
        let convicted = is_convicted(state, name, pipeline, rollout.revision);
        let revision =
            understood(&rollout.revision).filter(|_| !convicted && permille + shadow_permille > 0)?;
        Some(Variant { revision: Arc::clone(revision), permille, shadow_permille })
    };
    Some(match on_trial() {
        None => vec![alone],
        Some(new) => vec![Variant { permille: 1000 - new.permille, ..alone }, new],
    })
}

/// Whether replicas of a revision may answer in place of those of the serving one, until enough of these are ready: older
/// ones may, and newer ones when requests have moved back from them, unless a verdict is against them.
fn may_answer_for(state: &State, name: &Name, pipeline: &Pipeline, revision: u64) -> bool {
    let Some(serving) = state.serving.get(name) else { return false };
    let moved_from = state
        .rollouts
        .get(name)
        .is_some_and(|rollout| rollout.revision == serving.revision && rollout.phase == Phase::Moving);
    (revision < serving.revision || moved_from) && !is_convicted(state, name, pipeline, revision)
}

/// How many ready replicas of its own the serving revision lacks.
fn missing(state: &State, view: &View<'_>, deployment: &FullName, serving: &Revision) -> usize {
    let spec = serving.spec(&deployment.deployment);
    let target = spec.map_or(0, |spec| target(&state.targets, deployment, spec));
    target.saturating_sub(view.num_ready(deployment, serving))
}

/// Replicas that help the serving revision out go on doing so when the revision on trial can use them as well.
fn share_with_serving(
    replicas: &mut [ReplicaRoute],
    deployment: &Name,
    [serving, on_trial]: [&Variant; 2],
    missing: usize,
    helps: impl Fn(u64) -> bool,
) {
    let specs = serving.revision.spec(deployment).zip(on_trial.revision.spec(deployment));
    if !specs.is_some_and(|(serving, on_trial)| is_interchangeable(serving, on_trial)) {
        return;
    }
    let serving = serving.revision.stored.number;
    let able = |replica: &&mut ReplicaRoute| {
        !replica.serves.is_empty() && !replica.serves.contains(&serving) && helps(replica.revision)
    };
    replicas.iter_mut().filter(able).take(missing).for_each(|replica| replica.serves.insert(0, serving));
}

/// Ready replicas that serve a variant, and others, which stay until enough of the serving revision's own are ready.
fn replicas(
    view: &View<'_>,
    deployment: &FullName,
    variants: &[Variant],
    may_answer: impl Fn(&ReplicaView<'_>) -> bool,
) -> Vec<ReplicaRoute> {
    let route = |seen: &ReplicaView<'_>| {
        let served = variants.iter().filter(|variant| seen.serves(&variant.revision));
        let serves: Vec<_> = served.map(|variant| variant.revision.stored.number).collect();
        (seen.is_ready() && (!serves.is_empty() || may_answer(seen))).then(|| ReplicaRoute::of(seen, serves))
    };
    by_id(view.counted(deployment).filter_map(route))
}

/// Where replicas cannot answer the requests of all revisions, says of each which it can. Those that can answer for none on
/// which requests may be under way leave.
fn tell_apart<'a>(
    replicas: &mut Vec<ReplicaRoute>,
    deployment: &Name,
    pipeline: &Pipeline,
    under_way: impl Iterator<Item = &'a Arc<Revision>>,
) {
    let specs = pipeline.revisions.iter();
    let specs: Vec<_> =
        specs.filter_map(|(number, revision)| Some((*number, revision.spec(deployment)?))).collect();
    let answers = |replica: &ReplicaRoute| -> Vec<u64> {
        let own = pipeline.spec_of_replica(deployment, replica.revision);
        let can = |(number, spec): &&(u64, &Arc<DeploymentSpec>)| {
            replica.serves.contains(number) || own.is_some_and(|own| is_interchangeable(own, spec))
        };
        specs.iter().filter(can).map(|(number, _)| *number).collect()
    };
    // Many replicas, few kinds.
    let mut kinds: BTreeMap<(u64, Vec<u64>), Vec<u64>> = BTreeMap::new();
    for replica in replicas.iter_mut() {
        let kind = (replica.revision, replica.serves.clone());
        let known = kinds.entry(kind).or_insert_with(|| answers(replica));
        replica.answers.clone_from(known);
    }
    if kinds.values().all(|answers| answers.len() == specs.len()) {
        replicas.iter_mut().for_each(|replica| replica.answers = Vec::new());
        return;
    }
    let under_way: Vec<_> = under_way.map(|revision| revision.stored.number).collect();
    replicas.retain(|replica| replica.answers.iter().any(|number| under_way.contains(number)));
}

/// Ready replicas of a deployment that no variant has, for requests that began on a revision that has it.
fn left_behind(view: &View<'_>, deployment: &FullName, draining: &[&Arc<Revision>]) -> Vec<ReplicaRoute> {
    let answering = |seen: &&ReplicaView<'_>| seen.is_ready() && serves_any(seen, draining);
    by_id(view.counted(deployment).filter(answering).map(|seen| ReplicaRoute::of(seen, Vec::new())))
}

fn by_id(replicas: impl Iterator<Item = ReplicaRoute>) -> Vec<ReplicaRoute> {
    let mut replicas: Vec<_> = replicas.collect();
    replicas.sort_by(|a, b| a.replica.cmp(&b.replica));
    replicas
}

impl ReplicaRoute {
    fn of(seen: &ReplicaView<'_>, serves: Vec<u64>) -> Self {
        Self {
            replica: seen.id.clone(),
            node: seen.node_id.clone(),
            address: seen.node.address.clone(),
            revision: seen.replica.revision,
            serves,
            answers: Vec::new(),
        }
    }
}
