//! The cluster as a whole: how it is, now and at each change, what was decided, what could be moved, and its end.

use std::sync::Arc;
use std::time::Duration;

use millstream_core::present::snapshot::Version;
use millstream_proto::defrag::DefragPlan;
use millstream_proto::event::Event;
use millstream_proto::head::HeadStatus;
use tokio::sync::watch;

use super::Error;
use crate::actors::messages::ReconcilerMsg;
use crate::leadership::{Leadership, Roll, Term};
use crate::snapshots::Shown;
use crate::state_file::State;

/// Longest drain that a shutdown may ask for.
const MAX_DRAIN: Duration = Duration::from_secs(3600);

/// What was decided lately about a target, the oldest first.
pub(crate) fn explain(term: &Term, target: &str, since_ms: u64) -> Vec<Arc<Event>> {
    term.events.about(target, since_ms)
}

/// The moves that would make whole GPUs free.
pub(crate) async fn plan_defrag(term: &Term) -> Result<DefragPlan, Error> {
    let shown = term.snapshot().await?;
    // It may be long on a large cluster.
    let plan = tokio::task::spawn_blocking(move || shown.snapshot().defrag_plan());
    plan.await.map_err(|_| Error::Internal("finding the moves failed"))
}

/// The heads of the cluster.
pub(crate) async fn heads(roll: &Roll) -> Result<Vec<HeadStatus>, Error> {
    Ok(roll.list().await?)
}

/// All that people asked for, as a file.
pub(crate) async fn export_state(term: &Term) -> Result<String, Error> {
    let state = State::take(term.store.as_ref()).await?;
    Ok(state.to_text())
}

/// Lets another head lead, if there is one.
pub(crate) async fn step_down(term: &Term, roll: &Roll) -> Result<(), Error> {
    if heads(roll).await?.iter().all(|head| head.leads) {
        return Err(Error::Alone);
    }
    term.step_down();
    Ok(())
}

/// Tells every ingress and worker to drain and end, then the head.
pub(crate) async fn shut_down(term: &Term, drain: Duration) -> Result<(), Error> {
    let drain = drain.min(MAX_DRAIN);
    term.ask(|reply| ReconcilerMsg::Shutdown(drain, reply)).await?;
    term.host.stop.send_replace(Some(drain));
    Ok(())
}

/// Follows the cluster from one change to the next, also from one term to the next.
pub(crate) struct StatusWatch {
    leadership: Leadership,
    following: Option<Following>,
}

/// What is followed within a term.
struct Following {
    term: Arc<Term>,
    versions: watch::Receiver<Version>,
    /// What was shown last.
    shown: Option<Version>,
}

impl StatusWatch {
    /// Nothing is seen yet.
    pub(crate) fn new(leadership: Leadership) -> Self {
        Self { leadership, following: None }
    }

    /// The cluster now, the first time; then once it is another, not more often than the status interval says. `None`
    /// when the head closes.
    pub(crate) async fn next(&mut self) -> Option<Result<Arc<Shown>, Error>> {
        loop {
            let mut following = match self.following.take() {
                Some(following) if !following.term.over.is_cancelled() => following,
                Some(following) if following.term.host.closing.is_cancelled() => return None,
                before => {
                    let term = match before {
                        None => self.leadership.term(),
                        Some(_) => self.leadership.next_term().await,
                    };
                    match term {
                        Ok(term) => Following::of(term),
                        Err(error) => return Some(Err(error.into())),
                    }
                }
            };
            let shown = following.next().await;
            self.following = Some(following);
            if let Some(shown) = shown {
                return Some(Ok(shown));
            }
        }
    }
}

impl Following {
    fn of(term: Arc<Term>) -> Self {
        let versions = term.snapshots.versions();
        Self { term, versions, shown: None }
    }

    /// What is new; `None` when the term is over.
    async fn next(&mut self) -> Option<Arc<Shown>> {
        loop {
            if self.shown.is_some() {
                tokio::select! {
                    () = self.term.over.cancelled() => return None,
                    changed = self.versions.changed() => changed.ok()?,
                }
            }
            let version = *self.versions.borrow_and_update();
            let snapshot = match self.shown {
                Some(_) => self.term.snapshot_of(version).await,
                None => self.term.snapshot().await,
            };
            match snapshot {
                Ok(shown) if self.shown == Some(shown.snapshot().version) => {}
                Ok(shown) => {
                    self.shown = Some(shown.snapshot().version);
                    return Some(shown);
                }
                // Asked again, unless the term is over.
                Err(_) => tokio::select! {
                    () = self.term.over.cancelled() => return None,
                    () = tokio::time::sleep(self.term.host.timing.status_interval) => self.versions.mark_changed(),
                },
            }
        }
    }
}
