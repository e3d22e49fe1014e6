//! The cluster that a data directory belongs to, once its process has joined one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const CLUSTER_ID: &str = "cluster_id";

/// The id of the cluster that the process of this data directory has joined; none before.
///
/// # Errors
/// What the system says.
pub fn load_cluster_id(data_dir: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(cluster_id_file(data_dir)) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|id| !id.is_empty())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the cluster's id is kept.
#[must_use]
pub fn cluster_id_file(data_dir: &Path) -> PathBuf {
    data_dir.join(CLUSTER_ID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write_private;

    #[test]
    fn the_cluster_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load_cluster_id(dir.path()).unwrap(), None);
        write_private(&cluster_id_file(dir.path()), "c-1").unwrap();
        assert_eq!(load_cluster_id(dir.path()).unwrap().as_deref(), Some("c-1"));
    }
}
