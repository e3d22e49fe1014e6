//! What every store must do, as one function that each implementation's tests call. It panics with the name of the
//! rule that does not hold.

use std::time::Duration;

use super::{Change, Error, Expected, Store, Watch, WatchEvent, Write};

/// Longest wait for something that must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the whole suite, each part on a fresh, empty store; `make_store` gives one with whatever keeps it alive.
///
/// # Panics
/// When a rule does not hold.
pub async fn run<S: Store, G>(make_store: impl AsyncFn() -> (S, G)) {
    let (store, _guard) = make_store().await;
    reads_and_writes(&store).await;
    let (store, _guard) = make_store().await;
    commits_are_all_or_nothing(&store).await;
    let (store, _guard) = make_store().await;
    concurrent_creates_have_one_winner(&store).await;
    let (store, _guard) = make_store().await;
    watches(&store).await;
    let (store, _guard) = make_store().await;
    leases(&store).await;
}

async fn reads_and_writes(store: &impl Store) {
    assert_eq!(ok(store.get("a").await), None, "an empty store has no keys");
    let first = ok(store.commit(vec![Write::put("a", Expected::Absent, "1")]).await);
    let entry = ok(store.get("a").await).expect("a key that was written");
    assert_eq!(
        (entry.value.as_slice(), entry.version),
        (b"1".as_slice(), first),
        "value and version as written"
    );
    let second = ok(store.commit(vec![Write::put("a", Expected::Version(first), "2")]).await);
    assert!(second > first, "versions grow");
    let stale = store.commit(vec![Write::put("a", Expected::Version(first), "3")]).await;
    assert_eq!(stale, Err(Error::Conflict { key: "a".into() }), "a stale version is refused");
    let exists = store.commit(vec![Write::put("a", Expected::Absent, "3")]).await;
    assert_eq!(exists, Err(Error::Conflict { key: "a".into() }), "creating what exists is refused");
    ok(store.commit(vec![Write::put("ab", Expected::Any, "x"), Write::put("b/ü", Expected::Any, "y")]).await);
    let listing = ok(store.list("a").await);
    let keys: Vec<_> = listing.entries.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["a", "ab"], "a list has exactly the keys under its prefix, in order");
    assert!(listing.version >= second, "a list tells the store's version");
    assert_eq!(ok(store.list("").await).entries.len(), 3, "the empty prefix lists everything");
    ok(store.commit(vec![Write::delete("a", Expected::Version(second))]).await);
    assert_eq!(ok(store.get("a").await), None, "a deleted key is gone");
    let gone = store.commit(vec![Write::delete("a", Expected::Version(second))]).await;
    assert_eq!(gone, Err(Error::Conflict { key: "a".into() }), "deleting a version that is gone is refused");
    ok(store.commit(vec![Write::delete("a", Expected::Any)]).await);
    ok(store.commit(vec![Write::put("a", Expected::Absent, "again")]).await);
}

async fn commits_are_all_or_nothing(store: &impl Store) {
    let version = ok(store.commit(vec![Write::put("a", Expected::Absent, "1")]).await);
    let refused = store
        .commit(vec![
            Write::put("b", Expected::Absent, "1"),
            Write::put("a", Expected::Version(version + 1), "2"),
        ])
        .await;
    assert_eq!(refused, Err(Error::Conflict { key: "a".into() }));
    assert_eq!(ok(store.get("b").await), None, "a refused commit writes nothing");
    let both = ok(store
        .commit(vec![
            Write::put("b", Expected::Absent, "1"),
            Write::put("a", Expected::Version(version), "2"),
        ])
        .await);
    for key in ["a", "b"] {
        let entry = ok(store.get(key).await).expect("a key that was written");
        assert_eq!(entry.version, both, "one commit, one version");
    }
}

async fn concurrent_creates_have_one_winner(store: &impl Store) {
    let attempts = (0..8)
        .map(|n: u8| store.commit(vec![Write::put("lock", Expected::Absent, vec![n])]))
        .collect::<Vec<_>>();
    let won = futures_util::future::join_all(attempts).await.into_iter().filter(Result::is_ok).count();
    assert_eq!(won, 1, "exactly one of many creators wins");
}

async fn watches(store: &impl Store) {
    let before = ok(store.list("").await).version;
    let first = ok(store.commit(vec![Write::put("p/a", Expected::Absent, "1")]).await);
    let mut all = ok(store.watch("p/", before).await);
    assert_eq!(next(&mut all).await, changed(first, "p/a", Some("1")), "a watch resumes from a version");
    let mut later = ok(store.watch("p/", first).await);
    ok(store.commit(vec![Write::put("q/other", Expected::Absent, "1")]).await);
    let second = ok(store.commit(vec![Write::put("p/a", Expected::Version(first), "2")]).await);
    let third = ok(store.commit(vec![Write::delete("p/a", Expected::Any)]).await);
    for watch in [&mut all, &mut later] {
        assert_eq!(next(watch).await, changed(second, "p/a", Some("2")), "only the prefix, in order");
        assert_eq!(next(watch).await, changed(third, "p/a", None), "a deletion is seen");
    }
    let refused = store.commit(vec![Write::put("p/b", Expected::Version(first), "x")]).await;
    assert!(refused.is_err());
    let fourth = ok(store.commit(vec![Write::put("p/c", Expected::Absent, "3")]).await);
    assert_eq!(next(&mut all).await, changed(fourth, "p/c", Some("3")), "a refused commit is not seen");
}

async fn leases(store: &impl Store) {
    let long = ok(store.grant_lease(Duration::from_secs(600)).await);
    let short = ok(store.grant_lease(Duration::from_secs(2)).await);
    let version = ok(store
        .commit(vec![
            Write::put("leased/long", Expected::Absent, "1").with_lease(long),
            Write::put("leased/short", Expected::Absent, "1").with_lease(short),
            Write::put("free", Expected::Absent, "1"),
        ])
        .await);
    let mut watch = ok(store.watch("leased/", version).await);
    ok(store.keep_alive(short).await);
    let WatchEvent::Changed { changes, .. } = next(&mut watch).await else { panic!("expected a change") };
    let gone = vec![Change { key: "leased/short".into(), value: None }];
    assert_eq!(changes, gone, "a lease that nobody renews ends and takes its keys along");
    assert_eq!(
        store.keep_alive(short).await,
        Err(Error::LeaseEnded(short)),
        "an ended lease cannot be renewed"
    );
    let late = store.commit(vec![Write::put("leased/late", Expected::Any, "1").with_lease(short)]).await;
    assert_eq!(late, Err(Error::LeaseEnded(short)), "an ended lease takes no keys");
    ok(store.keep_alive(long).await);
    ok(store.revoke(long).await);
    assert_eq!(ok(store.get("leased/long").await), None, "revoking a lease deletes its keys");
    assert!(ok(store.get("free").await).is_some(), "other keys stay");
}

fn changed(version: u64, key: &str, value: Option<&str>) -> WatchEvent {
    let value = value.map(|value| value.as_bytes().to_vec());
    WatchEvent::Changed { version, changes: vec![Change { key: key.into(), value }] }
}

async fn next(watch: &mut Watch) -> WatchEvent {
    let event = tokio::time::timeout(PATIENCE, watch.next()).await;
    event.expect("a watch event came in time").expect("the watch goes on")
}

fn ok<T>(result: Result<T, Error>) -> T {
    result.expect("the store does what it is asked")
}
