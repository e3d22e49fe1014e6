//! The data directory: who holds it, where the cluster listens (`endpoints.json`), the admin token.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, Result};
use millstream_head::Tokens;
use millstream_kept::cluster_id_file;
use millstream_proto::status::Scheme;
use serde::{Deserialize, Serialize};

use crate::global::Global;
use crate::random;

/// Where a process of the cluster listens; written by `up`, read by the other commands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoints {
    /// Process id of `cluster up`.
    pub(crate) pid: u32,
    /// Name of the node.
    pub(crate) node_name: String,
    /// HTTP for requests, if this process has that role.
    pub(crate) ingress: Option<SocketAddr>,
    /// What is spoken there; not there in a file of an older version.
    #[serde(default)]
    pub(crate) ingress_scheme: Scheme,
    /// gRPC of the head: this process's own, or the one it joined.
    pub(crate) control: String,
    /// Dashboard and REST, if this process has that role.
    pub(crate) dashboard: Option<SocketAddr>,
    /// gRPC for replica traffic, if this process has that role.
    pub(crate) worker: Option<SocketAddr>,
    /// HTTP for /metrics of this process; not there in a file of an older version.
    #[serde(default)]
    pub(crate) admin: Option<SocketAddr>,
}

impl Endpoints {
    /// The URL of the ingress without a path, if this process has that role.
    pub(crate) fn ingress_url(&self) -> Option<String> {
        self.ingress.map(|address| self.ingress_scheme.url(address, ""))
    }

    /// Whether the process has the head.
    pub(crate) fn has_head(&self) -> bool {
        self.dashboard.is_some()
    }
}

