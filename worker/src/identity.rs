//! What a worker keeps in its data directory across restarts: the node's id, made once, the cluster that it belongs to,
//! and the highest epoch that it has obeyed there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millstream_proto::NodeId;

use crate::files::write_private;
use crate::random;

const NODE_ID: &str = "node_id";
const EPOCH: &str = "epoch";
const CLUSTER_ID: &str = "cluster_id";

/// The node's id; made at the first start.
pub(crate) fn node_id(data_dir: &Path) -> io::Result<NodeId> {
    fs::create_dir_all(data_dir)?;
    let path = data_dir.join(NODE_ID);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let id = uuid::Uuid::parse_str(text.trim()).map_err(|_| {
                broken(&path, "is not a node id; delete it to make this a new node, or restore it")
            })?;
            Ok(NodeId::new(id.to_string()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = random::uuid().to_string();
            write_private(&path, &id)?;
            Ok(NodeId::new(id))
        }
        Err(error) => Err(error),
    }
}

/// The highest epoch that was stored, 0 on a new node.
pub(crate) fn load_epoch(data_dir: &Path) -> io::Result<u64> {
    let path = epoch_file(data_dir);
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| {
            broken(&path, "is not a number; delete it if no older head can be running, or restore it")
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Where the epoch is kept.
pub(crate) fn epoch_file(data_dir: &Path) -> PathBuf {
    data_dir.join(EPOCH)
}

/// The cluster that the node has joined; none on a new node.
pub(crate) fn load_cluster_id(data_dir: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(cluster_id_file(data_dir)) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|id| !id.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the cluster's id is kept.
pub(crate) fn cluster_id_file(data_dir: &Path) -> PathBuf {
    data_dir.join(CLUSTER_ID)
}

fn broken(path: &Path, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{}` {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("worker");
        let id = node_id(&data_dir).unwrap();
        assert_eq!(node_id(&data_dir).unwrap(), id);
        assert_ne!(node_id(dir.path()).unwrap(), id);
    }

    #[test]
    fn the_cluster_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load_cluster_id(dir.path()).unwrap(), None);
        write_private(&cluster_id_file(dir.path()), "c-1").unwrap();
        assert_eq!(load_cluster_id(dir.path()).unwrap().as_deref(), Some("c-1"));
    }

    #[test]
    fn the_epoch_survives_and_a_broken_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load_epoch(dir.path()).unwrap(), 0);
        write_private(&epoch_file(dir.path()), "7").unwrap();
        assert_eq!(load_epoch(dir.path()).unwrap(), 7);
        fs::write(dir.path().join(EPOCH), "seven").unwrap();
        assert!(load_epoch(dir.path()).unwrap_err().to_string().contains("epoch"));
        fs::write(dir.path().join(NODE_ID), "?").unwrap();
        assert!(node_id(dir.path()).unwrap_err().to_string().contains("node_id"));
    }
}
