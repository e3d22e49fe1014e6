//! Rules about reading and about commits: expectations, guards, limits.

use super::{Excuse, Subject, keys, ok};
use crate::store::{
    Error, Expected, Guard, MAX_TXN_BYTES, MAX_TXN_OPERATIONS, OPERATION_BYTES, Store, Txn, Write,
};

fn conflict<T>(key: &str) -> Result<T, Error> {
    Err(Error::Conflict { key: key.into() })
}

pub(super) async fn reads_and_writes(subject: &Subject<'_, impl Store>) {
    assert_eq!(subject.get("suite/a").await, None, "an empty store has no keys");
    let first = subject.put(Write::put("suite/a", Expected::Absent, "1")).await;
    let entry = subject.get("suite/a").await.expect("a key that was written");
    assert_eq!((entry.value.as_slice(), entry.version), (&b"1"[..], first), "value and version as written");
    let second = subject.put(Write::put("suite/a", Expected::Version(first), "2")).await;
    assert!(second > first, "versions grow");
    let stale = subject.try_commit(Write::put("suite/a", Expected::Version(first), "3")).await;
    assert_eq!(stale, conflict("suite/a"), "a stale version is refused");
    let exists = subject.try_commit(Write::put("suite/a", Expected::Absent, "3")).await;
    assert_eq!(exists, conflict("suite/a"), "creating what exists is refused");
    let more =
        vec![Write::put("suite/ab", Expected::Any, "x"), Write::put("suite/b/ü", Expected::Any, Vec::new())];
    subject.commit(more).await;
    let listing = subject.list("suite/a").await;
    assert_eq!(keys(&listing), ["a", "ab"], "a list has exactly the keys under its prefix, in order");
    assert!(listing.version > second, "a list tells the store's version");
    let all = subject.list("").await;
    assert_eq!(keys(&all), ["a", "ab", "b/ü"], "the empty prefix lists everything");
    assert_eq!(all.get("suite/b/ü").map(|entry| entry.value.len()), Some(0), "a value may be empty");
    subject.put(Write::delete("suite/a", Expected::Version(second))).await;
    assert_eq!(subject.get("suite/a").await, None, "a deleted key is gone");
    let gone = subject.try_commit(Write::delete("suite/a", Expected::Version(second))).await;
    assert_eq!(gone, conflict("suite/a"), "deleting a version that is gone is refused");
    match subject.store.commit(Write::delete("suite/none", Expected::Any).into()).await {
        Err(Error::Unknown(_)) if subject.excuses(Excuse::UnknownCommits) => {}
        deleted => drop(ok(deleted)),
    }
    let again = subject.put(Write::put("suite/a", Expected::Absent, "again")).await;
    assert!(again > second, "a key that comes again has a new version");
}

pub(super) async fn several_prefixes_are_read_at_one_version(subject: &Subject<'_, impl Store>) {
    let both = |n: u32| {
        let put = |key| Write::put(key, Expected::Any, n.to_string());
        vec![put("suite/a/x"), put("suite/b/x"), put("suite/c/x")]
    };
    subject.commit(both(0)).await;
    let write = async {
        for n in 1..=20 {
            subject.commit(both(n)).await;
        }
    };
    let read = async {
        for _ in 0..20 {
            let listing = ok(subject.store.list(&["suite/c/", "suite/a/", "suite/a/x"]).await);
            assert_eq!(keys(&listing), ["a/x", "c/x"], "keys of all prefixes, by key, none twice");
            let values: Vec<_> = listing.entries.iter().map(|entry| (&entry.value, entry.version)).collect();
            assert_eq!(values[0], values[1], "prefixes are read at one version");
            assert!(listing.version >= values[0].1, "a list tells the version that it was read at");
        }
    };
    tokio::join!(write, read);
    assert!(ok(subject.store.list(&[]).await).entries.is_empty(), "no prefix, no keys");
}

pub(super) async fn all_or_nothing(subject: &Subject<'_, impl Store>) {
    let version = subject.put(Write::put("suite/a", Expected::Absent, "1")).await;
    let writes = |expected: u64| {
        vec![
            Write::put("suite/b", Expected::Absent, "1"),
            Write::put("suite/a", Expected::Version(expected), "2"),
        ]
    };
    assert_eq!(subject.try_commit(writes(version + 1)).await, conflict("suite/a"));
    assert_eq!(subject.get("suite/b").await, None, "a refused commit writes nothing");
    let both = subject.commit(writes(version)).await;
    for key in ["suite/a", "suite/b"] {
        let entry = subject.get(key).await.expect("a key that was written");
        assert_eq!(entry.version, both, "one commit, one version");
    }
}

