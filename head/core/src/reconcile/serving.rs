//! Which revision of a pipeline serves, and how far the one that is to replace it has come: collects what
//! [`rollout::step`] decides by, and turns what it says into commands.
//!
//! The serving revision changes only when the new one enters [`Phase::Moving`]; during a trial the routes name both.

use millstream_pipelines::{DeploymentSpec, Name};

use super::context::{Context, beside, is_interchangeable, num_to_prove};
use super::scale;
use super::view::ReplicaView;
use crate::desired::{Mode, Revision};
use crate::model::{Command, Serving};
use crate::rollout::{self, Change, ChangeKind, Next, NextStep, Observed, Phase, Rollout, Trial};

impl<'a> Context<'a> {
    /// Moves the takeover on by a step; returns what requests run on after it.
    pub(super) fn take_over(&self, wanted: &Revision, commands: &mut Vec<Command>) -> Serving {
        let number = wanted.stored.number;
        let mut serving = self.choose_serving(wanted);
        let known = self.state.rollouts.get(self.name);
        let current = known.filter(|rollout| {
            rollout.revision == number && [number, rollout.baseline].contains(&serving.revision)
        });
        if let (Some(rollout), None) = (known, current) {
            commands.push(self.change(rollout.revision, rollout.baseline, ChangeKind::End));
        }
        match current {
            Some(rollout) => {
                self.set_part(rollout, wanted, commands);
                let moves = self.step(rollout, wanted, commands) == Next::Enter(Phase::Moving);
                if moves {
                    serving = Serving { revision: number, complete: true };
                }
            }
            None if serving.revision != number && serving.complete => {
                commands.push(self.change(number, serving.revision, ChangeKind::Begin(Phase::Starting)));
            }
            None => self.resume_rollout(wanted, serving, commands),
        }
        self.conclude_again(commands);
        if self.state.serving.get(self.name) != Some(&serving) {
            let Serving { revision, complete } = serving;
            if complete && revision == number {
                self.keep_loaded(wanted, commands);
            }
            commands.push(Command::Serve { pipeline: self.name.clone(), revision, complete });
        }
        serving
    }

    /// What was loaded only to be checked stays until it has been idle for a while, like any other replica.
    fn keep_loaded(&self, wanted: &Revision, commands: &mut Vec<Command>) {
        for (name, spec) in wanted.compiled.iter().flat_map(|compiled| &compiled.deployments) {
            let deployment = self.full_name(name);
            let (from, to) = (self.target(&deployment, spec), self.wanted_target(&deployment, spec));
            if from < to {
                commands.push(Command::Scale(Box::new(scale::initial(deployment, spec, from, to))));
            }
        }
    }

    /// The wanted revision serves, and the store says that it takes over: a head that was restarted meanwhile goes on.
    fn resume_rollout(&self, wanted: &Revision, serving: Serving, commands: &mut Vec<Command>) {
        let number = wanted.stored.number;
        let Some(stored) = self.pipeline.rollout else { return };
        let is_concluded =
            self.state.conclusions.get(self.name).is_some_and(|conclusion| conclusion.revision == number);
        if is_concluded || self.rolled_back_to().is_some() || serving.revision != number || !serving.complete
        {
            return;
        }
        let baseline = self.pipeline.revisions.get(&stored.baseline);
        // A baseline without replicas is nothing to go back to in a hurry.
        let kind = match baseline.is_some_and(|baseline| self.can_serve(baseline)) {
            true => ChangeKind::Begin(Phase::Moving),
            false => ChangeKind::Complete,
        };
        commands.push(self.change(number, stored.baseline, kind));
    }

    /// The store may not have taken a conclusion: told again after a while.
    fn conclude_again(&self, commands: &mut Vec<Command>) {
        let Some(conclusion) = self.state.conclusions.get(self.name) else { return };
        let is_open = conclusion.is_open(self.pipeline, self.state.rollouts.get(self.name));
        if is_open && self.timer.reached(conclusion.since + self.timing.rollout.retry) {
            let stored = self.pipeline.rollout.map(|stored| stored.baseline);
            let (baseline, kind) = match &conclusion.back {
                Some((to, reason)) => (*to, ChangeKind::RollBack { reason: reason.clone() }),
                None => (stored.unwrap_or(conclusion.revision), ChangeKind::Complete),
            };
            commands.push(self.change(conclusion.revision, baseline, kind));
        }
    }

