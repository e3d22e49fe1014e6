//! Who a worker is, across restarts: the node's id, made once, and the highest epoch that it has obeyed, in its data directory.
//! The cluster's id and the last orders are beside them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use millstream_kept::write_private;
use millstream_proto::NodeId;

use crate::random;

const NODE_ID: &str = "node_id";
const EPOCH: &str = "epoch";

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
