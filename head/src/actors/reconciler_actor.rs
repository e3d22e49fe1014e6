//! A shell around [`Reconciler`]: events go in as messages, what it decides goes to node sessions, ingresses, the store and
//! the log of events, and it is woken when it asks to be. Restarted by the head actor, with everything observed forgotten;
//! node sessions end with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::desired::{self, Desired, Outcome, Verdict};
use millstream_core::model::RouteTable;
use millstream_core::model::{Command, SessionId};
use millstream_core::model::{Observation, Registration};
use millstream_core::present::explain::Subject;
use millstream_core::reconcile::{Effect, Event, JoinError, NotRemovable, Reconciler};
use millstream_core::rollout::{self, ChangeKind};
use millstream_proto::NodeId;
use millstream_proto::event::Decision;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use tokio_util::task::AbortOnDropHandle;

use super::node_session_actor::NodeSessionMsg;
use super::told;
use crate::shared::Shared;
use crate::{clock, members, metrics};

/// Reconciles.
pub(crate) struct ReconcilerActor {
    pub(crate) shared: Arc<Shared>,
}

/// What the reconciler is told and asked.
pub(crate) enum ReconcilerMsg {
    /// From the node service, once a stream: a worker wants in. Answered with a refusal when its name is taken.
    Join(Box<Registration>, SessionId, ActorRef<NodeSessionMsg>, RpcReplyPort<Result<(), JoinError>>),
    /// From node and ingress sessions, with the time at which it arrived. Repeating it is harmless.
    Observe(Observation, Duration),
    /// From the control service, after the store has taken the change; answered at once. May be repeated.
    DesiredChanged(Arc<Desired>, RpcReplyPort<()>),
    /// From itself, after the store has taken how a rollout ended. May be repeated.
    Concluded(Arc<Desired>),
    /// From whoever shows the cluster: take a snapshot. May be repeated.
    Snapshot,
    /// From the control service: tell every ingress and worker to drain and end. May be repeated.
    Shutdown(Duration, RpcReplyPort<()>),
    /// From the head, before its process ends: decide nothing any more. May be repeated.
    Rest(RpcReplyPort<()>),
    /// From itself, after the store has forgotten a node. May be repeated.
    Forgotten(NodeId),
    /// From the control service: a node is gone for good. Answered with its id, or why not.
    RemoveNode(String, RpcReplyPort<Result<NodeId, NotRemovable>>),
    /// From the node service: a worker obeyed a later term; this head continues in the given one.
    RaiseEpoch(u64),
    /// From itself: the time has come that the reconciler asked for, and when that was noticed.
    Wake(Duration),
    /// For a dry run, a plan or a test: the reconciler as it is now.
    Inspect(RpcReplyPort<Box<Reconciler>>),
}

/// What the actor holds.
pub(crate) struct ReconcilerState {
    reconciler: Reconciler,
    sessions: BTreeMap<NodeId, (SessionId, ActorRef<NodeSessionMsg>)>,
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
        self.shared.snapshots.reset();
        let absent = self.shared.presence.absent();
        let mut state = ReconcilerState { reconciler, sessions: BTreeMap::new(), absent, alarm: None };
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
        let now = self.shared.clock.now();
        self.note_absence(&myself, state, now);
        match message {
            ReconcilerMsg::Join(registration, session, actor, reply) => {
                let outcome = state.reconciler.admit(&registration, now);
                if outcome.is_ok() {
                    self.join(&myself, state, *registration, session, actor);
                }
                answer(reply, outcome);
            }
            ReconcilerMsg::Observe(observation, at) => self.feed(&myself, state, observation.into(), at),
            ReconcilerMsg::DesiredChanged(desired, reply) => {
                self.feed(&myself, state, Event::Desired(desired), now);
                answer(reply, ());
            }
            ReconcilerMsg::Concluded(desired) => self.feed(&myself, state, Event::Desired(desired), now),
            ReconcilerMsg::Snapshot => {
                self.shared.snapshots.publish(&self.shared.name, state.reconciler.snapshot(now));
            }
            ReconcilerMsg::Shutdown(drain, reply) => {
                self.shut_down(&myself, state, drain, now);
                answer(reply, ());
            }
            ReconcilerMsg::Rest(reply) => {
                self.feed(&myself, state, Event::Stopping, now);
                answer(reply, ());
            }
            ReconcilerMsg::Forgotten(node) => self.feed(&myself, state, Event::MemberForgotten(node), now),
            ReconcilerMsg::RemoveNode(node, reply) => {
                let outcome = state.reconciler.removable(&node, now);
                if let Ok(id) = &outcome {
                    self.feed(&myself, state, Event::NodeRemoved(id.clone()), now);
                }
                answer(reply, outcome);
            }
            ReconcilerMsg::RaiseEpoch(epoch) => {
                self.feed(&myself, state, Event::EpochRaised(epoch), now);
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
            let _ = myself.cast(ReconcilerMsg::Observe(left, self.shared.clock.now()));
        }
        Ok(())
    }
}

