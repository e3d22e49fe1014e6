//! The store on real etcd processes: what every store must do, also over connections that are cut, and what only etcd can suffer.

#![allow(clippy::disallowed_methods, reason = "tests take real time")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod proxy;

use std::time::{Duration, Instant};

use etcd_client::{Client, Permission};
use millstream_etcd::{Access, Address, EtcdStore, Identity, OpenError};
use millstream_head::store::conformance::{self, Excuse};
use millstream_head::store::{Error, Expected, Store, WatchEvent, Write};
use millstream_test_support::{Authority, Etcd, until};
use proxy::Proxy;

fn address(members: &str, prefix: &str) -> Address {
    format!("etcd://{members}/{prefix}").parse().unwrap()
}

async fn open(etcd: &Etcd, prefix: &str) -> EtcdStore {
    EtcdStore::open(&address(&etcd.members(), prefix), &Access::default()).await.unwrap()
}

async fn put(store: &EtcdStore, key: &str) -> Result<u64, Error> {
    store.commit(Write::put(key, Expected::Any, "1").into()).await
}

/// A prefix that no other part of the suite uses.
async fn conforms(etcd: &Etcd, members: &str, excuses: &[Excuse]) {
    let part = std::sync::atomic::AtomicUsize::new(0);
    conformance::run(excuses, async || {
        let part = part.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let address = address(members, &format!("part-{part}"));
        (EtcdStore::open(&address, &Access::default()).await.unwrap(), etcd)
    })
    .await;
}

#[tokio::test]
async fn one_member_conforms() {
    let etcd = Etcd::start();
    conforms(&etcd, &etcd.members(), &[]).await;
}

#[tokio::test]
async fn three_members_conform() {
    let etcd = Etcd::of(3);
    conforms(&etcd, &etcd.members(), &[]).await;
}

#[tokio::test]
async fn connections_that_are_cut_conform_but_for_what_cannot_be_known() {
    let etcd = Etcd::start();
    let proxy = Proxy::start(etcd.members()).await;
    // Named twice: what is cut off is asked once more.
    let members = format!("{0},{0}", proxy.address());
    conforms(&etcd, &members, &[Excuse::UnknownCommits, Excuse::BrokenWatches]).await;
    assert!(proxy.num_cut() > 20, "{} connections were cut", proxy.num_cut());
}

#[tokio::test]
async fn a_member_that_is_killed_is_replaced_by_the_next() {
    let mut etcd = Etcd::of(3);
    let store = open(&etcd, "p").await;
    put(&store, "before").await.unwrap();
    for index in 0..2 {
        etcd.kill(index);
        let start = Instant::now();
        until("a write is taken again", async || put(&store, "after").await.ok()).await;
        println!("member {index} killed: a write is taken again after {:?}", start.elapsed());
        assert!(store.get("before").await.unwrap().is_some());
        etcd.restart(index);
        until("the member is back", async || {
            let members = etcd.members();
            let member = members.split(',').nth(index).unwrap().to_owned();
            let store = EtcdStore::open(&address(&member, "p"), &Access::default()).await.ok()?;
            store.get("after").await.ok()?
        })
        .await;
    }
}

