//! The conformance suite on the file store, and what only a file can suffer: damage, a full disk, a second opener.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use redb::backends::InMemoryBackend;
use redb::{Builder, StorageBackend, StorageError};

use super::*;
use crate::store::{Expected, WatchEvent, Write, conformance};

#[tokio::test]
async fn the_embedded_store_conforms() {
    conformance::run(&[], async || {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path()).unwrap();
        (store, dir)
    })
    .await;
}

async fn filled(dir: &Path) {
    let store = EmbeddedStore::open(dir).unwrap();
    for n in 0..50 {
        let value = format!("value {n} ").repeat(200);
        store.commit(Write::put(format!("k/{n}"), Expected::Absent, value).into()).await.unwrap();
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_reopen_and_leased_keys_are_not() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let store = EmbeddedStore::open(dir.path()).unwrap();
    let lease = store.grant_lease(Duration::from_secs(60)).await.unwrap();
    store.commit(Write::put("leader", Expected::Absent, "me").with_lease(lease.id).into()).await.unwrap();
    let version = store.list(&[""]).await.unwrap().version;
    drop(store);
    let store = EmbeddedStore::open(dir.path()).unwrap();
    assert_eq!(store.list(&["k/"]).await.unwrap().entries.len(), 50);
    assert_eq!(store.get("leader").await.unwrap(), None);
    assert!(store.list(&[""]).await.unwrap().version > version);
    let mut stale = store.watch("", 3).await.unwrap();
    assert_eq!(stale.next().await, Some(WatchEvent::Gap));
}

#[tokio::test]
async fn a_truncated_or_flipped_file_is_refused_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let path = dir.path().join(open::FILE_NAME);
    let good = fs::read(&path).unwrap();
    let value_at = good.windows(9).position(|window| window == b"value 42 ").unwrap();
    let mut cases =
        vec![Vec::new(), good[..100].to_vec(), good[..good.len() / 2].to_vec(), vec![0; good.len()]];
    for position in [0, 64, value_at, value_at + 500] {
        let mut flipped = good.clone();
        flipped[position] ^= 0x55;
        cases.push(flipped);
    }
    for (index, bytes) in cases.iter().enumerate() {
        fs::write(&path, bytes).unwrap();
        let Err(error) = EmbeddedStore::open(dir.path()) else { panic!("case {index} was opened") };
        let text = error.to_string();
        assert!(text.contains("head.redb") && text.contains("put back a backup"), "case {index}: {text}");
        assert!(fs::read(&path).unwrap() == *bytes, "case {index} was written to");
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(EmbeddedStore::open(dir.path()).unwrap().list(&["k/"]).await.unwrap().entries.len(), 50);
}

#[tokio::test]
async fn any_flipped_byte_is_refused_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    let path = dir.path().join(open::FILE_NAME);
    let good = fs::read(&path).unwrap();
    let expected = EmbeddedStore::open(dir.path()).unwrap().list(&[""]).await.unwrap().entries;
    let good_again = fs::read(&path).unwrap();
    assert_eq!(good.len(), good_again.len());
    let anywhere = (0..good.len()).step_by(good.len() / 97).map(|position| (position, 0xff));
    // What the file begins with decides how the rest is read; byte 9 says which of two commits counts.
    let header = (0..320).step_by(3).map(|position| (position, 0x01)).chain((0..8).map(|bit| (9, 1 << bit)));
    for (position, bits) in header.chain(anywhere) {
        let mut flipped = good_again.clone();
        flipped[position] ^= bits;
        fs::write(&path, &flipped).unwrap();
        if let Ok(store) = EmbeddedStore::open(dir.path()) {
            assert!(
                store.list(&[""]).await.unwrap().entries == expected,
                "byte {position} changed what is read"
            );
        }
    }
}

/// A file of a process that was killed: copied while the store is open.
#[tokio::test]
async fn a_store_whose_process_was_killed_opens_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    let killed = tempfile::tempdir().unwrap();
    for n in 0..20 {
        store.commit(Write::put(format!("k/{n}"), Expected::Absent, "x").into()).await.unwrap();
        fs::copy(dir.path().join(open::FILE_NAME), killed.path().join(open::FILE_NAME)).unwrap();
        let reopened = EmbeddedStore::open(killed.path()).unwrap();
        assert_eq!(reopened.list(&["k/"]).await.unwrap().entries.len(), n + 1);
    }
}

#[tokio::test]
async fn a_file_that_is_open_is_not_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let _store = EmbeddedStore::open(dir.path()).unwrap();
    let Err(error) = EmbeddedStore::open(dir.path()) else { panic!("opened twice") };
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
}

/// A disk that can be full or fail: real storage underneath, room taken away at will.
#[derive(Debug, Clone)]
struct Disk {
    bytes: Arc<InMemoryBackend>,
    full: Arc<AtomicBool>,
    /// Syncs that succeed before one fails; negative for all.
    syncs: Arc<AtomicI64>,
}