impl ReconcilerActor {
    /// Tells the reconciler when this process did not run for a while: a stopped machine, a debugger.
    fn note_absence(&self, myself: &ActorRef<ReconcilerMsg>, state: &mut ReconcilerState, now: Duration) {
        let absent = self.shared.presence.note(now);
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
        self.feed(myself, state, joined.into(), self.shared.clock.now());
    }

    /// Gives the reconciler an event, carries out what follows, and sets the alarm that it asks for.
    fn feed(
        &self,
        myself: &ActorRef<ReconcilerMsg>,
        state: &mut ReconcilerState,
        event: Event,
        now: Duration,
    ) {
        let version = state.reconciler.version();
        let effects = state.reconciler.handle(event, now);
        if state.reconciler.version() != version {
            self.tell_version(state);
        }
        for effect in effects {
            match effect {
                Effect::Record(subject, decision) => self.record(subject, decision),
                Effect::Command(command) => self.carry_out(myself, state, &command),
                Effect::Publish(table) => self.publish(state.reconciler.state().epoch, table),
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
        let clock = self.shared.clock;
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
        self.shared.snapshots.announce(state.reconciler.version());
    }

    fn record(&self, subject: Subject, decision: Decision) {
        if let (Subject::Deployment(deployment), Decision::Pending { reasons }) = (&subject, &decision) {
            tracing::warn!(%deployment, reasons = reasons.join(" | "), "a wanted replica has no place");
        }
        self.shared.events.note(subject, decision);
    }

    fn publish(&self, epoch: u64, table: RouteTable) {
        tracing::debug!(version = %table.version, "new route table");
        self.shared.feed.send_modify(|feed| feed.publish(epoch, table));
    }

    /// Sends a command to whom it concerns. A session that is gone loses it; its worker reports what runs when it
    /// dials again, and the next look decides afresh.
    fn carry_out(&self, myself: &ActorRef<ReconcilerMsg>, state: &mut ReconcilerState, command: &Command) {
        metrics::count_command(command);
        told::log(command);
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
                let (shared, node, myself) = (Arc::clone(&self.shared), node.clone(), myself.clone());
                tokio::spawn(async move {
                    match members::forget(&shared.store, &node).await {
                        Ok(()) => drop(myself.cast(ReconcilerMsg::Forgotten(node))),
                        Err(error) => {
                            tracing::warn!(node_id = %node, %error, "a node that is gone is not forgotten yet")
                        }
                    }
                });
                return;
            }
            Command::Rollout(change) => {
                if matches!(change.kind, ChangeKind::Complete | ChangeKind::RollBack { .. }) {
                    tokio::spawn(conclude(Arc::clone(&self.shared), myself.clone(), change.clone()));
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
        self.shared.feed.send_modify(|feed| feed.leave = Some(drain));
        for (_, actor) in state.sessions.values() {
            let _ = actor.cast(NodeSessionMsg::Shutdown(drain));
        }
    }
}

/// Stores how a rollout ended. When the store does not take it, the next look but one says so again.
async fn conclude(shared: Arc<Shared>, reconciler: ActorRef<ReconcilerMsg>, change: rollout::Change) {
    let rollout::Change { pipeline, revision, baseline, kind } = change;
    let at_ms = clock::unix_ms();
    // Why it went back is kept before anybody can see that it did.
    shared.events.flush(&shared.store).await;
    let change = |desired: &mut Desired| {
        match &kind {
            ChangeKind::RollBack { reason } => {
                let verdict = Verdict { outcome: Outcome::RolledBack, reason: reason.clone(), at_ms };
                desired::rollout::go_back(desired, &pipeline, revision, baseline, verdict);
            }
            _ => desired::rollout::complete(desired, &pipeline, revision),
        }
        Ok(())
    };
    match shared.catalog.change_rollout(change).await {
        Ok(((), desired)) => {
            let _ = reconciler.cast(ReconcilerMsg::Concluded(desired));
        }
        Err(error) => tracing::warn!(%pipeline, revision, %error, "the end of a rollout is not stored yet"),
    }
}

/// Whoever asked may have left meanwhile.
fn answer<T: Send + 'static>(reply: RpcReplyPort<T>, value: T) {
    let _ = reply.send(value);
}
