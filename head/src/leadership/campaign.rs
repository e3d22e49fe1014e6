//! One head's campaign, for as long as its process lives: leads when it can, follows whoever leads, and tries again when a
//! term is over. A reconciler that dies has lost what it observed, as if the head had been restarted: that ends its term.

use std::sync::Arc;
use std::time::Duration;

use millstream_connect::{Backoff, Retries};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::election::{self, Candidate, Outcome};
use super::term::{BeginError, End, Leading};
use super::{Leadership, Standing};
use crate::host::Host;
use crate::random;
use crate::store::Version;

/// Waits before another try.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(10) };
/// A term that lasted so long was well: the next failure is the first one again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// How long a head that has stepped down lets others lead before it would again.
const STEP_DOWN_PAUSE: Duration = Duration::from_secs(3);

/// Why there is no term.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The election failed.
    #[error(transparent)]
    Election(#[from] election::Error),
    /// The election was won, and the term did not begin.
    #[error(transparent)]
    Begin(#[from] BeginError),
}

/// What a try came to.
pub(crate) enum Attempt {
    /// This head leads.
    Leading(Box<Leading>),
    /// Another one leads; the store's version when it was seen.
    Following(Version),
}

/// See the module.
pub(crate) struct Campaign {
    host: Arc<Host>,
    candidate: Candidate,
    standing: watch::Sender<Standing>,
    /// Cancelled once this head is to lead no more.
    retired: CancellationToken,
}

impl Campaign {
    /// A head that does not lead yet.
    pub(crate) fn new(host: Arc<Host>, candidate: Candidate) -> Self {
        let (standing, retired) = (watch::Sender::new(Standing::Vacant(None)), CancellationToken::new());
        Self { host, candidate, standing, retired }
    }

    /// Who leads, now and later.
    pub(crate) fn leadership(&self) -> Leadership {
        Leadership(self.standing.subscribe())
    }

    /// Cancelled, it ends the campaign once the term under way is over.
    pub(crate) fn retired(&self) -> CancellationToken {
        self.retired.clone()
    }

    /// Tries to lead in a term above `floor`.
    pub(crate) async fn attempt(&self, floor: u64) -> Result<Attempt, Error> {
        match self.candidate.win(floor).await? {
            Outcome::Won(won) => {
                let leading = Leading::begin(&self.host, won).await?;
                tracing::info!(epoch = leading.term().epoch, "head leads");
                self.standing.send_replace(Standing::Leading(Arc::clone(leading.term())));
                Ok(Attempt::Leading(Box::new(leading)))
            }
            Outcome::Follows(leader, seen_at) => {
                self.note_leader(leader.address);
                Ok(Attempt::Following(seen_at))
            }
        }
    }

    /// Goes on from a first attempt until the head closes.
    pub(crate) async fn run(self, first: Attempt) {
        let mut attempt: Result<_, Error> = Ok(first);
        let mut retries = Retries::new(BACKOFF, HEALTHY_AFTER);
        let mut floor = 0;
        loop {
            let began_at = self.host.clock.now();
            let wait = match attempt {
                Ok(Attempt::Leading(leading)) => match self.lead(*leading).await {
                    End::Closing => return,
                    End::LeaseLost => Duration::ZERO,
                    End::SteppedDown => {
                        self.candidate.give_way(STEP_DOWN_PAUSE).await;
                        Duration::ZERO
                    }
                    End::ReconcilerDied => {
                        retries.next_wait(self.host.clock.now() - began_at, &mut random::rng())
                    }
                    End::Exceeded(obeyed) => {
                        floor = obeyed;
                        Duration::ZERO
                    }
                },
                Ok(Attempt::Following(seen_at)) => {
                    tokio::select! {
                        () = self.host.closing.cancelled() => return,
                        () = self.retired.cancelled() => Duration::ZERO,
                        () = self.candidate.until_vacant(seen_at) => Duration::ZERO,
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "no term begins; trying again");
                    self.standing.send_replace(Standing::Vacant(Some(error.to_string())));
                    retries.next_wait(Duration::ZERO, &mut random::rng())
                }
            };
            tokio::select! {
                () = self.host.closing.cancelled() => return,
                () = self.retired.cancelled() => return self.retire().await,
                () = tokio::time::sleep(wait) => {}
            }
            attempt = self.attempt(floor).await;
        }
    }

    /// Points at the head that leads until this one closes.
    async fn retire(&self) {
        if let Ok(Some(leader)) = self.candidate.leader().await {
            self.note_leader(leader.address);
        }
        self.host.closing.cancelled().await;
    }

    async fn lead(&self, mut leading: Leading) -> End {
        let end = leading.until_over().await;
        self.standing.send_replace(Standing::Vacant(None));
        match end {
            End::LeaseLost => {
                tracing::error!("the lease ended before it was renewed; this head leads no longer")
            }
            End::ReconcilerDied => tracing::error!("the reconciler died; a new term begins"),
            End::SteppedDown => tracing::info!("this head gives way to another one"),
            End::Closing | End::Exceeded(_) => {}
        }
        leading.end().await;
        end
    }

    /// Another head leads; one of another version may not say where.
    fn note_leader(&self, address: String) {
        self.standing.send_if_modified(|standing| {
            let is_new = !matches!(standing, Standing::Following(known) if *known == address);
            if is_new {
                tracing::info!(leader = address, "another head leads");
                *standing =
                    if address.is_empty() { Standing::Vacant(None) } else { Standing::Following(address) };
            }
            is_new
        });
    }
}
