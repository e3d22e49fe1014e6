//! One look at the whole: what is desired against what runs.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_pipelines::FullName;
use millstream_proto::ReplicaId;
use serde::Serialize;

use super::deployment::{self, Context, Crowd, Wanted};
use super::observe::spec_of;
use super::state::{Booking, Leaving, Node, State};
use super::view::{Health, Seen, View, world};
use super::{Command, Order, Reason};
use crate::desired::Desired;
use crate::scheduler::{self, Request, Strategy};
use crate::timing::Timing;

/// How long a replica may stop beyond its drain time before it is told again.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Drain time of a replica whose settings are no longer known.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// What [`step()`] gives.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Step {
    /// What to do, in this order.
    pub commands: Vec<Command>,
    /// Why wanted replicas have no place, for people: a reason per node.
    pub pending: BTreeMap<FullName, Vec<String>>,
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
        if now < state.settle_until && !state.all_are_back() && !runs_as_wanted(desired, state, &view) {
            return step;
        }
        step.commands.push(Command::Settle);
    }
    if view.mass_loss != state.alarm {
        step.commands.push(Command::Alarm { raised: view.mass_loss });
    }
    let mut crowd = Crowd::new();
    for seen in view.staying.values().flatten() {
        *crowd.entry(seen.node_id).or_default() += 1;
    }
    let mut wanted = Vec::new();
    for (name, pipeline) in &desired.pipelines {
        let serving = state.serving.get(name).copied();
        let targets = &state.targets;
        let needs =
            deployment::decide(&Context { name, pipeline, view: &view, crowd: &crowd, serving, targets });
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
    keep_house(state, timing, now, &view, &mut step);
    step
}

/// Whether every deployment has all its replicas ready: then there is nothing to wait for.
fn runs_as_wanted(desired: &Desired, state: &State, view: &View<'_>) -> bool {
    desired.pipelines.iter().all(|(name, pipeline)| {
        pipeline.newest().is_some_and(|newest| {
            let targets = &state.targets;
            let context = Context { name, pipeline, view, crowd: &Crowd::new(), serving: None, targets };
            context.has_ready(newest, |deployment, spec| context.target(&context.full_name(deployment), spec))
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
        })
        .collect();
    let mut world = world(state, timing, now);
    world.nodes.retain(|node| !state.nodes.get(&node.id).is_some_and(|node| holds_unknown(desired, node)));
    let solution = scheduler::place(&world, &requests);
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
        let reasons = pending.reasons.into_iter().map(|(node, missing)| {
            let missing: Vec<_> = missing.iter().map(ToString::to_string).collect();
            format!("{node}: {}", missing.join("; "))
        });
        let mut reasons: Vec<_> = reasons.collect();
        if reasons.is_empty() {
            reasons.push(match state.nodes.len() {
                0 => "no node is connected; start one with `cluster up --join HEAD`".into(),
                count => format!("none of {count} nodes takes replicas: each is lost or draining"),
            });
        }
        step.pending.insert(requests[pending.request].deployment.clone(), reasons);
    }
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

/// Gives up on dead nodes, and forgets what is long gone.
fn keep_house(state: &State, timing: &Timing, now: Duration, view: &View<'_>, step: &mut Step) {
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
