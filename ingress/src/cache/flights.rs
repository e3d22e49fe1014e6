//! Equal calls at the same time: one of them is made, the others wait for its outcome and share it, a failure too: a model that
//! fails after a second would otherwise keep a hundred of them for a hundred seconds. When whoever made the call leaves, or it
//! ends before it began (no room, no time left), exactly one of those that wait makes it again.
//!
//! Each flight is a [`OnceCell`]: its waiters stand in line, a turn that is not used goes to the next one, and an outcome
//! that is set lets all of them go. A flight is in the table while somebody is on it and it has no outcome.

use std::collections::HashMap;
use std::sync::Arc;

use millstream_proto::{CallError, ErrorClass, Started, Value};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::cache::fingerprint::Fingerprint;

type Cell = Arc<OnceCell<Result<Value, CallError>>>;

/// The calls under way. Its lock is held for a look-up, never across an await.
#[derive(Default)]
pub(crate) struct SingleFlight {
    open: Mutex<HashMap<Fingerprint, Cell>>,
}

impl SingleFlight {
    /// Joins the calls that are equal to this one, or is the first of them.
    pub(crate) fn join(&self, fingerprint: Fingerprint) -> Flight<'_> {
        let mut open = self.open.lock();
        let there = open.entry(fingerprint).or_default();
        // A failure is shared with those that were there before it, and with nobody else.
        if there.get().is_some_and(Result::is_err) {
            *there = Cell::default();
        }
        let cell = there.clone();
        drop(open);
        Flight { flights: self, fingerprint, cell: Some(cell) }
    }

    #[cfg(test)]
    pub(crate) fn num_open(&self) -> usize {
        self.open.lock().len()
    }
}

/// A place among equal calls, left when dropped.
pub(crate) struct Flight<'a> {
    flights: &'a SingleFlight,
    fingerprint: Fingerprint,
    /// There until the drop.
    cell: Option<Cell>,
}

impl Flight<'_> {
    /// The outcome of whoever is before us, else that of `work`, which is run when it is our turn.
    ///
    /// # Errors
    /// That of `work`, ours or theirs.
    pub(crate) async fn answer<F>(self, work: impl FnOnce() -> F) -> Result<Value, CallError>
    where
        F: Future<Output = Result<Value, CallError>>,
    {
        let Some(cell) = &self.cell else { return work().await };
        let work = || async {
            match work().await {
                Err(error) if !is_shared(&error) => Err(error),
                outcome => Ok(outcome),
            }
        };
        cell.get_or_try_init(work).await?.clone()
    }
}

/// Whether a failure would be that of every equal call: not one of the caller's own time or place in a queue.
fn is_shared(error: &CallError) -> bool {
    let own = matches!(error.class, ErrorClass::DeadlineExceeded | ErrorClass::Cancelled);
    error.started != Started::No && !own
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let Some(cell) = self.cell.take() else { return };
        let mut open = self.flights.open.lock();
        if !open.get(&self.fingerprint).is_some_and(|there| Arc::ptr_eq(there, &cell)) {
            return;
        }
        // Places are taken and left under the lock, so the count is that of the others, ours and the table's.
        let over = cell.initialized() || Arc::strong_count(&cell) == 2;
        let removed = if over { open.remove(&self.fingerprint) } else { None };
        drop(cell);
        drop(open);
        drop(removed);
    }
}
