//! After the faults: everything heals, and within a bounded time the cluster is what is desired, and stays so.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream_core::desired::{Desired, Mode};
use millstream_core::model::Replica;
use millstream_core::present::status::status;
use millstream_core::rollout::Phase;
use millstream_pipelines::Name;
use millstream_proto::ReplicaId;
use millstream_proto::status::{NodeState, PipelineState, ReplicaState};

use crate::checks::Rule;
use crate::client::Strictness;
use crate::clock::{Event, Host};
use crate::head::Head;
use crate::pipelines::{Draft, is_sound};
use crate::scenario::{CALM_REQUESTS_MS, CONVICTED_WITHIN, Room};
use crate::world::World;

/// How long it may take from the end of the faults: a replica that failed often waits up to 60 s for its next start, and
/// nodes are replaced after 15 s.
const BOUND: Duration = Duration::from_secs(150);
/// How long a canary that fails every call may stand after the faults: a head that began a term meanwhile waits for its
/// nodes, and has seen none of its answers.
const CONVICTED_LATER: Duration = Duration::from_secs(30);
/// How long it must rest.
const REST: Duration = Duration::from_secs(12);
/// How long after the faults somebody may still learn of a broken connection, or a node be given up; rest is looked for
/// from then on.
const NOTICED: Duration = Duration::from_secs(18);
/// How long it must rest where requests may change something again: a deployment that scales, a rollout that is watched.
const SOFT_REST: Duration = Duration::from_secs(3);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

impl World {
    pub(crate) fn inspect(&mut self) {
        let now = self.cx.now();
        let Some(healed_at) = self.healed_at else {
            if self.scenario.leaves_heads_alone() {
                self.check_turned_bad(CONVICTED_WITHIN);
            }
            self.heal();
            return;
        };
        if now - healed_at >= CONVICTED_LATER {
            self.check_turned_bad(Duration::ZERO);
        }
        self.cx.agenda.after(LOOK, Event::Inspect);
        if now - healed_at < NOTICED {
            return;
        }
        match self.unrest() {
            None => {
                let since = *self.rests_since.get_or_insert(now);
                self.was_firm = self.is_firm();
                if self.scenario.room == Room::Enough {
                    self.cx.client.strictness = Strictness::Strict;
                }
                if now - since >= if self.is_firm() { REST } else { SOFT_REST } {
                    self.finish();
                }
            }
            Some(why) => {
                if self.rests_since.take().is_some() && self.is_firm() && self.was_firm {
                    self.restless(&format!("it rested, and then: {why}"));
                } else if now - healed_at >= BOUND {
                    self.restless(&why);
                }
            }
        }
    }

    /// A revision that turned bad that long ago, and stands.
    fn turned_bad(&self, ago: Duration) -> Option<&(Name, u64)> {
        let now = self.cx.now();
        let pipelines = &self.cx.store.desired.pipelines;
        let stands = |(name, revision): &(Name, u64)| {
            pipelines.get(name).is_some_and(|pipeline| pipeline.wanted == *revision)
        };
        let long_ago = self.cx.failures.turned_bad.iter().filter(|(_, at)| now - **at >= ago);
        long_ago.map(|(revision, _)| revision).find(|revision| stands(revision))
    }

    /// What turned bad that long ago must be convicted.
    fn check_turned_bad(&mut self, ago: Duration) {
        if let Some((name, revision)) = self.turned_bad(ago).cloned() {
            let detail = format!("revision {revision} of {name} fails every call and stands");
            self.cx.checks.fail(Rule::TurnedBadIsConvicted, detail);
        }
    }

