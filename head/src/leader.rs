//! The leader's term (epoch): a number in the store that grows with each head that comes to lead. Workers refuse
//! commands of an older term, so two heads never both command. On the embedded store the one head there is leads.

use std::time::Duration;

use crate::store::{Entry, Error, Expected, Store, Write};

/// The term's key.
const EPOCH: &str = "epoch";
/// There while no replica runs: left by a head that stopped after all workers had.
const QUIET: &str = "quiet";
/// How often a change of the term is tried when somebody else gets in between.
const MAX_ATTEMPTS: usize = 8;

/// A term that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    /// Its number.
    pub(crate) epoch: u64,
    /// Whether replicas of the term before may still run.
    pub(crate) inherits: Inherits,
}

/// What a term may find running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inherits {
    /// Nothing: the head before stopped after everything else had.
    Nothing,
    /// Replicas that workers will report when they dial again.
    Replicas,
}

impl Inherits {
    /// How long to wait for reports.
    pub(crate) fn settle(self, settle: Duration) -> Duration {
        match self {
            Self::Nothing => Duration::ZERO,
            Self::Replicas => settle,
        }
    }
}

/// Begins a new term, above the last one and above `floor`.
pub(crate) async fn begin_term(store: &dyn Store, floor: u64) -> Result<Term, Error> {
    for _ in 1..MAX_ATTEMPTS {
        match try_begin(store, floor).await {
            Err(Error::Conflict { .. }) => {}
            outcome => return outcome,
        }
    }
    try_begin(store, floor).await
}

async fn try_begin(store: &dyn Store, floor: u64) -> Result<Term, Error> {
    let entry = store.get(EPOCH).await?;
    let quiet = store.get(QUIET).await?.is_some();
    let inherits = if entry.is_none() || quiet { Inherits::Nothing } else { Inherits::Replicas };
    let epoch = entry.as_ref().map_or(0, number).max(floor) + 1;
    let expected = entry.map_or(Expected::Absent, |entry| Expected::Version(entry.version));
    let writes = vec![Write::put(EPOCH, expected, epoch.to_string()), Write::delete(QUIET, Expected::Any)];
    store.commit(writes).await?;
    Ok(Term { epoch, inherits })
}

/// Notes that nothing runs any more, so that the next head need not wait for reports.
pub(crate) async fn note_quiet(store: &dyn Store) -> Result<(), Error> {
    store.commit(vec![Write::put(QUIET, Expected::Any, "")]).await.map(drop)
}

fn number(entry: &Entry) -> u64 {
    std::str::from_utf8(&entry.value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::EmbeddedStore;

    #[tokio::test]
    async fn terms_grow_and_know_whether_something_may_run() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path()).unwrap();
        let term = |epoch, inherits| Term { epoch, inherits };
        assert_eq!(begin_term(&store, 0).await, Ok(term(1, Inherits::Nothing)));
        assert_eq!(begin_term(&store, 0).await, Ok(term(2, Inherits::Replicas)));
        note_quiet(&store).await.unwrap();
        assert_eq!(begin_term(&store, 0).await, Ok(term(3, Inherits::Nothing)));
        assert_eq!(begin_term(&store, 40).await, Ok(term(41, Inherits::Replicas)));
    }
}
