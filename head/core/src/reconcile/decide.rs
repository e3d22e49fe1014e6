//! One pass over the cluster: what is desired against what runs, rule by rule.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_pipelines::FullName;
use millstream_status::ReplicaId;
use serde::Serialize;

use super::context::WantedReplicas;
use super::observe::spec_of;
use super::pass::Pass;
use super::view::{Health, ReplicaView, View, world};
use super::{context, moving, replicas, scale};
use crate::desired::Desired;
use crate::model::{
    Booking, Command, Leaving, Node, Order, Reason, ReplicaCounts, State, TableVersion, Unplaced,
};
use crate::scheduler::{self, Pending, Request, Strategy, Workload};

/// How long a replica may stop beyond its drain time before it is told again.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// The store is asked again after that long to forget a member, until it says that it has.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// Drain time of a replica whose settings are no longer known.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);

/// What [`decide`] returns.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(super) struct Decided {
    /// What to do, in this order.
    pub(super) commands: Vec<Command>,
    /// Why wanted replicas have no place, for people.
    pub(super) pending: BTreeMap<FullName, Vec<String>>,
    /// How many they are, by what is missing.
    pub(super) unplaced: Unplaced,
    /// Replicas of deployments that may scale.
    pub(super) counts: BTreeMap<FullName, ReplicaCounts>,
}

/// Compares what is desired with what runs. The caller books each command and carries it out.
#[must_use]
pub(super) fn decide(pass: Pass<'_>) -> Decided {
    let Pass { desired, state, .. } = pass;
    let view = pass.view();
    let mut decided = Decided::default();
    if state.stopping {
        return decided;
    }
    if !state.settling.is_over {
        if !pass.timer.reached(state.settling.until) && !state.all_are_back() && !runs_as_wanted(pass, &view)
        {
            return decided;
        }
        let adopted = scale::adopt(state, desired, &view);
        if !adopted.is_empty() {
            // The rest is decided by these, at the next pass. Only then is anything published.
            decided.commands.extend(adopted);
            return decided;
        }
        decided.commands.push(Command::Settle);
    }
    if view.mass_loss != state.alarm {
        decided.commands.push(Command::Alarm { raised: view.mass_loss });
    }
    let mut wanted = Vec::new();
    for (name, pipeline) in pass.pipelines() {
        let needs = replicas::decide(&pass.context(name, pipeline, &view));
        decided.commands.extend(needs.commands);
        wanted.extend(needs.start);
    }
    for (deployment, replicas) in &view.staying {
        if !desired.pipelines.contains_key(&deployment.pipeline) {
            decided.commands.extend(replicas.iter().map(|seen| context::retire(seen, Reason::Unwanted)));
        }
    }
    start(pass, &wanted, &mut decided);
    stop(pass, &view, &mut decided);
    if pass.scope.is_all() {
        garbage_collect(pass, &view, &mut decided);
    }
    decided.counts = scale::counts(pass, &view);
    decided
}

/// Whether every deployment has all its replicas ready: then there is nothing to wait for.
fn runs_as_wanted(pass: Pass<'_>, view: &View<'_>) -> bool {
    // How many replicas a deployment that scales had is not known before all have said what runs.
    scale::all_fixed(pass.desired)
        && pass.desired.pipelines.iter().all(|(name, pipeline)| {
            let context = pass.context(name, pipeline, view);
            context.wanted().is_some_and(|wanted| {
                context.has_ready(wanted, |deployment, spec| {
                    context.target(&context.full_name(deployment), spec)
                })
            })
        })
}

