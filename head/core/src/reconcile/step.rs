//! One look at the whole: what is desired against what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_pipelines::FullName;
use millstream_status::ReplicaId;
use millstream_status::status::ReplicaState;
use serde::Serialize;

use super::deployment::{self, Context, Crowd, Wanted};
use super::observe::spec_of;
use super::scale::{self, Census};
use super::state::{Booking, Leaving, Node, Replica, State, Unplaced};
use super::view::{Health, Seen, View, world};
use super::{Command, Order, Reason};
use crate::Timing;
use crate::desired::Desired;
use crate::scheduler::{self, Pending, Request, Strategy, Workload};

/// How long a replica may stop beyond its drain time before it is told again.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Drain time of a replica whose settings are no longer known.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// What [`step()`] gives.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Step {
    /// What to do, in this order.
    pub commands: Vec<Command>,
    /// Why wanted replicas have no place, for people.
    pub pending: BTreeMap<FullName, Vec<String>>,
    /// How many they are, by what is missing.
    pub unplaced: Unplaced,
    /// Replicas of deployments that may scale.
    pub census: BTreeMap<FullName, Census>,
}

/// Compares what is desired with what runs. The caller books each command ([`State::carry_out`]) and carries it out.
#[must_use]
pub fn step(desired: &Desired, state: &State, timing: &Timing, now: Duration) -> Step {
    let view = View::new(state, timing, now);
    let mut step = Step::default();
    if state.stopping {
        return step;
    }
    if !state.settled {
        if now < state.settle_until && !state.all_are_back() && !runs_as_wanted(desired, state, &view, timing)
        {
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
    let crowd: Crowd<'_> = state.nodes.iter().map(|(id, node)| (id, num_staying(node))).collect();
    let mut wanted = Vec::new();
    for (name, pipeline) in &desired.pipelines {
        let context = Context { name, pipeline, view: &view, crowd: &crowd, state, timing, now };
        let needs = deployment::decide(&context);
        step.commands.extend(needs.commands);
        wanted.extend(needs.start);
    }
    for (deployment, replicas) in &view.staying {
        if !desired.pipelines.contains_key(&deployment.pipeline) {
            step.commands.extend(replicas.iter().map(|seen| deployment::retire(seen, Reason::Unwanted)));
        }
    }
    start(desired, state, timing, now, &wanted, &mut step);
    stop(desired, state, timing, now, &view, &mut step);
    keep_house(desired, state, timing, now, &view, &mut step);
    step.census = scale::census(state, desired, &view);
    step
}

/// Replicas of a node that stay.
fn num_staying(node: &Node) -> usize {
    let stays = |replica: &&Replica| replica.leaving.is_none() && replica.state != ReplicaState::Draining;
    node.replicas.values().filter(stays).count()
}

/// Whether every deployment has all its replicas ready: then there is nothing to wait for.
fn runs_as_wanted(desired: &Desired, state: &State, view: &View<'_>, timing: &Timing) -> bool {
    // How many replicas a deployment that scales had is not known before all have said what runs.
    scale::all_fixed(desired)
        && desired.pipelines.iter().all(|(name, pipeline)| {
            let context =
                Context { name, pipeline, view, crowd: &Crowd::new(), state, timing, now: Duration::ZERO };
            context.wanted().is_some_and(|wanted| {
                context.has_ready(wanted, |deployment, spec| {
                    context.target(&context.full_name(deployment), spec)
                })
            })
        })
}

/// Finds places for what is wanted.
fn start(
    desired: &Desired,
    state: &State,
    timing: &Timing,
    now: Duration,
    wanted: &[Wanted],
    step: &mut Step,
) {
    let found = |wanted: &Wanted| {
        let revision = desired.pipelines.get(&wanted.deployment.pipeline)?.revisions.get(&wanted.revision)?;
        Some((revision, revision.spec(&wanted.deployment.deployment)?))
    };
    let known: Vec<_> = wanted.iter().filter_map(|wanted| Some((wanted, found(wanted)?))).collect();
    if known.is_empty() {
        return;
    }
    let requests: Vec<_> = known
        .iter()
        .map(|(wanted, (_, spec))| Request {
            deployment: wanted.deployment.clone(),
            num_replicas: wanted.count,
            demand: spec.demand.clone(),
            device: spec.device,
            strategy: Strategy::Spread,
            group: wanted.group.clone(),
        })
        .collect();
    let workload = workload(desired, state, &requests);
    let mut world = world(state, timing, now);
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
    for pending in &solution.pending {
        let deployment = &requests[pending.request].deployment;
        let unplaced = step.unplaced.entry(deployment.clone()).or_default().entry(pending.lack).or_default();
        *unplaced += u32::try_from(pending.num_replicas).unwrap_or(u32::MAX);
        step.pending.insert(deployment.clone(), reasons(pending, deployment, state));
    }
}

/// Why replicas have no place, for people.
fn reasons(pending: &Pending, deployment: &FullName, state: &State) -> Vec<String> {
    let waits = pending.blocked.as_ref().filter(|blocked| blocked.by != *deployment);
    let mut reasons: Vec<_> = pending.blocked.iter().map(ToString::to_string).collect();
    reasons.extend(pending.shortage.reasons.iter().map(ToString::to_string));
    if pending.shortage.reasons.is_empty() && waits.is_none() {
        reasons.push(match state.nodes.len() {
            0 => "no node is connected; start one with `cluster up --join HEAD`".into(),
            count => format!("none of {count} nodes takes replicas: each is lost or draining"),
        });
    }
    reasons
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
    let asked = requests.iter().map(|request| (&request.demand, request.device, request.num_replicas as u64));
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
fn stop(desired: &Desired, state: &State, timing: &Timing, now: Duration, view: &View<'_>, step: &mut Step) {
    for seen in &view.leaving {
        if seen.node.session.is_none() {
            continue;
        }
        let drain = drain_timeout(desired, seen);
        let reason = match seen.replica.leaving {
            Some(Leaving::Retiring { since, gone_from: Some(version), reason })
                if is_confirmed(state, timing, now, version)
                    || now.saturating_sub(since) >= timing.ack_timeout =>
            {
                reason
            }
            Some(Leaving::Stopping { since, reason }) if now.saturating_sub(since) >= drain + STOP_GRACE => {
                reason
            }
            _ => continue,
        };
        let (node, replica) = (seen.node_id.clone(), seen.id.clone());
        step.commands.push(Command::Stop { node, replica, drain, reason });
    }
}

/// Whether no ingress sends to replicas that the table of that version does not name. One whose stream broke a moment
/// ago may still serve from an older table; so may those of the head before, until they had time to dial this one.
fn is_confirmed(state: &State, timing: &Timing, now: Duration, version: u64) -> bool {
    let inherits = !state.settle_until.is_zero();
    if inherits && now < state.settle_until + timing.ack_timeout.saturating_sub(timing.settle) {
        return false;
    }
    state.ingresses.values().all(|ingress| {
        let gone = ingress.session.is_none() && now.saturating_sub(ingress.since) >= timing.ack_timeout;
        gone || ingress.acked >= version
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
fn keep_house(
    desired: &Desired,
    state: &State,
    timing: &Timing,
    now: Duration,
    view: &View<'_>,
    step: &mut Step,
) {
    let known = state.serving.keys().chain(state.rollouts.keys()).chain(state.conclusions.keys());
    let known =
        known.chain(state.targets.keys().map(|deployment| &deployment.pipeline)).chain(state.ended.keys());
    let gone: BTreeSet<_> = known.filter(|name| !desired.pipelines.contains_key(*name)).collect();
    for pipeline in gone {
        step.commands.push(Command::ForgetPipeline { pipeline: pipeline.clone() });
    }
    for (id, node) in &state.nodes {
        let dead = node.health(timing, now) == Health::Dead;
        if dead && !view.mass_loss && !node.replicas.is_empty() {
            step.commands.push(Command::GiveUp { node: id.clone() });
        } else if dead
            && node.session.is_none()
            && node.replicas.is_empty()
            && now.saturating_sub(node.last_seen) >= timing.forget_after
        {
            step.commands.push(Command::ForgetNode { node: id.clone() });
        }
    }
    for (id, ingress) in &state.ingresses {
        if ingress.session.is_none() && now.saturating_sub(ingress.since) >= timing.ack_timeout {
            step.commands.push(Command::ForgetIngress { ingress: id.clone() });
        }
    }
}
