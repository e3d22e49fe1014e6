//! A shell around [`Reconciler`]: events go in as messages, what it decides goes to node sessions, ingresses, the store and
//! the log of events, and it is woken when it asks to be. When it dies its term is over, and with it all that it observed;
//! node sessions end with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::desired::{self, Desired, Outcome, Verdict};
use millstream_core::model::{Command, Observation, Registration, RouteTable, SessionId};
use millstream_core::present::explain::{self, Subject};
use millstream_core::reconcile::{Effect, Event, Reconciler};
use millstream_core::rollout::{self, ChangeKind};
use millstream_pipelines::Name;
use millstream_proto::NodeId;
use millstream_proto::event::Decision;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::command_log;
use super::messages::{NodeSessionMsg, ReconcilerMsg};
use crate::leadership::context::TermContext;
use crate::{clock, members, metrics, store};

/// Reconciles.
pub(crate) struct ReconcilerActor {
    pub(crate) context: Arc<TermContext>,
}

/// What the actor holds.
pub(crate) struct ReconcilerState {
    reconciler: Reconciler,
    sessions: BTreeMap<NodeId, (SessionId, ActorRef<NodeSessionMsg>)>,
    /// What people ask for, as the catalog has it.
    desired: watch::Receiver<Arc<Desired>>,
    /// Nodes that the store is being told to forget.
    forgetting: BTreeSet<NodeId>,
    /// Pipelines of which the store is being told how their rollouts ended.
    concluding: BTreeSet<Name>,
    /// How long this process did not run, as far as the reconciler knows.
    absent: Duration,
    alarm: Option<Alarm>,
}

/// A wake-up that is on its way; dropping it ends its timer.
struct Alarm {
    at: Duration,
    _timer: Option<AbortOnDropHandle<()>>,
}

impl Actor for ReconcilerActor {
    type Msg = ReconcilerMsg;
    type State = ReconcilerState;
    type Arguments = Reconciler;

    async fn pre_start(
        &self,
        myself: ActorRef<ReconcilerMsg>,
        reconciler: Reconciler,
    ) -> Result<ReconcilerState, ActorProcessingErr> {
        let mut state = ReconcilerState {
            reconciler,
            sessions: BTreeMap::new(),
            desired: self.context.catalog.subscribe(),
            forgetting: BTreeSet::new(),
            concluding: BTreeSet::new(),
            absent: self.context.host.presence.absent(),
            alarm: None,
        };
        // What is stored since the reconciler was made is news to it.
        state.desired.mark_changed();
        self.tell_version(&state);
        self.set_alarm(&myself, &mut state);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<ReconcilerMsg>,
        message: ReconcilerMsg,
        state: &mut ReconcilerState,
    ) -> Result<(), ActorProcessingErr> {
        let now = self.context.host.clock.now();
        self.note_absence(&myself, state, now);
        self.note_desired(&myself, state, now);
        match message {
            ReconcilerMsg::Join(registration, session, actor, reply) => {
                let outcome = state.reconciler.admit(&registration, now);
                if outcome.is_ok() {
                    self.join(&myself, state, *registration, session, actor);
                }
                answer(reply, outcome);
            }
            ReconcilerMsg::Observe(observation, at) => {
                metrics::reconciler_lagged(now.saturating_sub(at));
                self.feed(&myself, state, observation.into(), at);
            }
            // Whatever comes, what people ask for is looked at first.
            ReconcilerMsg::DesiredChanged => {}
            ReconcilerMsg::Concluded(pipeline) => drop(state.concluding.remove(&pipeline)),
            ReconcilerMsg::Snapshot => {
                let context = &self.context;
                context.snapshots.publish(&context.host.name, state.reconciler.snapshot(now));
            }
            ReconcilerMsg::Shutdown(drain, reply) => {
                self.shut_down(&myself, state, drain, now);
                answer(reply, ());
            }
            ReconcilerMsg::Rest(reply) => {
                self.feed(&myself, state, Event::Stopping, now);
                answer(reply, ());
            }
            ReconcilerMsg::Forgotten(node, outcome) => self.forgotten(&myself, state, node, outcome, now),
            ReconcilerMsg::RemoveNode(node, reply) => {
                let outcome = state.reconciler.removable(&node, now);
                if let Ok(id) = &outcome {
                    self.feed(&myself, state, Event::NodeRemoved(id.clone()), now);
                }
                answer(reply, outcome);
            }
            ReconcilerMsg::Wake(at) => {
                state.alarm = None;
                // What arrived later than the alarm went off is still in the mailbox: nobody is silent on that account.
                self.feed(&myself, state, Event::Wake, at);
            }
            ReconcilerMsg::Inspect(reply) => answer(reply, Box::new(state.reconciler.clone())),
        }
        Ok(())
    }

