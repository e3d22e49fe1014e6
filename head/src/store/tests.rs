//! The conformance suite on the embedded store behind what stands above it, and on one that breaks.

use std::sync::Arc;

use super::conformance::Excuse;
use super::embedded::EmbeddedStore;
use super::faulty::{Fault, Faulty};
use super::timed::Timed;
use super::*;

/// A deadline that a healthy store keeps on a busy machine.
const PATIENT: Duration = Duration::from_secs(20);

fn embedded() -> (Arc<EmbeddedStore>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Arc::new(EmbeddedStore::open(dir.path()).unwrap()), dir)
}

/// A store that `me` may write to as long as it leads.
async fn fenced(store: Arc<dyn Store>) -> Fenced {
    let version = store.commit(Write::put("leader", Expected::Absent, "me").into()).await.unwrap();
    Fenced::new(store, Guard::new("leader", Expected::Version(version)))
}

#[tokio::test]
async fn the_decorated_store_conforms() {
    conformance::run(&[], async || {
        let (store, dir) = embedded();
        (fenced(Arc::new(Timed::new(store, PATIENT))).await, dir)
    })
    .await;
}

#[tokio::test]
async fn a_store_that_breaks_and_hangs_conforms_but_for_unknown_outcomes() {
    use Fault::{Hangs, Lost, None, Written, WrittenThenHangs};
    let cycle = [
        [None, Written, None, Lost, WrittenThenHangs],
        [Lost, None, Written, Lost, None],
        [None, Written, None, Written, Lost],
        [None, Hangs, None, Lost, Written],
    ]
    .concat();
    conformance::run(&[Excuse::UnknownCommits, Excuse::BrokenWatches], async || {
        let (store, dir) = embedded();
        let faulty = Faulty::with_cycle(store, cycle.clone());
        (Timed::new(Arc::new(faulty), Duration::from_millis(500)), dir)
    })
    .await;
}

#[tokio::test]
async fn a_head_that_leads_no_longer_writes_nothing() {
    let (store, _dir) = embedded();
    let mine = fenced(store.clone()).await;
    mine.commit(Write::put("a", Expected::Any, "1").into()).await.unwrap();
    store.commit(Write::put("leader", Expected::Any, "other").into()).await.unwrap();
    for write in [Write::put("a", Expected::Any, "2"), Write::delete("a", Expected::Any)] {
        assert_eq!(mine.commit(write.into()).await, Err(Error::NotLeading));
    }
    assert_eq!(mine.get("a").await.unwrap().map(|entry| entry.value), Some(b"1".to_vec()));
    store.commit(Write::delete("leader", Expected::Any).into()).await.unwrap();
    assert_eq!(mine.commit(Txn::default()).await, Err(Error::NotLeading));
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up_and_only_writes_have_an_unknown_outcome() {
    let (store, _dir) = embedded();
    let hanging = Arc::new(Faulty::new(store));
    hanging.hang();
    let store = Timed::new(hanging, Duration::from_millis(5));
    let late = "it did not answer within 5 ms".to_owned();
    let (unavailable, unknown) = (Error::Unavailable(late.clone()), Error::Unknown(late));
    assert_eq!(store.get("a").await.unwrap_err(), unavailable);
    assert_eq!(store.list(&["a"]).await.unwrap_err(), unavailable);
    assert_eq!(store.watch("a", 0).await.err(), Some(unavailable.clone()));
    assert_eq!(store.grant_lease(Duration::ZERO).await.unwrap_err(), unavailable);
    assert_eq!(store.keep_alive(LeaseId(1)).await.unwrap_err(), unavailable);
    assert_eq!(store.commit(Write::delete("a", Expected::Any).into()).await.unwrap_err(), unknown);
    assert_eq!(store.revoke(LeaseId(1)).await.unwrap_err(), unknown);
}
