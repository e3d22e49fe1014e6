//! One look at the whole: what is desired against what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_pipelines::{FullName, Name};
use millstream_status::ReplicaId;
use serde::Serialize;

use super::deployment::{self, Context, Wanted};
use super::observe::spec_of;
use super::scale::{self, Census};
use super::scope::Scope;
use super::state::{Booking, Leaving, Node, State, Unplaced};
use super::table_version::TableVersion;
use super::timer::Timer;
use super::view::{Health, Seen, View, world};
use super::{Command, Order, Reason};
use crate::Timing;
use crate::desired::{Desired, Pipeline};
use crate::scheduler::{self, Lack, Request, Strategy, Workload};

/// How long a replica may stop beyond its drain time before it is told again.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// The store is asked again after that long to forget a member, until it says that it has.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Drain time of a replica whose settings are no longer known.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// What [`step()`] gives.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct Step {
    /// What to do, in this order.
    pub(super) commands: Vec<Command>,
    /// Why wanted replicas have no place, for people: a reason per node.
    pub(super) pending: BTreeMap<FullName, Vec<String>>,
    /// How many they are, by what is missing.
    pub(super) unplaced: Unplaced,
    /// Replicas of deployments that may scale.
    pub(super) census: BTreeMap<FullName, Census>,
}

/// What a look is made of.
#[derive(Clone, Copy)]
pub(super) struct Look<'a> {
    pub(super) desired: &'a Desired,
    pub(super) state: &'a State,
    pub(super) timing: &'a Timing,
    pub(super) timer: &'a Timer,
    pub(super) scope: &'a Scope,
}

impl<'a> Look<'a> {
    pub(super) fn view(&self) -> View<'a> {
        View::of_scope(self.scope, self.state, self.timing, self.timer.now())
    }

    /// The pipelines that it is about.
    pub(super) fn pipelines(&self) -> impl Iterator<Item = (&'a Name, &'a Pipeline)> {
        self.desired.pipelines.iter().filter(|(name, _)| self.scope.contains(name))
    }

    fn context(&self, name: &'a Name, pipeline: &'a Pipeline, view: &'a View<'a>) -> Context<'a> {
        let Self { state, timing, timer, .. } = *self;
        Context { name, pipeline, view, state, timing, timer }
    }
}

/// Compares what is desired with what runs. The caller books each command and carries it out.
#[must_use]
pub(super) fn step(look: Look<'_>) -> Step {
    let Look { desired, state, .. } = look;
    let view = look.view();
    let mut step = Step::default();
    if state.stopping {
        return step;
    }
    if !state.settled {
        if !look.timer.reached(state.settle_until) && !state.all_are_back() && !runs_as_wanted(look, &view) {
            return step;
        }
        let adopted = scale::adopt(state, desired, &view);
        if !adopted.is_empty() {
            // The rest is decided by these, at the next look. Only then is anything published.
            step.commands.extend(adopted);
            return step;
        }
        step.commands.push(Command::Settle);
    }
    if view.mass_loss != state.alarm {
        step.commands.push(Command::Alarm { raised: view.mass_loss });
    }
    let mut wanted = Vec::new();
    for (name, pipeline) in look.pipelines() {
        let needs = deployment::decide(&look.context(name, pipeline, &view));
        step.commands.extend(needs.commands);
        wanted.extend(needs.start);
    }
    for (deployment, replicas) in &view.staying {
        if !desired.pipelines.contains_key(&deployment.pipeline) {
            step.commands.extend(replicas.iter().map(|seen| deployment::retire(seen, Reason::Unwanted)));
        }
    }
    start(look, &wanted, &mut step);
    stop(look, &view, &mut step);
    if look.scope.is_all() {
        keep_house(look, &view, &mut step);
    }
    step.census = scale::census(look, &view);
    step
}

/// Whether every deployment has all its replicas ready: then there is nothing to wait for.
fn runs_as_wanted(look: Look<'_>, view: &View<'_>) -> bool {
    // How many replicas a deployment that scales had is not known before all have said what runs.
    scale::all_fixed(look.desired)
        && look.desired.pipelines.iter().all(|(name, pipeline)| {
            let context = look.context(name, pipeline, view);
            context.wanted().is_some_and(|wanted| {
                context.has_ready(wanted, |deployment, spec| {
                    context.target(&context.full_name(deployment), spec)
                })
            })
        })
}

