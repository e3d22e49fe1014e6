//! One request on its way: the model of how a call waits, is sent, and is sent again, around the real decisions.

use std::time::Duration;

use millstream_ingress::decisions::{
    Admission, Attempt, DEFAULT_RETRIES, Decision, Eligibility, Forwarded, Idempotent, Key,
    Outcome as CallOutcome, QueueClass, Requested, RoutingRequest, Standing, Ticket, WhenSpent, backoff,
    choose, decide, within_budget,
};
use millstream_pipelines::{Name, Task};
use millstream_proto::call::Priority;
use millstream_proto::{CallError, ErrorClass};
use rand::Rng;

use super::{Ingress, Instance};
use crate::Mutation;
use crate::client::Outcome;
use crate::clock::Timer;
use crate::cx::Cx;
use crate::message::{ConnId, End, Message};

/// What a request is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Queued(Ticket),
    Calling(u64),
    /// Waits to ask again, or for a place in the budget.
    Waiting,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Request {
    pipeline: Name,
    /// The revision that it runs on, and its draw.
    revision: u64,
    draw: u16,
    /// Whether replicas of that revision answer as they should.
    sound: bool,
    targets: Vec<(Instance, Task)>,
    stage: usize,
    doing: Doing,
    tried: Tried,
    holds_retry: bool,
    standing: Standing,
}

impl Request {
    /// What it asks of a deployment.
    fn routing<'w>(&self, avoid: &'w [Key]) -> RoutingRequest<'w> {
        let number = u32::from(self.draw);
        let priority = Priority::ALL[number as usize % Priority::ALL.len()];
        let claim = QueueClass { priority, tenant: number % 4, weight: 1 + number % 2 };
        RoutingRequest {
            avoid,
            revision: Some(self.revision),
            draw: self.draw,
            claim,
            deadline: None,
            standing: self.standing,
        }
    }
}

/// Where the call of a stage has been tried in vain.
#[derive(Debug, Default)]
struct Tried {
    failed_on: Vec<Key>,
    absent: Vec<Key>,
    rounds: u32,
    retries: u32,
}

impl Tried {
    fn avoided(&self) -> Vec<Key> {
        self.failed_on.iter().chain(&self.absent).copied().collect()
    }
}

/// A call that was sent.
#[derive(Debug)]
pub(super) struct CallUnderWay {
    request: u64,
    instance: Instance,
    key: Key,
    /// The revision that its replica was started for.
    revision: u64,
    pub(super) conn: ConnId,
}

/// What a call gets whose connection broke.
pub(super) fn broken() -> CallError {
    CallError::started(ErrorClass::Unavailable, "the connection to the replica's worker broke")
}

impl Ingress {
    /// A client's request arrives.
    pub(crate) fn request(&mut self, request: u64, pipeline: &Name, deadline: Duration, cx: &mut Cx) {
        let draw = cx.rng.random_range(0..1000);
        let chosen = self.routes.get(pipeline).and_then(|route| {
            let index = choose(&route.shares, None, draw)?;
            let targets = route.targets.get(index)?.clone();
            Some((route.shares.get(index)?.revision, targets, *route.sound.get(index)?))
        });
        let Some((revision, targets, sound)) = chosen else {
            cx.client.answer(request, &Outcome::Unknown, &mut cx.checks);
            return;
        };
        let state = Request {
            pipeline: pipeline.clone(),
            revision,
            draw,
            sound,
            targets,
            stage: 0,
            doing: Doing::Waiting,
            tried: Tried::default(),
            holds_retry: false,
            standing: Standing::New,
        };
        self.requests.insert(request, state);
        cx.timer(self.process, deadline, Timer::Deadline(request));
        self.acquire(request, cx);
    }

    /// Asks for a place in a replica.
    fn acquire(&mut self, id: u64, cx: &mut Cx) {
        let now = cx.instant();
        let Some(request) = self.requests.get_mut(&id) else { return };
        let (instance, _) = request.targets[request.stage];
        let avoid = request.tried.avoided();
        let Some(deployment) = self.deployments.get_mut(&instance) else { return };
        let routing = request.routing(&avoid);
        deployment.arrived += 1;
        let Requested { admission, grants, evicted } = deployment.pool.request(routing, now, &mut cx.rng);
        let evicted = evicted.and_then(|(ticket, _)| deployment.waiters.remove(&ticket));
        let mut queue_formed = false;
        if let Admission::Wait(ticket) = admission {
            request.doing = Doing::Queued(ticket);
            deployment.waiters.insert(ticket, id);
            queue_formed = deployment.pool.num_queued() == 1;
        }
        self.deliver(instance, &grants, cx);
        if queue_formed {
            self.tell_load(cx);
        }
        match admission {
            Admission::Send(key) => self.send_call(id, instance, key, cx),
            Admission::Shed(_) => self.finish(id, &Outcome::Shed, cx),
            Admission::Wait(_) => {}
        }
        if let Some(evicted) = evicted {
            self.finish(evicted, &Outcome::Shed, cx);
        }
    }

