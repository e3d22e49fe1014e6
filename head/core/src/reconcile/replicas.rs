//! What one pipeline needs: how many replicas of each deployment start, which leave.
//!
//! A new revision starts beside the old one, at most `max_surge` replicas more at a time; the old one stays whole until
//! requests have moved ([`super::takeover`]). From then on old replicas leave as new ones get ready, so that ready ones
//! never fall below what was asked. When a deployment's task or tensors change, old and new replicas cannot serve the same
//! plan: then all new ones start first, and requests move when all are ready.

use std::sync::Arc;

use millstream_pipelines::{DeploymentSpec, FullName, Name};
use millstream_status::ReplicaId;
use millstream_status::status::ReplicaState;

use super::context::{Context, Needs, beside, is_convicted, is_interchangeable, retire};
use super::draining::{draining_revisions, serves_any};
use super::moving::split;
use super::view::ReplicaView;
use crate::desired::Revision;
use crate::model::{Command, Node, Order, Reason, Replica};
use crate::scheduler::GroupId;

/// Decides for one pipeline. A wanted revision that this program does not understand changes nothing.
pub(crate) fn decide(context: &Context<'_>) -> Needs {
    let mut needs = Needs::default();
    let Some(wanted) = context.wanted() else { return needs };
    let Ok(compiled) = &wanted.compiled else { return needs };
    let serving = context.take_over(wanted, &mut needs.commands);
    let old = match serving.revision == wanted.stored.number {
        true => None,
        false => context.pipeline.revisions.get(&serving.revision),
    };
    let known = |number| [wanted.stored.number, serving.revision].contains(&number);
    let draining = draining_revisions(context, known);
    for (deployment, spec) in &compiled.deployments {
        let deployment = context.full_name(deployment);
        match old {
            Some(old) => context.start_beside(&deployment, spec, wanted, old, &mut needs),
            None => context.move_over(&deployment, spec, wanted, &draining, &mut needs),
        }
    }
    let of_old = old.and_then(|old| Some((old, old.compiled.as_ref().ok()?)));
    for (old, (deployment, spec)) in
        of_old.into_iter().flat_map(|(old, there)| there.deployments.iter().map(move |it| (old, it)))
    {
        if !compiled.deployments.contains_key(deployment) {
            context.keep_whole(&context.full_name(deployment), spec, old, &mut needs);
        }
    }
    let has = |deployment: &Name| {
        compiled.deployments.contains_key(deployment) || old.is_some_and(|old| old.spec(deployment).is_some())
    };
    context.keep_for_draining(&draining, has, &mut needs);
    context.retire_others(wanted, old.map(AsRef::as_ref), &draining, &mut needs);
    // Only the first start: what is lost later is replaced as it fits.
    if compiled.all_or_nothing && context.view.of_pipeline(context.name).next().is_none() {
        let group = GroupId(context.name.to_string());
        needs.start.iter_mut().for_each(|wanted| wanted.group = Some(group.clone()));
    }
    needs
}

