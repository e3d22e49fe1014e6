//! Equal calls at the same time: one of them is made, the others wait for its answer. When it fails, or whoever made it
//! leaves, exactly one of those that wait makes it again.
//!
//! Each flight is a [`OnceCell`]: its waiters stand in line, a turn that is not used goes to the next one, and a value
//! that is set lets all of them go. A flight is in the table while somebody is on it and it has no value.

use std::collections::HashMap;
use std::sync::Arc;

use millstream_proto::Value;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::fingerprint::Fingerprint;

type Cell = Arc<OnceCell<Value>>;

/// The calls under way. Its lock is held for a look-up, never across an await.
#[derive(Default)]
pub(crate) struct SingleFlight {
    open: Mutex<HashMap<Fingerprint, Cell>>,
}

impl SingleFlight {
    /// Joins the calls that are equal to this one, or is the first of them.
    pub(crate) fn join(&self, fingerprint: Fingerprint) -> Flight<'_> {
        let cell = self.open.lock().entry(fingerprint).or_default().clone();
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
    /// The answer of whoever is before us, else that of `work`, which is run when it is our turn.
    ///
    /// # Errors
    /// That of `work`; those of others end only their own wait.
    pub(crate) async fn answer<E, F>(self, work: impl FnOnce() -> F) -> Result<Value, E>
    where
        F: Future<Output = Result<Value, E>>,
    {
        match &self.cell {
            Some(cell) => cell.get_or_try_init(work).await.cloned(),
            None => work().await,
        }
    }
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