    /// The script is over: what is broken is mended, what is down comes back.
    fn heal(&mut self) {
        self.healed_at = Some(self.cx.now());
        self.cx.note(|| "* everything heals".to_owned());
        self.cx.net.heal();
        self.cx.failures.permille = 0;
        self.scenario.request_gap_ms = CALM_REQUESTS_MS;
        self.cx.net.latency.one_in = 0;
        for index in 0..2 {
            if index == self.cx.leader {
                self.boot(Host::Head(index));
            } else if let Some(head) = &self.heads[index].running {
                self.step_down(head.process);
            }
        }
        for index in 0..self.workers.len() {
            if !self.dead.contains(&index) {
                self.boot(Host::Worker(index));
            }
        }
        for index in 0..self.ingresses.len() {
            self.boot(Host::Ingress(index));
        }
        // Beside a dead node, or in little room, none can be kept free.
        if !self.dead.is_empty() || self.scenario.room == Room::Tight {
            let uncordon = |desired: &mut Desired, _: &mut Draft| {
                let cordons = std::mem::take(&mut desired.cordons);
                !cordons.is_empty()
            };
            self.change_desired(uncordon, 0);
        }
        for index in 0..self.drafts.len() {
            if !self.drafts[index].is_sound() || self.answers_badly(index) {
                self.drafts[index].mend();
                self.store_draft(index, Mode::Rolling);
            }
        }
        self.cx.agenda.after(LOOK, Event::Inspect);
    }

    /// Whether requests can change nothing any more.
    fn is_firm(&self) -> bool {
        let Some(head) = self.leader() else { return true };
        let wanted = head.desired().pipelines.values().filter_map(|pipeline| pipeline.wanted());
        let mut specs =
            wanted.filter_map(|wanted| wanted.compiled.as_ref().ok()).flat_map(|it| it.deployments.values());
        // What only requests under way may need leaves by itself, later.
        let routes = head.state().routes.pipelines.iter().flat_map(|route| &route.deployments);
        let lasts = routes.flat_map(|route| &route.replicas).all(|replica| !replica.serves.is_empty());
        lasts
            && head.state().rollouts.is_empty()
            && head.desired().pipelines.values().all(|pipeline| pipeline.watched.is_none())
            && specs.all(|spec| spec.autoscaling.min_replicas == spec.autoscaling.max_replicas)
    }

    /// What takes over has not done so, or is not stored yet. A canary or a shadow may stand.
    fn takes_over(&self, head: &Head) -> Option<String> {
        if head.desired().generation != self.cx.store.desired.generation {
            return Some("the head does not know all that is desired".into());
        }
        for (name, pipeline) in &head.desired().pipelines {
            let mode = pipeline.rollout.map(|stored| stored.mode);
            let phase = head.state().rollouts.get(name).map(|rollout| rollout.phase);
            let stands = matches!(mode, Some(Mode::Canary { .. } | Mode::Shadow { .. }));
            match (mode, phase) {
                (None, None | Some(Phase::Watching)) => {}
                (Some(_), Some(Phase::Trial | Phase::Half)) if stands => {}
                _ => return Some(format!("{name} is in {phase:?} of {mode:?}")),
            }
        }
        None
    }

    /// Whether a revision takes requests, or may again, whose replicas fail calls or never start.
    fn answers_badly(&self, index: usize) -> bool {
        let pipeline = self.cx.store.desired.pipelines.get(&self.drafts[index].name());
        pipeline.is_some_and(|pipeline| {
            // Amid a takeover any of them may serve.
            let may_serve = |number: &u64| *number == pipeline.wanted || pipeline.rollout.is_some();
            let revisions = pipeline.revisions.iter().filter(|(number, _)| may_serve(number));
            let compiled = revisions.filter_map(|(_, revision)| revision.compiled.as_ref().ok());
            compiled.flat_map(|compiled| compiled.deployments.values()).any(|spec| !is_sound(spec))
        })
    }

    /// What the workers run; or what of it is not ready.
    fn running(&self) -> Result<BTreeSet<ReplicaId>, String> {
        let mut running = BTreeSet::new();
        for worker in self.workers.iter().filter_map(|slot| slot.running.as_ref()) {
            for report in worker.lifecycle.reports() {
                if report.state != ReplicaState::Ready {
                    return Err(format!("{} is {:?}", report.order.id, report.state));
                }
                running.insert(report.order.id.clone());
            }
        }
        Ok(running)
    }