impl Context<'_> {
    /// A new revision starts beside the one that serves, which keeps its number of replicas.
    fn start_beside(
        &self,
        deployment: &FullName,
        spec: &DeploymentSpec,
        newest: &Revision,
        old: &Revision,
        needs: &mut Needs,
    ) {
        let (all, moving) = split(self.view.counted(deployment));
        let current: Vec<_> = all.iter().copied().filter(|seen| seen.serves(newest)).collect();
        let serving: Vec<_> = all.iter().copied().filter(|seen| seen.serves(old)).collect();
        let interchangeable =
            old.spec(&deployment.deployment).is_none_or(|old_spec| is_interchangeable(old_spec, spec));
        let whole = old.spec(&deployment.deployment).map_or(0, |spec| self.target(deployment, spec));
        let target = self.wanted_target(deployment, spec);
        let gives_way = spec.limits.max_surge == 0 && interchangeable;
        // One of the old gives way to the one that is on trial, for a canary as many as it needs.
        let asked = match beside(self.mode(), target) {
            asked if gives_way && self.mode().is_rolling() => asked.min(1),
            asked => asked,
        };
        let of_old = if gives_way { whole.saturating_sub(asked.max(current.len())) } else { whole };
        let missing_of_old = of_old.saturating_sub(serving.len());
        needs.want(deployment, old, missing_of_old);
        // What starts for the old revision may serve both.
        let serves_both = newest.is_served_by(&deployment.deployment, old.stored.number);
        let coming = if serves_both { missing_of_old } else { 0 };
        let missing = asked.saturating_sub(current.len() + coming);
        let others = all.len() - current.len();
        // A canary or a shadow is beside the others for long: that is more than a surge.
        let room = if others == 0 || !interchangeable || !self.mode().is_rolling() || gives_way {
            missing
        } else {
            (target.max(others) + spec.limits.max_surge.max(1) as usize).saturating_sub(all.len())
        };
        needs.want(deployment, newest, missing.min(room));
        // What both revisions use must be enough for both; what only the newest can use is not needed yet.
        self.retire_surplus(&current, target.max(whole), |seen| seen.serves(old), needs);
        let only_old: Vec<_> = serving.into_iter().filter(|seen| !seen.serves(newest)).collect();
        if gives_way {
            self.retire_surplus(&only_old, of_old, |_| true, needs);
        }
        let (of_newest, of_others): (Vec<&ReplicaView<'_>>, Vec<&ReplicaView<'_>>) =
            moving.into_iter().partition(|seen| seen.serves(newest));
        self.move_off(&of_newest, &current, if serves_both { asked.max(of_old) } else { asked }, needs);
        let moving_old: Vec<_> = of_others.into_iter().filter(|seen| seen.serves(old)).collect();
        let serve_both = current.iter().filter(|seen| seen.serves(old)).count();
        self.move_off(&moving_old, &only_old, of_old.saturating_sub(serve_both), needs);
    }

    /// A deployment that the new revision no longer has keeps its number for as long as the old one serves.
    fn keep_whole(&self, deployment: &FullName, spec: &DeploymentSpec, old: &Revision, needs: &mut Needs) {
        let serving = self.view.counted(deployment).filter(|seen| seen.serves(old));
        let (serving, moving) = split(serving);
        let target = self.target(deployment, spec);
        needs.want(deployment, old, target.saturating_sub(serving.len()));
        self.retire_surplus(&serving, target, |_| true, needs);
        self.move_off(&moving, &serving, target, needs);
    }

    /// The newest revision serves: bring it to its number, let others leave as its replicas get ready.
    fn move_over(
        &self,
        deployment: &FullName,
        spec: &DeploymentSpec,
        newest: &Revision,
        draining: &[&Arc<Revision>],
        needs: &mut Needs,
    ) {
        let (settled, moving) = split(self.view.counted(deployment));
        let (current, mut others): (Vec<&ReplicaView<'_>>, Vec<&ReplicaView<'_>>) =
            settled.into_iter().partition(|seen| seen.serves(newest));
        let (moving, moving_others): (Vec<&ReplicaView<'_>>, Vec<&ReplicaView<'_>>) =
            moving.into_iter().partition(|seen| seen.serves(newest));
        // Others leave as the newest revision's replicas get ready, these first.
        others.extend(moving_others);
        let target = self.wanted_target(deployment, spec);
        let missing = target.saturating_sub(current.len());
        let num_ready = current.iter().filter(|seen| seen.is_ready()).count();
        // Those of a revision that was convicted leave at once: they do not help out, unless a good one has made do with them.
        let is_bad = |revision: u64| is_convicted(self.state, self.name, self.pipeline, revision);
        let good: Vec<_> =
            draining.iter().copied().filter(|revision| !is_bad(revision.stored.number)).collect();
        let stands_in =
            |seen: &ReplicaView<'_>| self.spec_of(seen).is_some_and(|old| is_interchangeable(old, spec));
        let previous = |seen: &&ReplicaView<'_>| {
            seen.is_ready() && stands_in(seen) && (!is_bad(seen.replica.revision) || serves_any(seen, &good))
        };
        let (able, mut unable): (Vec<&ReplicaView<'_>>, Vec<&ReplicaView<'_>>) =
            others.iter().copied().partition(previous);
        // Requests that began on a revision before have no others to go to.
        unable.retain(|seen| !(seen.is_ready() && !stands_in(seen) && serves_any(seen, draining)));
        let surge = spec.limits.max_surge as usize;
        // Without a surge one stops before another starts.
        let gives_way = usize::from(surge == 0 && missing > 0);
        let keep = target.saturating_sub(num_ready + gives_way).min(able.len());
        let room = if keep == 0 { missing } else { (target + surge).saturating_sub(current.len() + keep) };
        needs.want(deployment, newest, missing.min(room));
        let leaving = able.into_iter().skip(keep).chain(unable);
        needs.commands.extend(leaving.map(|seen| retire(seen, self.why_replaced(seen))));
        self.retire_surplus(&current, target, |_| true, needs);
        self.move_off(&moving, &current, target, needs);
        let outdated =
            current.iter().chain(&moving).filter(|seen| seen.replica.settings_of != newest.stored.number);
        needs.commands.extend(outdated.filter_map(|seen| update(seen, newest)));
    }

    fn spec_of(&self, seen: &ReplicaView<'_>) -> Option<&Arc<DeploymentSpec>> {
        self.pipeline.spec_of_replica(&seen.replica.deployment.deployment, seen.replica.revision)
    }

    /// Replicas beyond `keep` leave, in this order: those whose node is not heard, those that serve nothing now, those that
    /// are not ready, those on cordoned nodes, those on the emptiest nodes.
    fn retire_surplus(
        &self,
        replicas: &[&ReplicaView<'_>],
        keep: usize,
        serves: impl Fn(&ReplicaView<'_>) -> bool,
        needs: &mut Needs,
    ) {
        let surplus = replicas.len().saturating_sub(keep);
        if surplus == 0 {
            return;
        }
        let mut order = replicas.to_vec();
        order.sort_by_cached_key(|seen| {
            // A node whose stream broke may be gone.
            let is_heard = seen.node.session.is_some();
            let (free, crowd) = (seen.cordon.is_none(), num_staying(seen.node));
            (is_heard, serves(seen), seen.is_ready(), free, crowd, std::cmp::Reverse(seen.id))
        });
        needs.commands.extend(order.into_iter().take(surplus).map(|seen| retire(seen, Reason::Surplus)));
    }

    /// Replicas of revisions before the one that serves, which answer in place of those that it does not have ready yet:
    /// another update came before the one before was over.
    fn substitutes(&self, deployment: &FullName, old: &Revision) -> Vec<&ReplicaId> {
        let Some(spec) = old.spec(&deployment.deployment) else { return Vec::new() };
        let before = |seen: &&ReplicaView<'_>| {
            seen.is_ready()
                && seen.replica.revision < old.stored.number
                && !seen.serves(old)
                && self.spec_of(seen).is_some_and(|theirs| is_interchangeable(theirs, spec))
        };
        let missing = self.target(deployment, spec).saturating_sub(self.view.num_ready(deployment, old));
        self.view.counted(deployment).filter(before).map(|seen| seen.id).take(missing).collect()
    }

    /// Replicas that neither revision knows leave: of revisions in between, of deployments that are gone and that no
    /// request under way calls.
    fn retire_others(
        &self,
        newest: &Revision,
        old: Option<&Revision>,
        draining: &[&Arc<Revision>],
        needs: &mut Needs,
    ) {
        for (deployment, replicas) in self.view.of_pipeline(self.name) {
            let in_newest = newest.spec(&deployment.deployment).is_some();
            // `move_over` has seen to these already.
            if old.is_none() && in_newest {
                continue;
            }
            let in_old = old.is_some_and(|old| old.spec(&deployment.deployment).is_some());
            let stands_in = |seen: &ReplicaView<'_>, revision: &Revision| {
                let specs = self.spec_of(seen).zip(revision.spec(&deployment.deployment));
                specs.is_some_and(|(theirs, spec)| is_interchangeable(theirs, spec))
            };
            let newest_is_ready = self.view.num_ready(deployment, newest) > 0;
            let is_kept = |seen: &ReplicaView<'_>| {
                let is_needless =
                    newest_is_ready && stands_in(seen, newest) || old.is_some_and(|old| stands_in(seen, old));
                !is_needless && serves_any(seen, draining) && !seen.cannot_start()
            };
            let substitutes = old.map_or_else(Vec::new, |old| self.substitutes(deployment, old));
            let known = |seen: &ReplicaView<'_>| {
                let old = in_old && old.is_some_and(|old| seen.serves(old));
                old || is_kept(seen) || in_newest && seen.serves(newest) || substitutes.contains(&seen.id)
            };
            let leaving = replicas.iter().filter(|seen| !known(seen)).map(|seen| {
                let reason = if in_newest { self.why_replaced(seen) } else { Reason::Unwanted };
                retire(seen, reason)
            });
            needs.commands.extend(leaving);
        }
    }
}

impl Context<'_> {
    /// Why a replica that the wanted revision has no use for leaves.
    fn why_replaced(&self, seen: &ReplicaView<'_>) -> Reason {
        match is_convicted(self.state, self.name, self.pipeline, seen.replica.revision) {
            true => Reason::TakenBack,
            false => Reason::Replaced,
        }
    }
}

/// Replicas of a node that stay, of all deployments.
fn num_staying(node: &Node) -> usize {
    let stays = |replica: &&Replica| replica.leaving.is_none() && replica.state != ReplicaState::Draining;
    node.replicas.values().filter(stays).count()
}

/// Tells a replica of settings that apply in place.
fn update(seen: &ReplicaView<'_>, revision: &Revision) -> Option<Command> {
    let spec = revision.spec(&seen.replica.deployment.deployment)?;
    seen.node.session?;
    Some(Command::Update(Order {
        node: seen.node_id.clone(),
        replica: seen.id.clone(),
        deployment: seen.replica.deployment.clone(),
        revision: revision.stored.number,
        spec: spec.clone(),
        source_dir: revision.stored.source_dir.clone(),
        gpus: seen.replica.gpus.clone(),
    }))
}