    /// A node session that ended, however it did, is a node that left.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<ReconcilerMsg>,
        event: SupervisionEvent,
        state: &mut ReconcilerState,
    ) -> Result<(), ActorProcessingErr> {
        let ended = match &event {
            SupervisionEvent::ActorFailed(who, error) => {
                tracing::error!(%error, "a node session died; its worker dials again");
                who.get_id()
            }
            SupervisionEvent::ActorTerminated(who, ..) => who.get_id(),
            _ => return Ok(()),
        };
        let of_node = state.sessions.iter().find(|(_, (_, actor))| actor.get_id() == ended);
        if let Some((node, session)) = of_node.map(|(node, (session, _))| (node.clone(), *session)) {
            state.sessions.remove(&node);
            tracing::info!(node_id = %node, "node left");
            // Behind what the session passed on before it ended: supervision overtakes messages.
            let left = Observation::NodeLeft(node, session);
            let _ = myself.cast(ReconcilerMsg::Observe(left, self.context.host.clock.now()));
        }
        Ok(())
    }
}

impl ReconcilerActor {
    /// Tells the reconciler when this process did not run for a while: a stopped machine, a debugger.
    fn note_absence(&self, myself: &ActorRef<ReconcilerMsg>, state: &mut ReconcilerState, now: Duration) {
        let absent = self.context.host.presence.note(now);
        let gap = absent.saturating_sub(state.absent);
        if !gap.is_zero() {
            state.absent = absent;
            tracing::warn!(
                ?gap,
                "the head did not run for a while; nobody else is taken for silent on that account"
            );
            self.feed(myself, state, Event::Absent(gap), now);
        }
    }

    /// Whoever has stored a change asks next how the cluster is: it is to be in the answer.
    fn note_desired(&self, myself: &ActorRef<ReconcilerMsg>, state: &mut ReconcilerState, now: Duration) {
        if state.desired.has_changed().unwrap_or(false) {
            let desired = Arc::clone(&state.desired.borrow_and_update());
            self.feed(myself, state, Event::Desired(desired), now);
        }
    }

    fn forgotten(
        &self,
        myself: &ActorRef<ReconcilerMsg>,
        state: &mut ReconcilerState,
        node: NodeId,
        outcome: Result<(), store::Error>,
        now: Duration,
    ) {
        state.forgetting.remove(&node);
        match outcome {
            Ok(()) => self.feed(myself, state, Event::MemberForgotten(node), now),
            // The next pass says it again.
            Err(error) => tracing::warn!(node_id = %node, %error, "a node that is gone is not forgotten yet"),
        }
    }

    fn join(
        &self,
        myself: &ActorRef<ReconcilerMsg>,
        state: &mut ReconcilerState,
        registration: Registration,
        session: SessionId,
        actor: ActorRef<NodeSessionMsg>,
    ) {
        let num_replicas = registration.replicas.len();
        tracing::info!(node_id = %registration.id, name = registration.name, num_replicas, "node joined");
        if let Some((_, old)) = state.sessions.insert(registration.id.clone(), (session, actor)) {
            old.stop(Some("its node has a newer stream".into()));
        }
        let joined = Observation::NodeJoined(session, registration);
        self.feed(myself, state, joined.into(), self.context.host.clock.now());
    }

    /// Gives the reconciler an event, carries out what follows, and sets the alarm that it asks for.
    fn feed(
        &self,
        myself: &ActorRef<ReconcilerMsg>,
        state: &mut ReconcilerState,
        event: Event,
        now: Duration,
    ) {
        let (kind, version) = (event.kind(), state.reconciler.version());
        if let Event::Observed(observation) = &event
            && let Some((subject, decision)) = explain::event_of_observation(
                observation,
                state.reconciler.state(),
                &state.reconciler.desired().cordons,
            )
        {
            self.record(subject, decision);
        }
        let start = clock::instant();
        let effects = state.reconciler.handle(event, now);
        metrics::reconciler_took(kind, clock::since(start));
        if state.reconciler.version() != version {
            self.tell_version(state);
        }
        for effect in effects {
            match effect {
                Effect::Record(subject, decision) => self.record(subject, decision),
                Effect::Command(command) => self.carry_out(myself, state, &command),
                Effect::Publish(table) => self.publish(table),
            }
        }
        self.set_alarm(myself, state);
    }