    /// What is not yet as it should be.
    fn unrest(&self) -> Option<String> {
        let Some(head) = self.leader() else { return Some("no head leads".into()) };
        if let Some((name, revision)) = self.turned_bad(Duration::ZERO) {
            return Some(format!("revision {revision} of {name} fails every call"));
        }
        let now = head.clock(&self.cx);
        let status = status("head", head.desired(), head.state(), &self.cx.timing, now);
        if let Some(why) = waits(head).map(Into::into).or_else(|| on_its_way(head)) {
            return Some(why);
        }
        if self.scenario.room == Room::Tight {
            // What has no place waits; that is all that can be asked of it.
            let since = self.rests_since.unwrap_or(self.cx.now());
            return (head.last_command > since).then(|| "the head decided something".into());
        }
        if let Some((deployment, reasons)) = head.state().pending.first_key_value() {
            return Some(format!("{deployment} is pending: {reasons:?}"));
        }
        if let Some(node) = status.nodes.iter().find(|node| node.state == NodeState::Draining) {
            return Some(format!("{} is draining", node.id));
        }
        if let Some(why) = self.takes_over(head) {
            return Some(why);
        }
        // What stands beside it has a number of its own; what serves is whole.
        let named = head.named();
        let short = |(name, asked): &(_, &usize)| named.get(name).map_or(0, Vec::len) < **asked;
        if let Some((name, asked)) =
            head.asked().iter().map(|(name, asked)| (name.clone(), asked)).find(short)
        {
            return Some(format!("{:?} of {name} serve, not {asked}", named.get(&name)));
        }
        let mut booked = BTreeSet::new();
        for pipeline in &status.pipelines {
            if pipeline.state != PipelineState::Ready {
                return Some(format!("{} is {:?}", pipeline.name, pipeline.state));
            }
            let stands = head.state().rollouts.iter();
            let stands = stands
                .filter(|(name, _)| name.as_str() == pipeline.name)
                .any(|(_, rollout)| rollout.phase < Phase::Moving);
            for deployment in &pipeline.deployments {
                let target = deployment.target_replicas;
                let exact =
                    deployment.ready_replicas == target && deployment.replicas.len() == target as usize;
                if !exact && !stands {
                    return Some(format!(
                        "{} has {:?} of {target}",
                        deployment.full_name, deployment.replicas
                    ));
                }
                booked.extend(deployment.replicas.iter().map(|replica| replica.id.clone()));
            }
        }
        let running = match self.running() {
            Ok(running) => running,
            Err(why) => return Some(why),
        };
        if booked != running {
            return Some(format!("booked {booked:?}, running {running:?}"));
        }
        if !self.cx.checks.all_confirmed(head.state().routes.version) {
            return Some("not every ingress has the newest table".into());
        }
        if let Some(since) = self.rests_since
            && head.last_command > since
        {
            return Some("the head decided something".into());
        }
        None
    }

    fn finish(&mut self) {
        self.done = true;
        // What was asked long enough ago has been answered.
        let now = self.cx.now();
        self.check_answers(now);
    }
}

/// What a head waits for before it decides.
fn waits(head: &Head) -> Option<&'static str> {
    let state = head.state();
    match (state.settling.is_over, state.alarm, state.draining.is_empty()) {
        (false, ..) => Some("the head has not settled"),
        (_, true, _) => Some("the head is alarmed"),
        (.., false) => Some("requests may be under way on a revision that has left the routes"),
        _ => None,
    }
}

/// A replica that comes or goes, on a node that is heard.
fn on_its_way(head: &Head) -> Option<String> {
    let comes_or_goes =
        |replica: &Replica| replica.leaving.is_some() || replica.state == ReplicaState::Starting;
    let live = head.state().nodes.values().filter(|node| node.session.is_some());
    let mut replicas = live.flat_map(|node| &node.replicas);
    replicas.find(|(_, replica)| comes_or_goes(replica)).map(|(id, _)| format!("{id} is on its way"))
}