/// A folder that belongs to one process of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// The folder that the flags mean.
    pub(crate) fn of(global: &Global) -> Result<Self> {
        if let Some(path) = &global.data_dir {
            return Ok(Self(path.clone()));
        }
        let base = match (global.environment.get("XDG_DATA_HOME"), global.environment.get("HOME")) {
            (Some(data), _) if !data.is_empty() => PathBuf::from(data),
            (_, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".local/share"),
            _ => anyhow::bail!("there is no home directory for the data directory; name one with --data-dir"),
        };
        Ok(Self(base.join("millstream")))
    }

    /// A folder inside, for a process that joins without naming one.
    pub(crate) fn for_joined(&self, node_name: &str) -> Self {
        Self(self.0.join("joined").join(node_name))
    }

    /// The folder.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Makes the folder, for its owner only.
    pub(crate) fn create(&self) -> Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0).with_context(|| {
            format!("cannot make the data directory `{}`; name another with --data-dir", self.0.display())
        })
    }

    /// The admin token, made at the first start; only the owner can read the file.
    pub(crate) fn admin_token(&self) -> Result<String> {
        token(&self.token_file())
    }

    /// The join token, made at the first start; only the owner can read the file.
    pub(crate) fn join_token(&self) -> Result<String> {
        token(&self.join_token_file())
    }

    /// Keeps the tokens of a cluster whose heads share them.
    pub(crate) fn keep_tokens(&self, tokens: &Tokens) -> Result<()> {
        write_private(&self.token_file(), &tokens.admin)?;
        write_private(&self.join_token_file(), &tokens.join)
    }

    /// Where the admin token is.
    pub(crate) fn token_file(&self) -> PathBuf {
        self.0.join("admin.token")
    }

    /// Where the join token of a head is, or the copy of it that a process joins with.
    pub(crate) fn join_token_file(&self) -> PathBuf {
        self.0.join("join.token")
    }

    /// The token that a head on this machine had left when this process joined it; none before it has joined a cluster, or after
    /// somebody has deleted `cluster_id` so that it joins another one.
    pub(crate) fn joined_token(&self) -> Result<Option<String>> {
        let path = self.joined_token_file();
        if !cluster_id_file(&self.0).exists() {
            return Ok(None);
        }
        match fs::read_to_string(&path) {
            Ok(token) => Ok(Some(token.trim().to_owned()).filter(|token| !token.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// Keeps the token that a head on this machine had left.
    pub(crate) fn keep_joined_token(&self, token: &str) -> Result<()> {
        write_private(&self.joined_token_file(), token)
    }

    /// Not `join.token`: that one is people's, and goes before what a head has left.
    pub(crate) fn joined_token_file(&self) -> PathBuf {
        self.0.join("joined.token")
    }

    /// Where the captures of this process's ingress are, a folder for each pipeline.
    pub(crate) fn captures(&self) -> PathBuf {
        self.0.join("captures")
    }

    /// Tells other commands where this process listens.
    pub(crate) fn write_endpoints(&self, endpoints: &Endpoints) -> Result<()> {
        write_private(&self.0.join("endpoints.json"), &serde_json::to_string_pretty(endpoints)?)
    }

    /// Where the process that holds (or last held) the folder listens; `None` when none did.
    pub(crate) fn endpoints(&self) -> Result<Option<Endpoints>> {
        let path = self.0.join("endpoints.json");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(
                serde_json::from_str(&text)
                    .with_context(|| format!("`{}` is not readable; delete it", path.display()))?,
            )),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }

    /// Removes what `write_endpoints` wrote.
    pub(crate) fn remove_endpoints(&self) {
        // Nothing depends on it: a command that reads a file which stayed behind finds nobody at its address.
        let _ = fs::remove_file(self.0.join("endpoints.json"));
    }
}

/// The token in a file, made if there is none.
fn token(path: &Path) -> Result<String> {
    match fs::read_to_string(path) {
        Ok(token) if !token.trim().is_empty() => return Ok(token.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
    }
    let token = format!("{}{}", random::uuid().simple(), random::uuid().simple());
    write_private(path, &token)?;
    Ok(token)
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    millstream_kept::write_private(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_token_is_made_once_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir(folder.path().join("new"));
        dir.create().unwrap();
        let token = dir.admin_token().unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(dir.admin_token().unwrap(), token);
        assert_ne!(dir.join_token().unwrap(), token);
        assert_eq!(fs::metadata(dir.join_token_file()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.token_file()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(dir.path()).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_token_of_a_cluster_counts_while_the_folder_belongs_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir(folder.path().to_owned());
        assert_eq!(dir.joined_token().unwrap(), None);
        dir.keep_joined_token("secret").unwrap();
        assert_eq!(dir.joined_token().unwrap(), None, "it has not joined yet");
        write_private(&cluster_id_file(folder.path()), "c-1").unwrap();
        assert_eq!(dir.joined_token().unwrap().as_deref(), Some("secret"));
        assert_eq!(fs::metadata(dir.joined_token_file()).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn endpoints_come_back_as_written() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir(folder.path().to_owned());
        assert_eq!(dir.endpoints().unwrap(), None);
        let endpoints = Endpoints {
            pid: 7,
            node_name: "a".into(),
            ingress: Some(([127, 0, 0, 1], 8000).into()),
            ingress_scheme: Scheme::Https,
            control: "127.0.0.1:7400".into(),
            dashboard: None,
            worker: None,
            admin: Some(([127, 0, 0, 1], 9464).into()),
        };
        // A file of before, whatever its mode, is replaced as a whole.
        let path = folder.path().join("endpoints.json");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        dir.write_endpoints(&endpoints).unwrap();
        assert_eq!(dir.endpoints().unwrap(), Some(endpoints));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
        dir.remove_endpoints();
        assert_eq!(dir.endpoints().unwrap(), None);
    }

    #[test]
    fn endpoints_of_an_older_version_are_read() {
        let old = r#"{"pid": 7, "node_name": "a", "ingress": "127.0.0.1:8000", "control": "127.0.0.1:7400", "dashboard": null, "worker": null}"#;
        let endpoints: Endpoints = serde_json::from_str(old).unwrap();
        assert_eq!(endpoints.ingress_url().as_deref(), Some("http://127.0.0.1:8000"));
    }
}