    pub(super) fn send_call(&mut self, id: u64, instance: Instance, key: Key, cx: &mut Cx) {
        let Some(deployment) = self.deployments.get_mut(&instance) else { return };
        let Some(target) = deployment.target(key).cloned() else { return };
        deployment.ongoing += 1;
        cx.last_call += 1;
        let call = cx.last_call;
        let worker: usize = target.address.trim_start_matches("node-").parse().unwrap_or(usize::MAX);
        let way = self.way_to(worker, cx);
        if let Some(request) = self.requests.get_mut(&id) {
            request.doing = Doing::Calling(call);
            request.standing = Standing::Admitted;
            let (_, task) = request.targets[request.stage];
            // Of a pipeline that was deleted and deployed anew nobody knows any more what it could answer.
            let kept = cx.store.desired.pipelines.get(&request.pipeline);
            if kept.is_some_and(|pipeline| pipeline.revisions.contains_key(&request.revision)) {
                cx.checks.asks(&target.id, task, format_args!("{}@{}", request.pipeline, request.revision));
            }
        }
        cx.checks.sends(self.process, &target.id);
        let under_way =
            CallUnderWay { request: id, instance, key, revision: target.revision, conn: way.unwrap_or(0) };
        self.calls.insert(call, under_way);
        match way {
            Some(conn) => cx.send((conn, End::Dialler), Message::Call { call, replica: target.id }),
            None => {
                let error = CallError::not_started(ErrorClass::Unavailable, "the worker cannot be reached");
                self.replied(call, Err(error), cx);
            }
        }
    }

    /// A call has ended. One that nobody waits for is ignored.
    pub(super) fn replied(&mut self, call: u64, result: Result<(), CallError>, cx: &mut Cx) {
        let Some(under_way) = self.calls.remove(&call) else { return };
        self.give_back(&under_way, CallOutcome::of(&result), cx);
        let CallUnderWay { request: id, instance, key, .. } = under_way;
        let error = match result {
            Ok(()) => return self.stage_done(id, cx),
            Err(error) => error,
        };
        let attempt = self.attempt(id, instance);
        let decision = decide(&error, attempt);
        cx.note(|| format!("request {id}: {error} on {key}: {decision:?}"));
        if cx.mutation == Mutation::IngressForgetsOnRetry && matches!(decision, Decision::Retry(_)) {
            self.requests.remove(&id);
            return;
        }
        let holds_retry = matches!(decision, Decision::Retry(_)) && self.takes_retry(id);
        let Some(request) = self.requests.get_mut(&id) else { return };
        match decision {
            Decision::Requeue => {}
            Decision::Elsewhere => request.tried.absent.push(key),
            Decision::GiveUp => return self.finish(id, &Outcome::Failed(error.to_string()), cx),
            Decision::Retry(WhenSpent::GiveUp) if !holds_retry => {
                return self.finish(id, &Outcome::Failed(error.to_string()), cx);
            }
            Decision::Retry(_) => {
                request.tried.retries += 1;
                request.tried.failed_on.push(key);
                if !holds_retry {
                    request.doing = Doing::Waiting;
                    self.wait_for_retry.push(id);
                    return;
                }
            }
        }
        self.before_next(id, instance, &error, cx);
    }

    fn give_back(&mut self, call: &CallUnderWay, outcome: CallOutcome, cx: &mut Cx) {
        let now = cx.instant();
        let CallUnderWay { instance, key, revision, .. } = *call;
        let Some(deployment) = self.deployments.get_mut(&instance) else { return };
        deployment.ongoing -= 1;
        deployment.counts.count(revision, outcome);
        let grants = deployment.pool.finish(key, outcome, now, &mut cx.rng);
        self.deliver(instance, &grants, cx);
    }

    /// What the decision on a retry needs to know.
    fn attempt(&self, id: u64, instance: Instance) -> Attempt {
        let idempotent = self.deployments.get(&instance).is_some_and(|deployment| deployment.idempotent);
        Attempt {
            started_retries: self.requests.get(&id).map_or(0, |request| request.tried.retries),
            max_retries: DEFAULT_RETRIES,
            forwarded: Forwarded::Nothing,
            idempotent: if idempotent { Idempotent::Yes } else { Idempotent::No },
        }
    }

