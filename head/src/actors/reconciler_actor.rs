//! Owns what is observed: events come in, [`step`] decides, commands go out to node sessions and route tables to
//! ingresses. Restarted by the head actor, with everything observed forgotten; node sessions end with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::desired::{self, Desired, Outcome, Verdict};
use millstream_core::present::explain;
use millstream_core::present::numbers::{Numbers, numbers};
use millstream_core::present::status::status;
use millstream_core::reconcile::observe::{Effect, Event, NameTaken, Registration, admit, observe};
use millstream_core::reconcile::{Command, Scale, SessionId, State, routes, scale, step, wake};
use millstream_core::rollout::{self, ChangeKind};
use millstream_proto::NodeId;
use millstream_proto::status::ClusterStatus;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};

use super::node_session_actor::NodeSessionMsg;
use crate::shared::Shared;
use crate::{clock, members, metrics};

/// A gap of that length between two ticks is one in which the process was stopped, or starved.
const MIN_ABSENCE: Duration = Duration::from_secs(1);

/// Reconciles.
pub(crate) struct ReconcilerActor {
    pub(crate) shared: Arc<Shared>,
}

/// What it starts from.
pub(crate) struct ReconcilerArgs {
    /// The beginning of a term.
    pub(crate) state: State,
    /// What people asked for.
    pub(crate) desired: Arc<Desired>,
}

/// What the reconciler is told and asked.
pub(crate) enum ReconcilerMsg {
    /// From the node service, once a stream: a worker wants in. Answered with a refusal when its name is taken.
    Join(Box<Registration>, SessionId, ActorRef<NodeSessionMsg>, RpcReplyPort<Result<(), NameTaken>>),
    /// From node and ingress sessions. Repeating it is harmless.
    Observe(Event),
    /// From the control service, after the store has taken the change; answered at once. May be repeated.
    DesiredChanged(Arc<Desired>, RpcReplyPort<()>),
    /// From itself, after the store has taken how a rollout ended. May be repeated.
    Concluded(Arc<Desired>),
    /// From anybody: the cluster as it is now.
    Status(RpcReplyPort<ClusterStatus>),
    /// From the head's telemetry, each second: the cluster in numbers.
    Numbers(RpcReplyPort<Numbers>),
    /// From the control service: tell every ingress and worker to drain and end. May be repeated.
    Shutdown(Duration, RpcReplyPort<()>),
    /// From the head, before its process ends: decide nothing any more. May be repeated.
    Rest(RpcReplyPort<()>),
    /// From the node service: a worker obeyed a later term; this head continues in the given one.
    RaiseEpoch(u64),
    /// From itself, after events and at each tick: compare what is desired with what runs.
    Look(Trigger),
    /// From tests and debug pages: everything observed.
    Inspect(RpcReplyPort<Box<State>>),
}

/// Why to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// Something changed.
    Event,
    /// Time went by.
    Tick,
}

/// What the reconciler holds.
pub(crate) struct ReconcilerState {
    state: State,
    desired: Arc<Desired>,
    sessions: BTreeMap<NodeId, (SessionId, ActorRef<NodeSessionMsg>)>,
    /// When this actor last did something; it ticks, so a long gap is one in which the process did not run.
    alive_at: Duration,
    /// Whether a look after an event is queued: a burst of events is looked at once.
    look_queued: bool,
    /// When the last look was, and when the passing of time alone asks for the next one.
    looked_at: Duration,
    look_at: Duration,
}

impl Actor for ReconcilerActor {
    type Msg = ReconcilerMsg;
    type State = ReconcilerState;
    type Arguments = ReconcilerArgs;