/// Finds places for what is wanted.
fn start(look: Look<'_>, wanted: &[Wanted], step: &mut Step) {
    let Look { desired, state, .. } = look;
    let each: Vec<_> = wanted.iter().flat_map(|wanted| std::iter::repeat_n(wanted, wanted.count)).collect();
    let found = |wanted: &Wanted| {
        let revision = desired.pipelines.get(&wanted.deployment.pipeline)?.revisions.get(&wanted.revision)?;
        Some((revision, revision.spec(&wanted.deployment.deployment)?))
    };
    let known: Vec<_> = each.iter().filter_map(|wanted| Some((*wanted, found(wanted)?))).collect();
    if known.is_empty() {
        return;
    }
    let requests: Vec<_> = known
        .iter()
        .map(|(wanted, (_, spec))| Request {
            deployment: wanted.deployment.clone(),
            demand: spec.demand.clone(),
            device: spec.device,
            strategy: Strategy::Spread,
            group: wanted.group.clone(),
        })
        .collect();
    let workload = workload(desired, state, &requests);
    let mut world = world(state, look.timing, look.timer.now());
    world.nodes.retain(|node| !state.nodes.get(&node.id).is_some_and(|node| holds_unknown(desired, node)));
    let solution = scheduler::place(&world, &workload, &requests);
    for (last, placement) in (state.last_replica + 1..).zip(solution.placements) {
        let (wanted, (revision, spec)) = known[placement.request];
        let FullName { pipeline, deployment } = &wanted.deployment;
        step.commands.push(Command::Start(Order {
            node: placement.node,
            // The term and a number within it: never used twice.
            replica: ReplicaId::new(format!("{pipeline}-{deployment}-{}-{last}", state.epoch)),
            deployment: wanted.deployment.clone(),
            revision: wanted.revision,
            spec: spec.clone(),
            source_dir: revision.stored.source_dir.clone(),
            gpus: placement.gpus,
        }));
    }
    for pending in solution.pending {
        let unplaced = step.unplaced.entry(requests[pending.request].deployment.clone()).or_default();
        *unplaced.entry(Lack::of(&pending.reasons)).or_default() += 1;
        let reasons = pending.reasons.into_iter().map(|(node, missing)| {
            let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
            format!("{node}: {}", missing.join("; "))
        });
        let mut reasons: Vec<_> = reasons.collect();
        let waits = pending
            .blocked
            .as_ref()
            .is_some_and(|blocked| reasons.is_empty() && blocked.by != requests[pending.request].deployment);
        if reasons.is_empty() && !waits {
            reasons.push(match state.nodes.len() {
                0 => "no node is connected; start one with `cluster up --join HEAD`".into(),
                count => format!("none of {count} nodes takes replicas: each is lost or draining"),
            });
        }
        if let Some(blocked) = pending.blocked {
            reasons.insert(0, blocked.to_string());
        }
        step.pending.insert(requests[pending.request].deployment.clone(), reasons);
    }
}

/// What the scheduler may expect: the demands of all that is deployed, and of what is asked for now.
fn workload(desired: &Desired, state: &State, requests: &[Request]) -> Workload {
    let wanted = desired.pipelines.iter().filter_map(|(name, pipeline)| Some((name, pipeline.wanted()?)));
    let deployed = wanted.flat_map(|(pipeline, wanted)| {
        wanted.compiled.iter().flat_map(|compiled| &compiled.deployments).map(move |(deployment, spec)| {
            let deployment = FullName { pipeline: pipeline.clone(), deployment: deployment.clone() };
            // One that is to have none now will have some.
            let target = deployment::target(&state.targets, &deployment, spec).max(1);
            (&spec.demand, spec.device, target as u64)
        })
    });
    let asked = requests.iter().map(|request| (&request.demand, request.device, 1));
    Workload::of(deployed.chain(asked))
}