impl Disk {
    fn new() -> Self {
        let syncs = Arc::new(AtomicI64::new(-1));
        Self { bytes: Arc::new(InMemoryBackend::new()), full: Arc::default(), syncs }
    }

    fn room(&self) -> std::io::Result<()> {
        if self.full.load(Ordering::SeqCst) { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn database(&self) -> Result<Database, redb::DatabaseError> {
        Builder::new().create_with_backend(self.clone())
    }

    fn store(&self) -> EmbeddedStore {
        let database = self.database().unwrap();
        open::initialise(&database).unwrap();
        let again = self.clone();
        let reopen = Box::new(move || {
            again.database().map_err(|error| OpenError::Io {
                path: "disk".into(),
                source: match error {
                    redb::DatabaseError::Storage(StorageError::Io(source)) => source,
                    other => std::io::Error::other(other),
                },
            })
        });
        EmbeddedStore::with_database(database, reopen).unwrap()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> std::io::Result<u64> {
        self.bytes.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.bytes.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.room()?;
        self.bytes.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        if self.syncs.load(Ordering::SeqCst) >= 0 && self.syncs.fetch_sub(1, Ordering::SeqCst) == 0 {
            return Err(std::io::Error::other("the disk failed"));
        }
        self.bytes.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.room()?;
        self.bytes.write(offset, data)
    }
}

#[tokio::test]
async fn a_full_disk_refuses_the_change_and_the_store_works_again_without_a_restart() {
    let disk = Disk::new();
    let store = disk.store();
    store.commit(Write::put("a", Expected::Absent, "1").into()).await.unwrap();
    disk.full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let big = vec![Write::put("a", Expected::Any, "2"), Write::put("b", Expected::Any, vec![7; 1 << 20])];
        assert_eq!(store.commit(big.into()).await.unwrap_err(), Error::Full);
    }
    disk.full.store(false, Ordering::SeqCst);
    let listing = store.list(&[""]).await.unwrap();
    assert_eq!(listing.entries.len(), 1, "nothing half done");
    assert_eq!(listing.entries[0].value, b"1");
    store.commit(Write::put("b", Expected::Absent, "2").into()).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_the_disk_fails_in_is_not_written_or_unknown_and_watchers_miss_nothing_silently() {
    let mut unknown = 0;
    for syncs in 0..5 {
        let disk = Disk::new();
        let store = disk.store();
        let before = store.commit(Write::put("a", Expected::Absent, "1").into()).await.unwrap();
        let mut watch = store.watch("", before).await.unwrap();
        disk.syncs.store(syncs, Ordering::SeqCst);
        let outcome = store.commit(Write::put("a", Expected::Any, "2").into()).await;
        disk.syncs.store(-1, Ordering::SeqCst);
        let there = store.get("a").await.unwrap().unwrap();
        let written = there.value == b"2";
        match outcome {
            Ok(version) => assert!(written && version == there.version),
            Err(Error::Unknown(_)) => unknown += 1,
            Err(Error::Unavailable(_)) => {
                assert!(!written, "after {syncs} syncs it was written all the same")
            }
            Err(error) => panic!("{error}"),
        }
        store.commit(Write::put("b", Expected::Any, "3").into()).await.unwrap();
        match watch.next().await {
            Some(WatchEvent::Gap) => {}
            Some(WatchEvent::Changed { changes, .. }) => {
                let expected = if written { "a" } else { "b" };
                assert_eq!(changes[0].key, expected, "after {syncs} syncs a watcher missed a commit");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(unknown > 0, "no sync left the outcome unknown");
}

#[tokio::test]
async fn keys_of_an_ended_lease_that_cannot_be_deleted_are_deleted_later() {
    let disk = Disk::new();
    let store = disk.store();
    let lease = store.grant_lease(Duration::from_secs(600)).await.unwrap().id;
    let version =
        store.commit(Write::put("a", Expected::Absent, "1").with_lease(lease).into()).await.unwrap();
    disk.full.store(true, Ordering::SeqCst);
    assert!(store.revoke(lease).await.is_err());
    assert_eq!(store.keep_alive(lease).await, Err(Error::LeaseEnded(lease)), "it has ended all the same");
    disk.full.store(false, Ordering::SeqCst);
    let mut watch = store.watch("a", version).await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap();
    assert!(matches!(event, Some(WatchEvent::Changed { .. })), "{event:?}");
    assert_eq!(store.get("a").await.unwrap(), None);
}

#[tokio::test]
async fn closing_the_store_ends_its_watches() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path()).unwrap();
    let mut watch = store.watch("", 0).await.unwrap();
    store.close();
    assert_eq!(watch.next().await, None);
    assert!(matches!(store.get("a").await, Err(Error::Unavailable(_))));
}