pub(super) async fn guards(subject: &Subject<'_, impl Store>) {
    let guarded = subject.put(Write::put("suite/guard", Expected::Absent, "1")).await;
    let txn = |guards: Vec<Guard>, key: &str, expected| Txn {
        guards,
        writes: vec![Write::put(key, expected, "1")],
    };
    let holds = vec![
        Guard::new("suite/guard", Expected::Version(guarded)),
        Guard::new("suite/none", Expected::Absent),
    ];
    subject.commit(txn(holds, "suite/a", Expected::Absent)).await;
    let entry = subject.get("suite/guard").await.expect("the guard's key");
    assert_eq!((entry.value.as_slice(), entry.version), (&b"1"[..], guarded), "a guard writes nothing");
    for fails in [
        Guard::new("suite/guard", Expected::Version(guarded + 1)),
        Guard::new("suite/guard", Expected::Absent),
        Guard::new("suite/none", Expected::Version(guarded)),
    ] {
        let (key, holds) = (fails.key.clone(), Guard::new("suite/guard", Expected::Any));
        let refused = subject.try_commit(txn(vec![holds, fails], "suite/b", Expected::Absent)).await;
        assert_eq!(refused, conflict(&key), "a guard that fails is named");
        assert_eq!(subject.get("suite/b").await, None, "a guard that fails lets nothing be written");
    }
    let guard = Guard::new("suite/guard", Expected::Absent);
    let refused = subject.try_commit(txn(vec![guard], "suite/a", Expected::Absent)).await;
    assert_eq!(refused, conflict("suite/guard"), "guards come before writes");
    let own = Guard::new("suite/guard", Expected::Version(guarded));
    subject.commit(txn(vec![own.clone()], "suite/guard", Expected::Any)).await;
    let refused = subject.try_commit(txn(vec![own], "suite/b", Expected::Any)).await;
    assert_eq!(refused, conflict("suite/guard"), "a guard fails once its key was written again");
}

pub(super) async fn limits(subject: &Subject<'_, impl Store>) {
    let puts = |count: usize| {
        let put = |n| Write::put(format!("suite/n/{n:03}"), Expected::Any, "1");
        (0..count).map(put).collect::<Vec<_>>()
    };
    // One is left for the guard of a fence.
    subject.commit(puts(MAX_TXN_OPERATIONS - 1)).await;
    assert_eq!(subject.list("suite/n/").await.entries.len(), MAX_TXN_OPERATIONS - 1);
    let mut guarded = Txn::from(puts(MAX_TXN_OPERATIONS - 1));
    guarded.guards = vec![Guard::new("suite/x", Expected::Absent), Guard::new("suite/y", Expected::Absent)];
    for too_many in [Txn::from(puts(MAX_TXN_OPERATIONS + 1)), guarded] {
        let refused = subject.try_commit(too_many).await;
        assert!(
            matches!(refused, Err(Error::TooLarge { .. })),
            "too many operations are refused: {refused:?}"
        );
    }
    let room = MAX_TXN_BYTES - 4 * OPERATION_BYTES;
    subject.put(Write::put("suite/big", Expected::Any, vec![7; room])).await;
    assert_eq!(subject.get("suite/big").await.map(|entry| entry.value.len()), Some(room));
    let halves =
        ["suite/half", "suite/whole"].map(|key| Write::put(key, Expected::Any, vec![7; room / 2 + 512]));
    let refused = subject.try_commit(halves.to_vec()).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })), "too many bytes are refused: {refused:?}");
    let twice =
        vec![Write::put("suite/half", Expected::Any, "1"), Write::delete("suite/half", Expected::Any)];
    for invalid in [twice, vec![Write::put("", Expected::Any, "1")]] {
        let refused = subject.try_commit(invalid).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "what makes no sense is refused: {refused:?}");
    }
    let listing = subject.list("suite/").await;
    assert_eq!(listing.entries.len(), MAX_TXN_OPERATIONS, "what is refused writes nothing");
}

pub(super) async fn concurrent_creates_have_one_winner(subject: &Subject<'_, impl Store>) {
    let create = |n: u8| subject.store.commit(Write::put("suite/lock", Expected::Absent, vec![n]).into());
    let outcomes = futures_util::future::join_all((0..8).map(create)).await;
    let Some(winner) = subject.get("suite/lock").await else { panic!("one of many creators wins") };
    for (n, outcome) in (0..8).zip(outcomes) {
        let won = winner.value == [n];
        match outcome {
            Ok(version) => assert!(won && version == winner.version, "exactly one of many creators wins"),
            Err(Error::Unknown(_)) if subject.excuses(Excuse::UnknownCommits) => {}
            Err(error) => {
                assert!(!won, "who wins is told so");
                assert_eq!(error, Error::Conflict { key: "suite/lock".into() });
            }
        }
    }
}