/// Finds places for what is wanted.
fn start(pass: Pass<'_>, wanted: &[WantedReplicas], decided: &mut Decided) {
    let Pass { desired, state, .. } = pass;
    let found = |wanted: &WantedReplicas| {
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
    let mut world = world(state, &desired.cordons, pass.timing, pass.timer.now());
    world.nodes.retain(|node| !state.nodes.get(&node.id).is_some_and(|node| holds_unknown(desired, node)));
    let solution = scheduler::place(&world, &workload, &requests);
    for (last, placement) in (state.last_replica + 1..).zip(solution.placements) {
        let (wanted, (revision, spec)) = known[placement.request];
        let FullName { pipeline, deployment } = &wanted.deployment;
        decided.commands.push(Command::Start(Order {
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
        let unplaced =
            decided.unplaced.entry(deployment.clone()).or_default().entry(pending.lack).or_default();
        *unplaced += u32::try_from(pending.num_replicas).unwrap_or(u32::MAX);
        decided.pending.insert(deployment.clone(), reasons(pending, deployment, pass));
    }
}

/// Why replicas have no place, for people.
fn reasons(pending: &Pending, deployment: &FullName, pass: Pass<'_>) -> Vec<String> {
    let waits = pending.blocked.as_ref().filter(|blocked| blocked.by != *deployment);
    let mut reasons: Vec<_> = pending.blocked.iter().map(ToString::to_string).collect();
    reasons.extend(pending.shortage.reasons.iter().map(ToString::to_string));
    if pending.shortage.reasons.is_empty() && waits.is_none() {
        reasons.push(match pass.state.nodes.len() {
            0 => "no node is connected; start one with `cluster up --join HEAD`".into(),
            count => {
                format!("none of {count} nodes takes replicas: each is unreachable, stops, or is cordoned")
            }
        });
    } else if waits.is_none() {
        reasons.extend(moving::kept_free(pass));
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
            let target = context::target(&state.targets, &deployment, spec).max(1);
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
fn stop(pass: Pass<'_>, view: &View<'_>, decided: &mut Decided) {
    let Pass { desired, timer, .. } = pass;
    for seen in &view.leaving {
        if seen.node.session.is_none() {
            continue;
        }
        let drain = drain_timeout(desired, seen);
        let reason = match seen.replica.leaving {
            Some(Leaving::Retiring { since, gone_from: Some(version), reason })
                if is_confirmed(pass, version) || timer.reached(since + pass.timing.ack_timeout) =>
            {
                reason
            }
            Some(Leaving::Stopping { since, reason }) if timer.reached(since + drain + STOP_GRACE) => reason,
            _ => continue,
        };
        let (node, replica) = (seen.node_id.clone(), seen.id.clone());
        decided.commands.push(Command::Stop { node, replica, drain, reason });
    }
}

/// Whether no ingress sends to replicas that the table of that version does not name. One whose stream broke a moment
/// ago may still serve from an older table; so may those of the head before, until they had time to dial this one.
fn is_confirmed(pass: Pass<'_>, version: TableVersion) -> bool {
    let Pass { state, timing, timer, .. } = pass;
    let inherits = !state.settling.until.is_zero();
    if inherits && !timer.reached(state.settling.until + timing.ack_timeout.saturating_sub(timing.settle)) {
        return false;
    }
    state.ingresses.values().all(|ingress| {
        ingress.acked >= version
            || ingress.session.is_none() && timer.reached(ingress.since + timing.ack_timeout)
    })
}

fn drain_timeout(desired: &Desired, seen: &ReplicaView<'_>) -> Duration {
    let FullName { pipeline, deployment } = &seen.replica.deployment;
    let revisions = desired.pipelines.get(pipeline).map(|pipeline| &pipeline.revisions);
    let spec = revisions.and_then(|revisions| {
        revisions.get(&seen.replica.revision).and_then(|revision| revision.spec(deployment))
    });
    spec.map_or(DEFAULT_DRAIN, |spec| spec.limits.drain_timeout)
}

/// Forgets pipelines that are gone, gives up on dead nodes, and forgets what is long gone.
fn garbage_collect(pass: Pass<'_>, view: &View<'_>, decided: &mut Decided) {
    let Pass { desired, state, timing, timer, .. } = pass;
    let known = state.serving.keys().chain(state.rollouts.keys()).chain(state.conclusions.keys());
    let known =
        known.chain(state.targets.keys().map(|deployment| &deployment.pipeline)).chain(state.ended.keys());
    let gone: BTreeSet<_> = known.filter(|name| !desired.pipelines.contains_key(*name)).collect();
    for pipeline in gone {
        decided.commands.push(Command::ForgetPipeline { pipeline: pipeline.clone() });
    }
    for (id, node) in &state.nodes {
        let dead = node.health(timing, timer.now()) == Health::Dead;
        if dead && !view.mass_loss && !node.replicas.is_empty() {
            decided.commands.push(Command::ReplaceNode { node: id.clone() });
        } else if dead
            && node.session.is_none()
            && node.replicas.is_empty()
            && timer.reached(node.last_seen + timing.forget_after)
        {
            decided.commands.push(Command::ForgetNode { node: id.clone() });
        }
    }
    for (id, member) in &state.absent_members {
        if timer.reached(member.forget_at) && member.asked_at.is_none_or(|at| timer.reached(at + ASK_AGAIN)) {
            decided.commands.push(Command::ForgetNode { node: id.clone() });
        }
    }
    for (id, ingress) in &state.ingresses {
        if ingress.session.is_none() && timer.reached(ingress.since + timing.ack_timeout) {
            decided.commands.push(Command::ForgetIngress { ingress: id.clone() });
        }
    }
}