#[tokio::test]
async fn without_a_majority_nothing_is_taken_and_it_heals_alone() {
    let mut etcd = Etcd::of(3);
    let store = open(&etcd, "p").await;
    let written = put(&store, "a").await.unwrap();
    let mut watch = store.watch("", written).await.unwrap();
    etcd.kill(0);
    etcd.kill(1);
    let limit = Duration::from_secs(1);
    until("the loss shows", async || {
        let read = tokio::time::timeout(limit, store.get("a")).await;
        (!matches!(read, Ok(Ok(_)))).then_some(())
    })
    .await;
    let refused = tokio::time::timeout(limit, put(&store, "b")).await;
    assert!(!matches!(refused, Ok(Ok(_))), "nothing is written without a majority: {refused:?}");
    etcd.restart(0);
    until("a write is taken again", async || tokio::time::timeout(limit, put(&store, "c")).await.ok()?.ok())
        .await;
    loop {
        match watch.next().await {
            Some(WatchEvent::Changed { changes, .. }) if changes[0].key == "c" => break,
            Some(WatchEvent::Changed { .. }) => {}
            Some(WatchEvent::Broken(_)) => watch = store.watch("", written).await.unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_watch_from_before_a_compaction_begins_with_a_gap() {
    let etcd = Etcd::start();
    let store = open(&etcd, "p").await;
    let first = put(&store, "a").await.unwrap();
    let last = put(&store, "a").await.unwrap();
    let mut client = Client::connect([etcd.members()], None).await.unwrap();
    client.compact(last.cast_signed(), None).await.unwrap();
    let mut watch = store.watch("", first - 1).await.unwrap();
    assert_eq!(watch.next().await, Some(WatchEvent::Gap));
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn prefixes_keep_clusters_apart_and_a_format_of_another_release_is_refused() {
    let etcd = Etcd::start();
    let (one, other) = (open(&etcd, "a").await, open(&etcd, "ab").await);
    put(&one, "x").await.unwrap();
    assert!(other.list(&[""]).await.unwrap().entries.is_empty());
    let again = open(&etcd, "a").await;
    assert_eq!(
        again.list(&[""]).await.unwrap().entries.len(),
        1,
        "a store that is opened again has its keys"
    );
    let mut client = Client::connect([etcd.members()], None).await.unwrap();
    client.put("/a/format", "2", None).await.unwrap();
    let Err(error) = EtcdStore::open(&address(&etcd.members(), "a"), &Access::default()).await else {
        panic!("format 2 was opened")
    };
    assert!(matches!(error, OpenError::Format { .. }), "{error}");
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_said_so() {
    let Err(error) = EtcdStore::open(&address("127.0.0.1:1", "p"), &Access::default()).await else {
        panic!("nobody listens there")
    };
    let text = error.to_string();
    assert!(text.contains("etcd://127.0.0.1:1/p") && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_user_sees_the_keys_of_its_role() {
    let etcd = Etcd::start();
    let members = etcd.members();
    let mut root = Client::connect([&members], None).await.unwrap();
    root.user_add("root", "secret", None).await.unwrap();
    root.role_add("root").await.unwrap();
    root.user_grant_role("root", "root").await.unwrap();
    root.user_add("millstream", "pass", None).await.unwrap();
    root.role_add("millstream").await.unwrap();
    let keys = Permission::read_write("/p/").with_prefix();
    root.role_grant_permission("millstream", keys).await.unwrap();
    root.user_grant_role("millstream", "millstream").await.unwrap();
    root.auth_enable().await.unwrap();
    let access = |password: &str| {
        let user = Some(("millstream".to_owned(), password.to_owned()));
        Access { user, ..Access::default() }
    };
    let store = EtcdStore::open(&address(&members, "p"), &access("pass")).await.unwrap();
    put(&store, "a").await.unwrap();
    for (prefix, access) in [("p", access("wrong")), ("q", access("pass")), ("p", Access::default())] {
        let opened = EtcdStore::open(&address(&members, prefix), &access).await;
        assert!(matches!(opened, Err(OpenError::Unreachable { .. })), "{access:?} was let in to {prefix}");
    }
}

/// A certificate of an authority, as a client shows it.
fn identity(authority: &Authority) -> Identity {
    let issued = authority.issue();
    Identity { certificate: issued.certificate.into_bytes(), key: issued.key.into_bytes() }
}

#[tokio::test]
async fn certificates_go_both_ways() {
    let (authority, dir) = (Authority::new("etcd"), tempfile::tempdir().unwrap());
    let (cert, key) = authority.issue().write(dir.path()).unwrap();
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let [ca, cert, key] = [ca, cert, key].map(|path| path.display().to_string());
    let flags = ["--cert-file", &cert, "--key-file", &key, "--trusted-ca-file", &ca, "--client-cert-auth"];
    let etcd = Etcd::with_tls(&flags);
    let address = address(&etcd.members(), "p");
    let access = |trusted: &Authority, identity| Access {
        authority: Some(trusted.pem().into_bytes()),
        identity,
        user: None,
    };
    let store = EtcdStore::open(&address, &access(&authority, Some(identity(&authority)))).await.unwrap();
    put(&store, "a").await.unwrap();
    let other = Authority::new("other");
    for wrong in [
        Access::default(),
        access(&authority, None),
        access(&authority, Some(identity(&other))),
        access(&other, Some(identity(&authority))),
    ] {
        let opened = EtcdStore::open(&address, &wrong).await;
        assert!(matches!(opened, Err(OpenError::Unreachable { .. })), "{wrong:?} was let in");
    }
}