    /// Whether what the wanted revision was deployed over was going back to this one: the store did not know that yet.
    fn went_back_to(&self, revision: u64) -> bool {
        let stored = self.pipeline.rollout.map(|stored| stored.baseline);
        let conclusion =
            self.state.conclusions.get(self.name).filter(|conclusion| Some(conclusion.revision) == stored);
        conclusion.and_then(|conclusion| conclusion.back.as_ref()).is_some_and(|(to, _)| *to == revision)
    }

    /// What a rollout under way comes to.
    fn step(&self, rollout: &Rollout, wanted: &Revision, commands: &mut Vec<Command>) -> Next {
        let returns = self.rolled_back_to().is_some()
            || self.pipeline.verdicts.contains_key(&rollout.baseline)
            || !(self.pipeline.may_return_to(rollout.baseline) || self.went_back_to(rollout.baseline));
        let observed = self.observed(rollout, wanted);
        let next = match returns {
            true => rollout::step_back(rollout, &observed),
            false => {
                let (next_step, now) = (observed.next_step, self.timer.now());
                self.timer.wake_at(rollout::wake_at(rollout, next_step, &self.timing.rollout, now));
                rollout::step(rollout, &observed, &self.timing.rollout, self.timer.now())
            }
        };
        let mut push = |kind| commands.push(self.change(rollout.revision, rollout.baseline, kind));
        match &next {
            Next::Stay => {}
            Next::Advance(permille) => {
                let asked = rollout.asked.filter(|(asked, _)| asked == permille).map(|(_, at)| at);
                if asked.is_none_or(|at| self.timer.reached(at + self.timing.rollout.retry)) {
                    push(ChangeKind::Advance(*permille));
                }
            }
            Next::Enter(phase) => {
                push(ChangeKind::Enter(*phase));
                if *phase == Phase::Watching && self.pipeline.rollout.is_some() {
                    push(ChangeKind::Complete);
                }
            }
            Next::End => {
                // What the baseline needs should it serve again is kept for it no longer.
                if self.pipeline.watched.is_some() {
                    push(ChangeKind::Complete);
                }
                push(ChangeKind::End);
            }
            Next::RollBack(reason) => push(ChangeKind::RollBack { reason: reason.clone() }),
        }
        next
    }

    /// Another part of the requests comes into force once there are replicas for it; a smaller one at once.
    fn set_part(&self, rollout: &Rollout, wanted: &Revision, commands: &mut Vec<Command>) {
        let Some(part) = self.mode().part().filter(|part| rollout.part != Some(*part)) else { return };
        let is_less = rollout.part.is_some_and(|before| part < before);
        let needed = |name: &Name, spec: &DeploymentSpec| {
            beside(self.mode(), self.wanted_target(&self.full_name(name), spec))
        };
        if is_less || self.has_ready(wanted, needed) {
            commands.push(self.change(rollout.revision, rollout.baseline, ChangeKind::Part(part)));
        }
    }

    fn change(&self, revision: u64, baseline: u64, kind: ChangeKind) -> Command {
        Command::Rollout(Change { pipeline: self.name.clone(), revision, baseline, kind })
    }