    /// Takes the request's place in the budget for retries; says whether it has one.
    fn takes_retry(&mut self, id: u64) -> bool {
        let active = u32::try_from(self.requests.len()).unwrap_or(u32::MAX);
        let Some(request) = self.requests.get_mut(&id) else { return false };
        if !request.holds_retry && within_budget(self.retrying, active) {
            request.holds_retry = true;
            self.retrying += 1;
        }
        request.holds_retry
    }

    /// Waits when every replica was asked in vain; fails when there is none left to ask.
    fn before_next(&mut self, id: u64, instance: Instance, error: &CallError, cx: &mut Cx) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        let Some(deployment) = self.deployments.get(&instance) else { return };
        if deployment.pool.eligibility(request.routing(&request.tried.failed_on)) == Eligibility::AllAvoided {
            return self.finish(id, &Outcome::Failed(error.to_string()), cx);
        }
        let avoided = request.tried.avoided();
        if !request.tried.absent.is_empty()
            && deployment.pool.eligibility(request.routing(&avoided)) == Eligibility::AllAvoided
        {
            let wait = backoff(request.tried.rounds, cx.rng.random());
            request.tried.rounds += 1;
            request.tried.absent.clear();
            request.doing = Doing::Waiting;
            cx.timer(self.process, wait, Timer::AskAgain(id));
            return;
        }
        self.acquire(id, cx);
    }

    pub(super) fn ask_again(&mut self, id: u64, cx: &mut Cx) {
        if self.requests.get(&id).is_some_and(|request| request.doing == Doing::Waiting) {
            self.acquire(id, cx);
        }
    }

    /// A stage is done: the next one begins with a clean slate, or the client gets its answer.
    fn stage_done(&mut self, id: u64, cx: &mut Cx) {
        let Some(request) = self.requests.get_mut(&id) else { return };
        request.stage += 1;
        if request.stage == request.targets.len() {
            return self.finish(id, &Outcome::Answered, cx);
        }
        request.tried = Tried::default();
        let held = std::mem::take(&mut request.holds_retry);
        if held {
            self.free_retry(cx);
        }
        self.acquire(id, cx);
    }

    fn finish(&mut self, id: u64, outcome: &Outcome, cx: &mut Cx) {
        let keeps = cx.mutation == Mutation::IngressKeepsLateRequests;
        let late = matches!(outcome, Outcome::Failed(text) if text == LATE);
        if keeps && late {
            cx.client.answer(id, outcome, &mut cx.checks);
            return;
        }
        let Some(request) = self.requests.remove(&id) else { return };
        let (instance, _) = request.targets[request.stage.min(request.targets.len() - 1)];
        if *outcome != Outcome::Answered {
            cx.note(|| {
                let Request { pipeline, revision, doing, .. } = &request;
                format!("request {id} of {pipeline}@{revision}: {outcome:?} while {doing:?}")
            });
        }
        self.count_ending(&request.pipeline, request.revision, outcome);
        // What a bad revision fails is the fault of whoever deployed that.
        let blamed = !request.sound && matches!(outcome, Outcome::Failed(_));
        let outcome = if blamed { &Outcome::Blamed } else { outcome };
        cx.client.answer(id, outcome, &mut cx.checks);
        match request.doing {
            Doing::Queued(ticket) => {
                if let Some(deployment) = self.deployments.get_mut(&instance) {
                    deployment.pool.give_up(ticket);
                    deployment.waiters.remove(&ticket);
                }
            }
            Doing::Calling(call) => {
                if let Some(there) = self.calls.remove(&call) {
                    cx.send((there.conn, End::Dialler), Message::Cancel(call));
                    self.give_back(&there, CallOutcome::Abandoned, cx);
                }
            }
            Doing::Waiting => self.wait_for_retry.retain(|waiting| *waiting != id),
        }
        if request.holds_retry {
            self.free_retry(cx);
        }
    }

    /// A retry gives its place back: who waits for one takes it.
    fn free_retry(&mut self, cx: &mut Cx) {
        self.retrying = self.retrying.saturating_sub(1);
        let active = u32::try_from(self.requests.len()).unwrap_or(u32::MAX);
        if self.wait_for_retry.is_empty() || !within_budget(self.retrying, active) {
            return;
        }
        let id = self.wait_for_retry.remove(0);
        self.retrying += 1;
        if let Some(request) = self.requests.get_mut(&id) {
            request.holds_retry = true;
            let (instance, _) = request.targets[request.stage];
            self.before_next(id, instance, &broken(), cx);
        }
    }

    pub(super) fn time_is_over(&mut self, id: u64, cx: &mut Cx) {
        if self.requests.contains_key(&id) {
            self.finish(id, &Outcome::Failed(LATE.into()), cx);
        }
    }
}

/// What a client is told whose time is over.
const LATE: &str = "the deadline has passed";
