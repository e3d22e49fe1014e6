//! Rules about leases: how long they last, which keys they take along.

use std::time::Duration;

use super::{Subject, ok};
use crate::clock;
use crate::store::{Change, Error, Expected, Lease, Store, WatchEvent, Write};

/// A lease that nobody need wait for the end of.
const LONG: Duration = Duration::from_secs(600);

async fn grant(subject: &Subject<'_, impl Store>, ttl: Duration) -> Lease {
    let lease = ok(subject.store.grant_lease(ttl).await);
    assert!(!lease.ttl.is_zero(), "a lease is granted for a time");
    lease
}

pub(super) async fn ends(subject: &Subject<'_, impl Store>) {
    let start = clock::instant();
    let short = grant(subject, Duration::from_secs(2)).await;
    let version = subject
        .commit(vec![
            Write::put("suite/leased/short", Expected::Absent, "1").with_lease(short.id),
            Write::put("suite/free", Expected::Absent, "1"),
        ])
        .await;
    let mut follower = subject.follow("suite/leased/", version).await;
    tokio::time::sleep_until(start + short.ttl / 2).await;
    let renewed = clock::instant();
    let left = ok(subject.store.keep_alive(short.id).await);
    assert!(left > short.ttl / 2 && left <= short.ttl, "keeping alive gives the whole time again: {left:?}");
    let held_until = renewed + left;
    tokio::time::sleep_until(start + short.ttl + short.ttl / 4).await;
    let there = subject.get("suite/leased/short").await.is_some();
    // An answer that comes too late says nothing.
    assert!(there || clock::instant() >= held_until, "a lease lasts as long as its holder was told");
    let WatchEvent::Changed { changes, .. } = follower.next().await else { panic!("expected a change") };
    assert!(clock::instant() >= held_until, "the holder stops believing before the lease ends");
    let gone = vec![Change { key: "suite/leased/short".into(), value: None }];
    assert_eq!(changes, gone, "a lease that nobody renews ends and takes its keys along");
    let ended = Error::LeaseEnded(short.id);
    assert_eq!(
        subject.store.keep_alive(short.id).await,
        Err(ended.clone()),
        "an ended lease cannot be renewed"
    );
    let late = Write::put("suite/leased/late", Expected::Any, "1").with_lease(short.id);
    assert_eq!(subject.try_commit(late).await, Err(ended), "an ended lease takes no keys");
    assert_eq!(subject.get("suite/leased/late").await, None);
    assert!(subject.get("suite/free").await.is_some(), "other keys stay");
}

pub(super) async fn bindings(subject: &Subject<'_, impl Store>) {
    let (one, other) = (grant(subject, LONG).await, grant(subject, LONG).await);
    assert_ne!(one.id, other.id);
    let leased = |key: &str, lease: Lease| Write::put(key, Expected::Any, "1").with_lease(lease.id);
    subject
        .commit(vec![
            leased("suite/kept", one),
            leased("suite/moved", one),
            leased("suite/freed", one),
            leased("suite/remade", one),
        ])
        .await;
    subject.put(Write::delete("suite/remade", Expected::Any)).await;
    subject
        .commit(vec![
            leased("suite/moved", other),
            Write::put("suite/freed", Expected::Any, "2"),
            Write::put("suite/remade", Expected::Absent, "2"),
        ])
        .await;
    ok(subject.store.revoke(one.id).await);
    assert_eq!(subject.get("suite/kept").await, None, "revoking a lease deletes its keys");
    for key in ["suite/moved", "suite/freed", "suite/remade"] {
        assert!(
            subject.get(key).await.is_some(),
            "`{key}` was written again without that lease, so it stays"
        );
    }
    assert_eq!(
        subject.store.keep_alive(one.id).await,
        Err(Error::LeaseEnded(one.id)),
        "a revoked lease has ended, whatever its holder believes"
    );
    let ended =
        subject.try_commit(vec![Write::put("suite/x", Expected::Any, "1"), leased("suite/y", one)]).await;
    assert_eq!(ended, Err(Error::LeaseEnded(one.id)));
    assert_eq!(subject.get("suite/x").await, None, "a lease that has ended lets nothing be written");
    ok(subject.store.revoke(other.id).await);
    assert_eq!(subject.get("suite/moved").await, None, "a key belongs to the lease it was written with last");
    assert!(subject.get("suite/freed").await.is_some());
}