    fn observed(&self, rollout: &Rollout, wanted: &Revision) -> Observed {
        let old = self.pipeline.revisions.get(&rollout.baseline);
        let needed = |name: &Name, spec: &DeploymentSpec| match old.and_then(|old| old.spec(name)) {
            Some(old) if !is_interchangeable(old, spec) => {
                beside(self.mode(), self.wanted_target(&self.full_name(name), spec))
            }
            _ => self.wanted_target(&self.full_name(name), spec).min(1),
        };
        let replicas = || self.view.of_pipeline(self.name).flat_map(|(_, replicas)| replicas);
        let all_ready = self.has_ready(wanted, |name, spec| self.wanted_target(&self.full_name(name), spec));
        let can_stand_in = |seen: &ReplicaView<'_>| {
            let deployment = &seen.replica.deployment.deployment;
            let theirs = self.pipeline.spec_of_replica(deployment, seen.replica.revision);
            let specs = wanted.spec(deployment).zip(theirs);
            specs.is_some_and(|(spec, theirs)| is_interchangeable(spec, theirs))
        };
        let unable = replicas().find(|seen| {
            seen.serves(wanted) && seen.cannot_start() && !old.is_some_and(|old| seen.serves(old))
        });
        let nothing_new = wanted.compiled.as_ref().is_ok_and(|compiled| {
            compiled.deployments.keys().all(|name| wanted.is_served_by(name, rollout.baseline))
        });
        let ingresses = self.state.ingresses.values();
        let sends = ingresses.clone().any(|ingress| ingress.session.is_some());
        let busy = ingresses
            .flat_map(|ingress| &ingress.loads)
            .any(|(deployment, load)| deployment.pipeline == *self.name && load.ongoing + load.queued > 0);
        // Whatever the old one had has stopped in its place (`max_surge = 0`): its requests wait for the new one.
        let gave_way = old.is_some_and(|old| !self.can_serve(old) && has_no_surge(wanted));
        let mismatch = self.state.mismatch(self.name, wanted.stored.number);
        let mismatch = mismatch.map(|faults| format!("it does not fit its models:\n{faults}"));
        Observed {
            mode: self.mode(),
            ready: self.has_ready(wanted, needed),
            // What cannot answer for the new one stays for requests that began on the old one, and holds nothing up.
            moved: all_ready && replicas().all(|seen| seen.serves(wanted) || !can_stand_in(seen)),
            cannot_start: mismatch.or_else(|| {
                unable.map(|seen| {
                    let error = &seen.replica.starts.last_error;
                    let why = if error.is_empty() { "its process ended" } else { error };
                    if seen.replica.starts.is_unloadable {
                        return format!("a replica of `{}` cannot start: {why}", seen.replica.deployment);
                    }
                    format!(
                        "a replica of `{}` did not start in {} tries: {why}",
                        seen.replica.deployment,
                        seen.replica.starts.restarts + 1
                    )
                })
            }),
            trial: if nothing_new || !sends || gave_way { Trial::Skipped } else { Trial::Needed },
            busy,
            next_step: self.next_step(rollout, wanted),
            max_p95: wanted.compiled.as_ref().ok().and_then(|compiled| compiled.rollout.max_p95),
        }
    }

    /// The next of the file's steps, once the present one is in force.
    fn next_step(&self, rollout: &Rollout, wanted: &Revision) -> Option<NextStep> {
        let Mode::Steps { permille } = self.mode() else { return None };
        let steps = &wanted.compiled.as_ref().ok()?.rollout.steps;
        NextStep::of(steps, permille).filter(|_| rollout.part == Some(permille))
    }

    /// Whether each deployment of the revision has a ready replica. One that is to have none answers all the same: its
    /// calls wait until one has started.
    fn can_serve(&self, revision: &Revision) -> bool {
        self.has_ready(revision, |name, spec| self.target(&self.full_name(name), spec).min(1))
    }

    /// The same, with a ready replica of each model also where there are to be none for now: it is known that the file fits.
    fn is_loaded(&self, revision: &Revision) -> bool {
        self.has_ready(revision, |name, spec| {
            self.target(&self.full_name(name), spec).min(1).max(num_to_prove(spec))
        })
    }

    /// Which revision requests run on, as long as no other takes over.
    fn choose_serving(&self, wanted: &Revision) -> Serving {
        let served = |complete| Serving { revision: wanted.stored.number, complete };
        let serving = self.state.serving.get(self.name).copied();
        let now = serving.and_then(|now| Some((now, self.pipeline.revisions.get(&now.revision)?)));
        match now {
            // After a restart of the head: what served before the takeover, what is wanted, the newest that can serve.
            None => {
                let baseline = self.pipeline.rollout.map(|stored| stored.baseline);
                let others = self.pipeline.revisions.keys().rev().copied();
                let others = others.filter(|number| !self.pipeline.verdicts.contains_key(number));
                let candidates = baseline.into_iter().chain([wanted.stored.number]).chain(others);
                let mut revisions = candidates.filter_map(|number| self.pipeline.revisions.get(&number));
                let able = revisions.find(|revision| self.can_serve(revision)).map(|it| it.stored.number);
                // Replicas may be seen late. That is no reason to skip what is left of a takeover, and least of all to
                // give a canary all requests.
                let proven = baseline.filter(|baseline| self.pipeline.may_return_to(*baseline));
                let chosen = if self.mode().is_rolling() { able.or(proven) } else { proven.or(able) };
                match chosen {
                    Some(revision) => Serving { revision, complete: true },
                    None => served(false),
                }
            }
            Some((now, _)) if now.revision == wanted.stored.number => {
                served(now.complete || self.is_loaded(wanted))
            }
            // What serves never worked: there is nothing to protect.
            Some((Serving { complete: false, .. }, old)) if !self.is_loaded(old) => {
                served(self.is_loaded(wanted))
            }
            Some((now, _)) => Serving { revision: now.revision, complete: true },
        }
    }
}

/// Whether replicas of one of its deployments stop before others start.
fn has_no_surge(revision: &Revision) -> bool {
    let compiled = revision.compiled.as_ref().ok();
    compiled.is_some_and(|compiled| compiled.deployments.values().any(|spec| spec.limits.max_surge == 0))
}
