//! The nodes that a restarted head waits for: every node that has joined and was not forgotten since. Not what runs on
//! them (that is learned from the workers), only whose word to wait for before anything is placed.

use std::collections::BTreeSet;

use millstream_proto::NodeId;

use crate::store::{Error, Expected, Store, Write};

/// Where they are kept, a key each.
const PREFIX: &str = "members/";

fn key(node: &NodeId) -> String {
    format!("{PREFIX}{node}")
}

/// All members.
pub(crate) async fn list(store: &dyn Store) -> Result<BTreeSet<NodeId>, Error> {
    let listing = store.list(PREFIX).await?;
    Ok(listing.entries.iter().filter_map(|entry| entry.key.strip_prefix(PREFIX)).map(NodeId::from).collect())
}

/// A node joins. To be stored before it is given anything to run.
pub(crate) async fn note(store: &dyn Store, node: &NodeId) -> Result<(), Error> {
    let key = key(node);
    if store.get(&key).await?.is_some() {
        return Ok(());
    }
    store.commit(vec![Write::put(key, Expected::Any, "")]).await.map(drop)
}

/// A node is gone for good.
pub(crate) async fn forget(store: &dyn Store, node: &NodeId) -> Result<(), Error> {
    store.commit(vec![Write::delete(key(node), Expected::Any)]).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::EmbeddedStore;

    #[tokio::test]
    async fn members_are_noted_once_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path()).unwrap();
        let (a, b) = (NodeId::from("a"), NodeId::from("b"));
        for node in [&a, &b, &a] {
            note(&store, node).await.unwrap();
        }
        assert_eq!(list(&store).await.unwrap(), BTreeSet::from([a.clone(), b.clone()]));
        forget(&store, &a).await.unwrap();
        forget(&store, &a).await.unwrap();
        assert_eq!(list(&store).await.unwrap(), BTreeSet::from([b]));
    }
}
