//! The nodes that a restarted head waits for: every node that has joined and was not forgotten since. Not what runs on
//! them (that is learned from the workers), only whose word to wait for before anything is placed.
//!
//! One key for each name, `members/NAME`, with the node's id: a node that comes back under its name with a new id takes
//! the place of the old one. Stores of earlier versions also have `members/ID` without a value.

use std::collections::BTreeMap;

use millstream_proto::NodeId;

use crate::store::{Entry, Error, Expected, Fenced, Store, Write};

/// Where they are kept, a key each.
const PREFIX: &str = "members/";

/// All members and their names. A name is empty where an earlier version did not note it.
pub(crate) async fn list(store: &Fenced) -> Result<BTreeMap<NodeId, String>, Error> {
    let listing = store.list(&[PREFIX]).await?;
    let mut members = BTreeMap::new();
    for (rest, entry) in listing.under(PREFIX) {
        let name = if entry.value.is_empty() { "" } else { rest };
        let noted: &mut String = members.entry(id(rest, entry)).or_default();
        if noted.is_empty() {
            name.clone_into(noted);
        }
    }
    Ok(members)
}

/// The node that a key is about.
fn id(rest: &str, entry: &Entry) -> NodeId {
    let value = String::from_utf8_lossy(&entry.value);
    NodeId::from(if value.is_empty() { rest } else { &value })
}

/// A node has joined under a name. To be stored before it is given anything to run.
pub(crate) async fn note(store: &Fenced, node: &NodeId, name: &str) -> Result<(), Error> {
    let key = format!("{PREFIX}{name}");
    let value = node.as_str().as_bytes();
    if store.get(&key).await?.is_some_and(|entry| entry.value == value) {
        return Ok(());
    }
    store.commit(Write::put(key, Expected::Any, value).into()).await.map(drop)
}

/// A node is gone for good. One that has taken its name since stays.
pub(crate) async fn forget(store: &Fenced, node: &NodeId) -> Result<(), Error> {
    let listing = store.list(&[PREFIX]).await?;
    let of_node = listing.under(PREFIX).filter(|(rest, entry)| id(rest, entry) == *node);
    let as_read = |entry: &Entry| Expected::Version(entry.version);
    let writes: Vec<_> = of_node.map(|(_, entry)| Write::delete(entry.key.clone(), as_read(entry))).collect();
    if writes.is_empty() {
        return Ok(());
    }
    store.commit(writes.into()).await.map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::leadership::election::testing::lead;
    use crate::store::embedded::EmbeddedStore;

    async fn open() -> (Fenced, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path()).unwrap());
        (lead(&store).await, dir)
    }

    fn members(pairs: &[(&str, &str)]) -> BTreeMap<NodeId, String> {
        pairs.iter().map(|&(id, name)| (NodeId::from(id), name.to_owned())).collect()
    }

    #[tokio::test]
    async fn members_are_noted_once_and_forgotten() {
        let (store, _dir) = open().await;
        let (a, b) = (NodeId::from("a"), NodeId::from("b"));
        for (node, name) in [(&a, "one"), (&b, "two"), (&a, "one")] {
            note(&store, node, name).await.unwrap();
        }
        assert_eq!(list(&store).await.unwrap(), members(&[("a", "one"), ("b", "two")]));
        forget(&store, &a).await.unwrap();
        forget(&store, &a).await.unwrap();
        assert_eq!(list(&store).await.unwrap(), members(&[("b", "two")]));
    }

    #[tokio::test]
    async fn a_node_that_comes_back_with_a_new_id_takes_the_place_of_the_old_one() {
        let (store, _dir) = open().await;
        for id in ["old", "older", "new"] {
            note(&store, &NodeId::from(id), "one").await.unwrap();
        }
        assert_eq!(list(&store).await.unwrap(), members(&[("new", "one")]));
        forget(&store, &NodeId::from("old")).await.unwrap();
        assert_eq!(list(&store).await.unwrap(), members(&[("new", "one")]));
    }

    #[tokio::test]
    async fn members_of_an_earlier_version_are_known_and_forgotten() {
        let (store, _dir) = open().await;
        for id in ["a", "b"] {
            store.commit(Write::put(format!("{PREFIX}{id}"), Expected::Any, "").into()).await.unwrap();
        }
        note(&store, &NodeId::from("a"), "one").await.unwrap();
        assert_eq!(list(&store).await.unwrap(), members(&[("a", "one"), ("b", "")]));
        forget(&store, &NodeId::from("a")).await.unwrap();
        assert_eq!(list(&store).await.unwrap(), members(&[("b", "")]));
    }
}
