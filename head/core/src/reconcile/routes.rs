//! The route table: which replicas each pipeline's requests may go to. A new one is made only when its content
//! changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_pipelines::{FullName, Name};
use millstream_status::{NodeId, ReplicaId};
use serde::Serialize;

use super::deployment::{is_convicted, is_interchangeable, target};
use super::linger::{lingering, serves_any};
use super::scope::Scope;
use super::state::{Leaving, Replica, State};
use super::step::Look;
use super::table_version::TableVersion;
use super::timer::Timer;
use super::view::{Seen, View};
use crate::Timing;
use crate::desired::{ApiKey, Desired, Pipeline, Revision};
use crate::rollout::Phase;

/// A whole route table.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RouteTable {
    /// Grows with each table, also across restarts of the head.
    pub version: TableVersion,
    /// The pipelines, by name.
    pub pipelines: Arc<Vec<Arc<PipelineRoute>>>,
    /// The API keys, by name.
    pub keys: Arc<BTreeMap<Name, ApiKey>>,
    /// How many ingresses take their parts of the cluster's limits: those that are connected, and at least one.
    pub num_ingresses: u32,
}

impl RouteTable {
    /// A pipeline's part of it.
    pub(super) fn pipeline(&self, name: &Name) -> Option<&Arc<PipelineRoute>> {
        let index = self.pipelines.binary_search_by(|route| route.name.cmp(name)).ok()?;
        Some(&self.pipelines[index])
    }

    /// A deployment's part of it. Both lists are in the order of names.
    #[must_use]
    pub fn deployment(&self, name: &FullName) -> Option<&DeploymentRoute> {
        let deployments = &self.pipeline(&name.pipeline)?.deployments;
        let index = deployments.binary_search_by(|route| route.deployment.cmp(&name.deployment)).ok()?;
        Some(&deployments[index])
    }
}

/// A pipeline's part of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PipelineRoute {
    /// Its name.
    pub name: Name,
    /// The revisions that requests run on, the one that serves first.
    pub variants: Vec<Variant>,
    /// Deployments of any of them, and those that requests under way may still call, by name.
    pub deployments: Vec<DeploymentRoute>,
}

/// A revision that requests run on.
#[derive(Debug, Clone, Serialize)]
pub struct Variant {
    /// The revision.
    pub revision: Arc<Revision>,
    /// Thousandths of the requests that it answers; those of all variants add up to 1000.
    pub permille: u16,
    /// Thousandths of the requests that it gets copies of.
    pub shadow_permille: u16,
}

/// Revisions never change: the number says it all.
impl PartialEq for Variant {
    fn eq(&self, other: &Self) -> bool {
        (self.revision.stored.number, self.permille, self.shadow_permille)
            == (other.revision.stored.number, other.permille, other.shadow_permille)
    }
}

/// A deployment's ready replicas.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeploymentRoute {
    /// Its name.
    pub deployment: Name,
    /// Its replicas, by id.
    pub replicas: Vec<ReplicaRoute>,
}

/// A ready replica.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplicaRoute {
    /// The replica.
    pub replica: ReplicaId,
    /// Its node.
    pub node: NodeId,
    /// HOST:PORT for replica traffic.
    pub address: String,
    /// The revision that it was started for.
    pub revision: u64,
    /// The variants that it serves, by revision; empty for an older replica that helps out until enough are ready.
    pub serves: Vec<u64>,
}

