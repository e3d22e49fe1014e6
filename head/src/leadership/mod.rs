//! Who leads. Of several heads on one store one leads at a time; all that it knows and does as the leader lives in its
//! [`Term`], which is made by winning the election and dropped by losing it. On the embedded store the one head there is
//! wins at once.
//!
//! ```text
//! Campaign      for as long as the process lives: wins, follows whoever won, tries again
//! └─ Term       from a won election to its loss: fenced store, catalog, events, reconciler, sessions
//! ```

mod campaign;
pub(crate) mod context;
pub(crate) mod election;
pub(crate) mod roll;
mod term;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub(crate) use campaign::Campaign;
pub(crate) use roll::{HEADS, Reach, Roll};
pub(crate) use term::{Restarting, Term};

/// How long whoever follows the cluster waits for the next term.
const NEXT_TERM_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether this head leads.
#[derive(Clone)]
pub(crate) enum Standing {
    /// It does.
    Leading(Arc<Term>),
    /// Another one does, on this control address.
    Following(String),
    /// Nobody known does; why this head does not, where that is known.
    Vacant(Option<String>),
}

/// This head does not lead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", match (leader, reason) {
    (Some(leader), _) => format!("not_leader: this head does not lead the cluster; ask the one on {leader}"),
    (None, Some(reason)) => reason.clone(),
    (None, None) => "not_leader: no head leads the cluster just now; retry in a second".to_owned(),
})]
pub(crate) struct NotLeading {
    /// HOST:PORT of the head that does, as far as is known.
    pub(crate) leader: Option<String>,
    /// Why none does.
    pub(crate) reason: Option<String>,
}

/// Asks whether this head leads; clones ask the same campaign.
#[derive(Clone)]
pub(crate) struct Leadership(watch::Receiver<Standing>);

impl Leadership {
    /// The term, for what only the leader can do.
    pub(crate) fn term(&self) -> Result<Arc<Term>, NotLeading> {
        match &*self.0.borrow() {
            Standing::Leading(term) => Ok(Arc::clone(term)),
            Standing::Following(leader) => Err(NotLeading { leader: Some(leader.clone()), reason: None }),
            Standing::Vacant(reason) => Err(NotLeading { leader: None, reason: reason.clone() }),
        }
    }

    /// The term after one that is over; not leading when another head wins, or none does for a while.
    pub(crate) async fn next_term(&self) -> Result<Arc<Term>, NotLeading> {
        let mut standing = self.0.clone();
        let is_known = |standing: &Standing| match standing {
            Standing::Leading(term) => !term.over.is_cancelled(),
            Standing::Following(_) => true,
            Standing::Vacant(_) => false,
        };
        let _ = tokio::time::timeout(NEXT_TERM_TIMEOUT, standing.wait_for(is_known)).await;
        self.term()
    }
}