    async fn pre_start(
        &self,
        myself: ActorRef<ReconcilerMsg>,
        args: ReconcilerArgs,
    ) -> Result<ReconcilerState, ActorProcessingErr> {
        myself.send_interval(self.shared.timing.tick, || ReconcilerMsg::Look(Trigger::Tick));
        myself.cast(ReconcilerMsg::Look(Trigger::Event))?;
        let ReconcilerArgs { state, desired } = args;
        let (looked_at, look_at) = (Duration::ZERO, Duration::ZERO);
        Ok(ReconcilerState {
            state,
            desired,
            sessions: BTreeMap::new(),
            alive_at: self.shared.clock.now(),
            look_queued: true,
            looked_at,
            look_at,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ReconcilerMsg>,
        message: ReconcilerMsg,
        state: &mut ReconcilerState,
    ) -> Result<(), ActorProcessingErr> {
        let now = self.shared.clock.now();
        let gap = now.saturating_sub(std::mem::replace(&mut state.alive_at, now));
        if gap >= MIN_ABSENCE {
            tracing::warn!(
                ?gap,
                "the head did not run for a while; nobody else is taken for silent on that account"
            );
            state.state.was_absent(gap);
        }
        match message {
            ReconcilerMsg::Join(registration, session, actor, reply) => {
                let outcome = admit(&state.state, &registration, &self.shared.timing, now);
                if outcome.is_ok() {
                    self.join(&myself, state, *registration, session, actor);
                }
                answer(reply, outcome);
            }
            ReconcilerMsg::Observe(event) => self.observe(&myself, state, event),
            ReconcilerMsg::DesiredChanged(desired, reply) => {
                self.change_desired(&myself, state, desired);
                answer(reply, ());
            }
            ReconcilerMsg::Concluded(desired) => self.change_desired(&myself, state, desired),
            ReconcilerMsg::Status(reply) => {
                let ReconcilerState { state, desired, .. } = state;
                answer(reply, status(&self.shared.name, desired, state, &self.shared.timing, now));
            }
            ReconcilerMsg::Numbers(reply) => {
                answer(reply, numbers(&state.desired, &state.state, &self.shared.timing, now));
            }
            ReconcilerMsg::Shutdown(drain, reply) => {
                self.shut_down(state, drain);
                answer(reply, ());
            }
            ReconcilerMsg::Rest(reply) => {
                state.state.stopping = true;
                answer(reply, ());
            }
            ReconcilerMsg::RaiseEpoch(epoch) => {
                state.state.epoch = state.state.epoch.max(epoch);
                self.queue_look(&myself, state);
            }
            ReconcilerMsg::Look(Trigger::Event) => {
                state.look_queued = false;
                self.look(&myself, state, now);
            }
            ReconcilerMsg::Look(Trigger::Tick) => self.tick(&myself, state, now),
            ReconcilerMsg::Inspect(reply) => answer(reply, Box::new(state.state.clone())),
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
            let _ = myself.cast(ReconcilerMsg::Observe(Event::NodeLeft(node, session)));
        }
        Ok(())
    }
}

impl ReconcilerActor {
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
        self.observe(myself, state, Event::NodeJoined(session, registration));
    }

    fn observe(&self, myself: &ActorRef<ReconcilerMsg>, state: &mut ReconcilerState, event: Event) {
        let now = self.shared.clock.now();
        let revives = wake::revives(&state.state, &self.shared.timing, &event, now);
        let effect = observe(&mut state.state, &state.desired, event, now);
        self.shared.changes.send_modify(|changes| *changes += 1);
        if revives || effect == Effect::Structure {
            self.queue_look(myself, state);
        }
    }

    /// Two changes may arrive in another order than they were stored in.
    fn change_desired(
        &self,
        myself: &ActorRef<ReconcilerMsg>,
        state: &mut ReconcilerState,
        desired: Arc<Desired>,
    ) {
        if desired.generation > state.desired.generation {
            let now = self.shared.clock.now();
            let commands = scale::rebound(&mut state.state, &state.desired, &desired);
            state.desired = desired;
            scale::forget_unwanted(&mut state.state, &state.desired);
            self.carry_out(myself, state, &commands, now);
            self.queue_look(myself, state);
        }
    }

    fn queue_look(&self, myself: &ActorRef<ReconcilerMsg>, state: &mut ReconcilerState) {
        if !state.look_queued {
            state.look_queued = myself.cast(ReconcilerMsg::Look(Trigger::Event)).is_ok();
        }
    }

    /// Looks only when a time that was known beforehand has come: an idle cluster costs nothing.
    fn tick(&self, myself: &ActorRef<ReconcilerMsg>, state: &mut ReconcilerState, now: Duration) {
        let timing = &self.shared.timing;
        if state.look_at <= now {
            // Heartbeats may have moved it meanwhile.
            state.look_at = wake::next_look(&state.state, &state.desired, timing, state.looked_at);
        }
        if state.look_at <= now {
            self.look(myself, state, now);
        } else if state.state.next_scale().is_some_and(|at| at <= now) {
            let commands = scale::scale(&mut state.state, &state.desired, now);
            self.carry_out(myself, state, &commands, now);
            if !commands.is_empty() {
                self.look(myself, state, now);
            }
        }
    }

    fn carry_out(
        &self,
        myself: &ActorRef<ReconcilerMsg>,
        state: &mut ReconcilerState,
        commands: &[Command],
        now: Duration,
    ) {
        for command in commands {
            if let Some((subject, decision)) = explain::event_of(command, &state.state) {
                self.shared.events.note(subject, decision);
            }
            state.state.carry_out(command, now);
            metrics::count_command(command);
            self.send(myself, state, command);
        }
    }

    fn look(&self, myself: &ActorRef<ReconcilerMsg>, state: &mut ReconcilerState, now: Duration) {
        let scaled = scale::scale(&mut state.state, &state.desired, now);
        self.carry_out(myself, state, &scaled, now);
        let decided = step(&state.desired, &state.state, &self.shared.timing, now);
        self.carry_out(myself, state, &decided.commands, now);
        for (deployment, reasons) in &decided.pending {
            // A head that starts has no nodes for a moment.
            if !state.state.nodes.is_empty() && state.state.pending.get(deployment) != Some(reasons) {
                tracing::warn!(%deployment, reasons = reasons.join(" | "), "a wanted replica has no place");
            }
        }
        if !state.state.stopping {
            for (subject, decision) in explain::pending_events(&state.state.pending, &decided.pending) {
                self.shared.events.note(subject, decision);
            }
            state.state.pending = decided.pending;
            state.state.unplaced = decided.unplaced;
            state.state.take_census(decided.census, now);
        }
        if let Some(table) = routes::publish(&mut state.state, &state.desired, &self.shared.timing, now) {
            tracing::debug!(version = table.version, "new route table");
            let epoch = state.state.epoch;
            self.shared.feed.send_modify(|feed| {
                feed.epoch = epoch;
                feed.table = Some(table);
            });
        }
        if !decided.commands.is_empty() {
            self.queue_look(myself, state);
        }
        state.looked_at = now;
        state.look_at = wake::next_look(&state.state, &state.desired, &self.shared.timing, now);
        self.shared.changes.send_modify(|changes| *changes += 1);
    }

    /// Sends a command to whom it concerns. A session that is gone loses it; its worker reports what runs when it
    /// dials again, and the next step decides afresh.
    fn send(&self, myself: &ActorRef<ReconcilerMsg>, state: &mut ReconcilerState, command: &Command) {
        log(command);
        let (node, message) = match command {
            Command::Start(order) | Command::Update(order) => {
                (&order.node, NodeSessionMsg::Start(Box::new(order.clone())))
            }
            Command::Stop { node, replica, drain, .. } => {
                (node, NodeSessionMsg::Stop(replica.clone(), *drain))
            }
            Command::GiveUp { node } => {
                // It must say afresh what runs there.
                if let Some((_, actor)) = state.sessions.remove(node) {
                    actor.stop(Some("its node was given up".into()));
                }
                return;
            }
            Command::ForgetNode { node } => {
                let (shared, node) = (Arc::clone(&self.shared), node.clone());
                tokio::spawn(async move {
                    if let Err(error) = members::forget(&shared.store, &node).await {
                        tracing::warn!(node_id = %node, %error, "a restarted head will wait for a node that is gone");
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

    fn shut_down(&self, state: &mut ReconcilerState, drain: Duration) {
        tracing::info!("shutting the cluster down");
        state.state.stopping = true;
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

fn log(command: &Command) {
    match command {
        Command::Serve { pipeline, revision, complete } => {
            tracing::info!(%pipeline, revision, complete, "requests run on this revision");
        }
        Command::Rollout(change) => {
            let rollout::Change { pipeline, revision, baseline, kind } = change;
            match kind {
                ChangeKind::RollBack { reason } => {
                    tracing::warn!(%pipeline, revision, baseline, reason, "going back to the revision before");
                }
                kind => tracing::info!(%pipeline, revision, baseline, ?kind, "rollout"),
            }
        }
        Command::Start(order) => {
            tracing::info!(replica_id = %order.replica, node_id = %order.node, deployment = %order.deployment,
                revision = order.revision, "starting a replica");
        }
        Command::Update(order) => {
            tracing::info!(replica_id = %order.replica, revision = order.revision, "telling a replica new settings");
        }
        Command::Retire { replica, reason, .. } => {
            tracing::info!(replica_id = %replica, %reason, "taking a replica out of the routes");
        }
        Command::Stop { replica, reason, .. } => {
            tracing::info!(replica_id = %replica, %reason, "stopping a replica");
        }
        Command::GiveUp { node } => {
            tracing::warn!(node_id = %node, "node is lost; its replicas are placed elsewhere");
        }
        Command::Alarm { raised: true } => {
            tracing::error!(
                "half of the nodes look dead at once; replicas are not replaced until they come back"
            );
        }
        Command::Alarm { raised: false } => tracing::info!("enough nodes are back"),
        Command::Scale(scale) => {
            let Scale { deployment, from, to, rule, inputs, .. } = &**scale;
            let (ongoing, queued, ready) = (inputs.ongoing, inputs.queued, inputs.ready);
            tracing::info!(%deployment, from, to, %rule, ongoing, queued, ready, "scaling");
        }
        Command::Settle
        | Command::ForgetNode { .. }
        | Command::ForgetIngress { .. }
        | Command::ForgetPipeline { .. } => {}
    }
}