/// Makes the next table when it differs from the last one, and notes which leaving replicas it no longer names.
/// While the head does not know yet what runs there is none: ingresses serve on from theirs.
pub(super) fn publish(
    state: &mut State,
    desired: &Desired,
    timing: &Timing,
    timer: &Timer,
    scope: &Scope,
) -> Option<RouteTable> {
    if !state.settled || state.stopping {
        return None;
    }
    let pipelines = build(Look { desired, state, timing, timer, scope });
    state.note_left(&pipelines, desired, timing, timer);
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
            nodes.flat_map(|node| Arc::make_mut(node).replicas.values_mut()).for_each(note);
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

fn build(look: Look<'_>) -> Vec<Arc<PipelineRoute>> {
    let view = look.view();
    let known = &look.state.routes;
    let route = |(name, pipeline): (&Name, &Pipeline)| {
        let before = known.pipeline(name);
        if !look.scope.contains(name) {
            return before.cloned();
        }
        let next = route(look, &view, name, pipeline)?;
        // What did not change is shared with the table before.
        Some(before.filter(|before| ***before == next).cloned().unwrap_or_else(|| Arc::new(next)))
    };
    look.desired.pipelines.iter().filter_map(route).collect()
}

/// A pipeline's part of the table; `None` before anything serves.
fn route(look: Look<'_>, view: &View<'_>, name: &Name, pipeline: &Pipeline) -> Option<PipelineRoute> {
    let Look { state, timing, timer, .. } = look;
    let variants = variants(state, name, pipeline)?;
    let revisions = variants.iter().map(|variant| &variant.revision);
    let compiled = revisions.filter_map(|revision| revision.compiled.as_ref().ok());
    let names: BTreeSet<_> = compiled.flat_map(|compiled| compiled.deployments.keys()).collect();
    let known = |number| variants.iter().any(|variant| variant.revision.stored.number == number);
    let lingering = lingering(state, view, (name, pipeline), known, timing, timer);
    let of_lingering = lingering.iter().filter_map(|revision| revision.compiled.as_ref().ok());
    let of_lingering: BTreeSet<_> = of_lingering.flat_map(|compiled| compiled.deployments.keys()).collect();
    let helps = |revision| helps_out(state, name, pipeline, revision);
    let deployments = names.union(&of_lingering).map(|&deployment| {
        let full_name = FullName { pipeline: name.clone(), deployment: deployment.clone() };
        if !names.contains(deployment) {
            let replicas = left_behind(view, &full_name, &lingering);
            return DeploymentRoute { deployment: deployment.clone(), replicas };
        }
        let mut replicas = replicas(view, &full_name, &variants, helps);
        if let [serving, on_trial] = &*variants {
            let missing = missing(state, view, &full_name, &serving.revision);
            lend(&mut replicas, deployment, (serving, on_trial), missing, helps);
        }
        DeploymentRoute { deployment: deployment.clone(), replicas }
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
fn helps_out(state: &State, name: &Name, pipeline: &Pipeline, revision: u64) -> bool {
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
fn lend(
    replicas: &mut [ReplicaRoute],
    deployment: &Name,
    (serving, on_trial): (&Variant, &Variant),
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
    helps: impl Fn(u64) -> bool,
) -> Vec<ReplicaRoute> {
    let route = |seen: &Seen<'_>| {
        let served = variants.iter().filter(|variant| seen.serves(&variant.revision));
        let serves: Vec<_> = served.map(|variant| variant.revision.stored.number).collect();
        let helps_out = serves.is_empty() && helps(seen.replica.revision);
        (seen.is_ready() && (helps_out || !serves.is_empty())).then(|| ReplicaRoute::of(seen, serves))
    };
    by_id(view.counted(deployment).filter_map(route))
}

/// Ready replicas of a deployment that no variant has, for requests that began on a revision that has it.
fn left_behind(view: &View<'_>, deployment: &FullName, lingering: &[&Arc<Revision>]) -> Vec<ReplicaRoute> {
    let answering = |seen: &&Seen<'_>| seen.is_ready() && serves_any(seen, lingering);
    by_id(view.counted(deployment).filter(answering).map(|seen| ReplicaRoute::of(seen, Vec::new())))
}

fn by_id(replicas: impl Iterator<Item = ReplicaRoute>) -> Vec<ReplicaRoute> {
    let mut replicas: Vec<_> = replicas.collect();
    replicas.sort_by(|a, b| a.replica.cmp(&b.replica));
    replicas
}

impl ReplicaRoute {
    fn of(seen: &Seen<'_>, serves: Vec<u64>) -> Self {
        Self {
            replica: seen.id.clone(),
            node: seen.node_id.clone(),
            address: seen.node.address.clone(),
            revision: seen.replica.revision,
            serves,
        }
    }
}
