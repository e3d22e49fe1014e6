//! Keeps a reconciler running. A reconciler that dies has lost what it observed, as if the head had been restarted: its
//! successor begins a new term and learns from the workers, whose streams ended with it, what runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_core::reconcile::{Reconciler, Start};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::reconciler_actor::ReconcilerActor;
use crate::leader::{self, Term};
use crate::members;
use crate::shared::Shared;

/// First wait before a restart; doubles to [`MAX_BACKOFF`].
const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(10);
/// A reconciler that ran for so long was well: the next restart is the first one again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// How long to wait before restart number `restarts`.
fn backoff(restarts: u32) -> Duration {
    MIN_BACKOFF.saturating_mul(1 << restarts.min(16)).min(MAX_BACKOFF)
}

/// Supervises the reconciler.
pub(crate) struct HeadActor {
    pub(crate) shared: Arc<Shared>,
}

/// What the head actor is asked.
#[derive(Debug)]
pub(crate) enum HeadMsg {
    /// From itself: start a reconciler in a new term. May be sent twice.
    Restart,
}

/// How often the reconciler was restarted in a row, and when it was started last.
#[derive(Debug, Default)]
pub(crate) struct HeadState {
    restarts: u32,
    started_at: Duration,
}

impl HeadState {
    /// How long to wait before the next restart, of a reconciler that has just ended.
    fn next_wait(&mut self, now: Duration) -> Duration {
        if now.saturating_sub(self.started_at) >= HEALTHY_AFTER {
            self.restarts = 0;
        }
        let wait = backoff(self.restarts);
        self.restarts += 1;
        wait
    }
}

impl Actor for HeadActor {
    type Msg = HeadMsg;
    type State = HeadState;
    type Arguments = Term;

    async fn pre_start(
        &self,
        myself: ActorRef<HeadMsg>,
        term: Term,
    ) -> Result<HeadState, ActorProcessingErr> {
        self.start_reconciler(&myself, term).await?;
        Ok(HeadState { restarts: 0, started_at: self.shared.clock.now() })
    }

    async fn handle(
        &self,
        myself: ActorRef<HeadMsg>,
        HeadMsg::Restart: HeadMsg,
        state: &mut HeadState,
    ) -> Result<(), ActorProcessingErr> {
        let started = match leader::begin_term(&self.shared.store, self.shared.epoch()).await {
            Ok(term) => self.start_reconciler(&myself, term).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match started {
            Ok(()) => state.started_at = self.shared.clock.now(),
            Err(error) => {
                tracing::error!(%error, "the reconciler could not be restarted; trying again");
                self.restart_later(&myself, state);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<HeadMsg>,
        event: SupervisionEvent,
        state: &mut HeadState,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(_, error) => {
                tracing::error!(%error, "the reconciler died and is restarted");
                self.shared.reconciler.store(None);
                self.restart_later(&myself, state);
            }
            SupervisionEvent::ActorTerminated(..) if !self.shared.closing.is_cancelled() => {
                self.shared.reconciler.store(None);
                self.restart_later(&myself, state);
            }
            _ => {}
        }
        Ok(())
    }
}

impl HeadActor {
    async fn start_reconciler(
        &self,
        myself: &ActorRef<HeadMsg>,
        term: Term,
    ) -> Result<(), ActorProcessingErr> {
        let shared = &self.shared;
        shared.epoch.store(term.epoch, Ordering::Release);
        let desired = shared.catalog.desired();
        let settle = if desired.pipelines.is_empty() {
            Duration::ZERO
        } else {
            term.inherits.settle(shared.timing.settle)
        };
        let settle_until = if settle.is_zero() { settle } else { shared.clock.now() + settle };
        // Ingresses of the term before join again.
        shared.feed.send_modify(|feed| {
            feed.epoch = term.epoch;
            feed.table = None;
        });
        let awaited = match members::list(&shared.store).await {
            Ok(members) => members.into_keys().collect(),
            Err(error) => {
                tracing::warn!(%error, "which nodes there were is not known; waiting the full time for them");
                BTreeSet::new()
            }
        };
        let began_at = shared.clock.now();
        let start = Start { epoch: term.epoch, settle_until, began_at, members: awaited };
        let reconciler = Reconciler::new(start, desired, shared.timing.clone());
        let actor = ReconcilerActor { shared: Arc::clone(shared) };
        let (reconciler, _) =
            ReconcilerActor::spawn_linked(None, actor, reconciler, myself.get_cell()).await?;
        shared.reconciler.store(Some(Arc::new(reconciler)));
        Ok(())
    }

    fn restart_later(&self, myself: &ActorRef<HeadMsg>, state: &mut HeadState) {
        let wait = state.next_wait(self.shared.clock.now());
        myself.send_after(wait, || HeadMsg::Restart);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_healthy_minute_makes_the_next_restart_the_first() {
        let second = Duration::from_secs;
        let mut state = HeadState::default();
        for now in 0..20 {
            state.next_wait(second(now));
        }
        assert_eq!(state.next_wait(second(59)), MAX_BACKOFF);
        assert_eq!(state.next_wait(second(60)), MIN_BACKOFF);
    }

    #[test]
    fn restarts_back_off_to_a_limit() {
        let waits: Vec<_> = [0, 1, 2, 6, 7, 40].map(|n| backoff(n).as_millis()).into();
        assert_eq!(waits, [100, 200, 400, 6_400, 10_000, 10_000]);
    }
}