    /// One alarm is set at a time, and again only when the time has come nearer: a later one is found out when it goes off.
    fn set_alarm(&self, myself: &ActorRef<ReconcilerMsg>, state: &mut ReconcilerState) {
        let Some(at) = state.reconciler.next_wake() else { return };
        if state.alarm.as_ref().is_some_and(|alarm| alarm.at <= at) {
            return;
        }
        let clock = self.context.host.clock;
        let wait = at.saturating_sub(clock.now());
        let timer = if wait.is_zero() {
            // At once, but behind what waits in the mailbox: a burst of events is decided upon once.
            let _ = myself.cast(ReconcilerMsg::Wake(clock.now()));
            None
        } else {
            let myself = myself.clone();
            Some(AbortOnDropHandle::new(tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                let _ = myself.cast(ReconcilerMsg::Wake(clock.now()));
            })))
        };
        state.alarm = Some(Alarm { at, _timer: timer });
    }

    /// Tells whoever watches that there is something new.
    fn tell_version(&self, state: &ReconcilerState) {
        self.context.snapshots.announce(state.reconciler.version());
    }

    fn record(&self, subject: Subject, decision: Decision) {
        if let (Subject::Deployment(deployment), Decision::Pending { reasons }) = (&subject, &decision) {
            tracing::warn!(%deployment, reasons = reasons.join(" | "), "a wanted replica has no place");
        }
        self.context.events.note(subject, decision);
    }

    fn publish(&self, table: RouteTable) {
        tracing::debug!(version = %table.version, "new route table");
        self.context.feed.send_modify(|feed| feed.publish(table));
    }

    /// Sends a command to whom it concerns. A session that is gone loses it; its worker reports what runs when it
    /// dials again, and the next look decides afresh.
    fn carry_out(&self, myself: &ActorRef<ReconcilerMsg>, state: &mut ReconcilerState, command: &Command) {
        metrics::count_command(command);
        command_log::log(command);
        let (node, message) = match command {
            Command::Start(order) | Command::Update(order) => {
                (&order.node, NodeSessionMsg::Start(Box::new(order.clone())))
            }
            Command::Stop { node, replica, drain, .. } => {
                (node, NodeSessionMsg::Stop(replica.clone(), *drain))
            }
            Command::ReplaceNode { node } => {
                // It must say afresh what runs there.
                if let Some((_, actor)) = state.sessions.remove(node) {
                    actor.stop(Some("its node was given up".into()));
                }
                return;
            }
            Command::ForgetNode { node } => {
                if state.forgetting.insert(node.clone()) {
                    tokio::spawn(forget(Arc::clone(&self.context), myself.clone(), node.clone()));
                }
                return;
            }
            Command::Rollout(change) => {
                let is_end = matches!(
                    change.kind,
                    ChangeKind::Complete | ChangeKind::RollBack { .. } | ChangeKind::Advance(_)
                );
                if is_end && state.concluding.insert(change.pipeline.clone()) {
                    tokio::spawn(conclude(Arc::clone(&self.context), myself.clone(), change.clone()));
                }
                return;
            }
            _ => return,
        };
        if let Some((_, actor)) = state.sessions.get(node) {
            let _ = actor.cast(message);
        }
    }

    fn shut_down(
        &self,
        myself: &ActorRef<ReconcilerMsg>,
        state: &mut ReconcilerState,
        drain: Duration,
        now: Duration,
    ) {
        tracing::info!("shutting the cluster down");
        self.feed(myself, state, Event::Stopping, now);
        self.context.feed.send_modify(|feed| feed.leave = Some(drain));
        for (_, actor) in state.sessions.values() {
            let _ = actor.cast(NodeSessionMsg::Shutdown(drain));
        }
    }
}

/// Takes a node out of the store.
async fn forget(context: Arc<TermContext>, reconciler: ActorRef<ReconcilerMsg>, node: NodeId) {
    let outcome = members::forget(&context.store, &node).await;
    let _ = reconciler.cast(ReconcilerMsg::Forgotten(node, outcome));
}

/// Stores how a rollout ended. When the store does not take it, a later pass says so again.
async fn conclude(context: Arc<TermContext>, reconciler: ActorRef<ReconcilerMsg>, change: rollout::Change) {
    let rollout::Change { pipeline, revision, baseline, kind } = change;
    let at_ms = clock::unix_ms();
    // Why it went back is kept before anybody can see that it did.
    context.events.flush(&context.store).await;
    let change = |desired: &mut Desired| {
        match &kind {
            ChangeKind::RollBack { reason } => {
                let verdict = Verdict { outcome: Outcome::RolledBack, reason: reason.clone(), at_ms };
                desired::rollout::go_back(desired, &pipeline, revision, baseline, verdict);
            }
            ChangeKind::Advance(permille) => {
                desired::rollout::advance(desired, &pipeline, revision, *permille);
            }
            _ => desired::rollout::complete(desired, &pipeline, revision),
        }
        Ok(())
    };
    if let Err(error) = context.catalog.change_rollout(change, |()| {}).await {
        tracing::warn!(%pipeline, revision, %error, "the end of a rollout is not stored yet");
    }
    let _ = reconciler.cast(ReconcilerMsg::Concluded(pipeline));
}

/// Whoever asked may have left meanwhile.
fn answer<T: Send + 'static>(reply: RpcReplyPort<T>, value: T) {
    let _ = reply.send(value);
}