/// Whether a node has a replica of which nobody knows what it holds: the head before started it, and people have deleted
/// its pipeline. It is about to go; until then the node may have less free than it seems.
fn holds_unknown(desired: &Desired, node: &Node) -> bool {
    node.replicas.values().any(|replica| {
        replica.booking == Booking::default()
            && spec_of(desired, &replica.deployment, replica.revision).is_none()
    })
}

/// Replicas that left the routes stop once every ingress has confirmed it, or had time to.
fn stop(look: Look<'_>, view: &View<'_>, step: &mut Step) {
    let Look { desired, timer, .. } = look;
    for seen in &view.leaving {
        if seen.node.session.is_none() {
            continue;
        }
        let drain = drain_timeout(desired, seen);
        let reason = match seen.replica.leaving {
            Some(Leaving::Retiring { since, gone_from: Some(version), reason })
                if is_confirmed(look, version) || timer.reached(since + look.timing.ack_timeout) =>
            {
                reason
            }
            Some(Leaving::Stopping { since, reason }) if timer.reached(since + drain + STOP_GRACE) => reason,
            _ => continue,
        };
        let (node, replica) = (seen.node_id.clone(), seen.id.clone());
        step.commands.push(Command::Stop { node, replica, drain, reason });
    }
}

/// Whether no ingress sends to replicas that the table of that version does not name. One whose stream broke a moment
/// ago may still serve from an older table; so may those of the head before, until they had time to dial this one.
fn is_confirmed(look: Look<'_>, version: TableVersion) -> bool {
    let Look { state, timing, timer, .. } = look;
    let inherits = !state.settle_until.is_zero();
    if inherits && !timer.reached(state.settle_until + timing.ack_timeout.saturating_sub(timing.settle)) {
        return false;
    }
    state.ingresses.values().all(|ingress| {
        ingress.acked >= version
            || ingress.session.is_none() && timer.reached(ingress.since + timing.ack_timeout)
    })
}

fn drain_timeout(desired: &Desired, seen: &Seen<'_>) -> Duration {
    let FullName { pipeline, deployment } = &seen.replica.deployment;
    let revisions = desired.pipelines.get(pipeline).map(|pipeline| &pipeline.revisions);
    let spec = revisions.and_then(|revisions| {
        revisions.get(&seen.replica.revision).and_then(|revision| revision.spec(deployment))
    });
    spec.map_or(DEFAULT_DRAIN, |spec| spec.limits.drain_timeout)
}

/// Forgets pipelines that are gone, gives up on dead nodes, and forgets what is long gone.
fn keep_house(look: Look<'_>, view: &View<'_>, step: &mut Step) {
    let Look { desired, state, timing, timer, .. } = look;
    let known = state.serving.keys().chain(state.rollouts.keys()).chain(state.conclusions.keys());
    let known =
        known.chain(state.targets.keys().map(|deployment| &deployment.pipeline)).chain(state.ended.keys());
    let gone: BTreeSet<_> = known.filter(|name| !desired.pipelines.contains_key(*name)).collect();
    for pipeline in gone {
        step.commands.push(Command::ForgetPipeline { pipeline: pipeline.clone() });
    }
    for (id, node) in &state.nodes {
        let dead = node.health(timing, timer.now()) == Health::Dead;
        if dead && !view.mass_loss && !node.replicas.is_empty() {
            step.commands.push(Command::GiveUp { node: id.clone() });
        } else if dead
            && node.session.is_none()
            && node.replicas.is_empty()
            && timer.reached(node.last_seen + timing.forget_after)
        {
            step.commands.push(Command::ForgetNode { node: id.clone() });
        }
    }
    for (id, member) in &state.absent_members {
        if timer.reached(member.forget_at) && member.asked_at.is_none_or(|at| timer.reached(at + ASK_AGAIN)) {
            step.commands.push(Command::ForgetNode { node: id.clone() });
        }
    }
    for (id, ingress) in &state.ingresses {
        if ingress.session.is_none() && timer.reached(ingress.since + timing.ack_timeout) {
            step.commands.push(Command::ForgetIngress { ingress: id.clone() });
        }
    }
}
