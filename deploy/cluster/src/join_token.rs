//! The join token: what the processes of a cluster know and nobody else. The head makes it at its first start and keeps it as
//! `join.token` in its data directory. For processes of the same user on the same machine it leaves a copy in a folder that
//! only this user can read, under the port of its control address; so these join without a flag. A process that has joined so
//! keeps what it found, and is started again with it when no head is there.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use millstream_connect::Heads;
use millstream_worker::Environment;

use crate::client::local_ports;
use crate::data_dir::{DataDir, write_private};
use crate::exit::Failure;
use crate::global::Global;
use crate::{output, token};

/// How often a process looks whether the head has left its token.
const POLL: Duration = Duration::from_millis(100);

/// The copy that a head leaves; gone when dropped.
#[derive(Debug)]
pub(crate) struct LeftToken(PathBuf);

impl LeftToken {
    /// Leaves the token of a head with this control port for processes of the same user. Without it they join with
    /// `--token-file`, so that what hinders is only told.
    pub(crate) fn leave(environment: &Environment, control_port: u16, token: &str) -> Option<Self> {
        let write = || {
            let file = own_folder(environment)?.join(file_name(control_port));
            write_private(&file, token)?;
            Ok(Self(file))
        };
        let left: Result<Self> = write();
        left.inspect_err(|error| {
            output::note(format_args!(
                "processes of this machine join with --token-file alone: the join token is not left for them: {error:#}"
            ));
        })
        .ok()
    }
}

impl Drop for LeftToken {
    fn drop(&mut self) {
        // A token that stays behind is replaced by the next head on this port.
        let _ = fs::remove_file(&self.0);
    }
}

/// The token to join these heads with: of the file that is named, else of the data directory, else the one that a head on
/// this machine has left, else the one that this process has joined with before. Where there is none of them, a head on this
/// machine is waited for.
pub(crate) async fn find(global: &Global, data_dir: &DataDir, heads: &Heads) -> Result<String, Failure> {
    let own = data_dir.join_token_file();
    if let Some(file) = global.token_file.as_ref().or_else(|| own.exists().then_some(&own)) {
        return Ok(token::read("join token", file)?);
    }
    let (left, joined_with) = (left_files(global, heads), data_dir.joined_token()?);
    let is_left = left.as_ref().is_ok_and(|files| files.iter().any(|file| file.exists()));
    if let Some(token) = joined_with.filter(|_| !is_left) {
        return Ok(token);
    }
    let token = wait_for_one(&left?, heads).await?;
    data_dir.keep_joined_token(&token)?;
    Ok(token)
}

/// Where heads of this user would leave their tokens, if they listen at these addresses.
fn left_files(global: &Global, heads: &Heads) -> Result<Vec<PathBuf>, Failure> {
    let ports = local_ports(heads);
    if ports.is_empty() {
        return Err(Failure::usage(format!(
            "joining `{heads}` needs its join token: copy `join.token` from the data directory of its head, and name the \
             copy with --token-file"
        )));
    }
    let folder = own_folder(&global.environment).map_err(|error| {
        Failure::usage(format!(
            "{error:#}; name `join.token` of the cluster's head with --token-file instead"
        ))
    })?;
    Ok(ports.into_iter().map(|port| folder.join(file_name(port))).collect())
}

async fn wait_for_one(files: &[PathBuf], heads: &Heads) -> Result<String, Failure> {
    let mut is_told = false;
    loop {
        if let Some(file) = files.iter().find(|file| file.exists()) {
            return Ok(token::read("join token", file)?);
        }
        if !std::mem::replace(&mut is_told, true) {
            let others = files.first().and_then(|file| file.parent()).map(heads_in).unwrap_or_default();
            let hint = if others.is_empty() {
                String::new()
            } else {
                format!("; this user has heads on {}", others.join(", "))
            };
            output::note(format_args!(
                "waiting for a head of this user on `{heads}`{hint}; to join one of another user, name its `join.token` with \
                 --token-file"
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Addresses of this machine at which heads of this user listen, or listened when they were killed.
fn heads_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let port = |name: &str| name.strip_prefix("join-")?.strip_suffix(".token")?.parse::<u16>().ok();
    let mut ports: Vec<_> = names.filter_map(|name| port(name.to_str()?)).collect();
    ports.sort_unstable();
    ports.into_iter().map(|port| format!("127.0.0.1:{port}")).collect()
}

fn file_name(control_port: u16) -> String {
    format!("join-{control_port}.token")
}

/// The folder of this user's processes, made if it is missing; refuses those of others.
pub(crate) fn own_folder(environment: &Environment) -> Result<PathBuf> {
    let mut refused = Err(anyhow::anyhow!("there is no folder for this user's processes"));
    for folder in own_folders(environment) {
        match make_own(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) => {
                refused = Err(error.context(format!("the folder `{}` cannot be used", folder.display())));
            }
        }
    }
    refused
}

/// Where such a folder may be, the one to be used first. A head that the system started has another environment than its
/// user's shell.
fn own_folders(environment: &Environment) -> Vec<PathBuf> {
    let named = |name| environment.get(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let uid = rustix::process::getuid().as_raw();
    let of_session = named("XDG_RUNTIME_DIR").map(|folder| folder.join("millstream"));
    let temporary = named("TMPDIR").unwrap_or_else(|| PathBuf::from("/tmp"));
    of_session.into_iter().chain([temporary.join(format!("millstream-{uid}"))]).collect()
}

/// Makes a folder that only this user can look into; refuses one that somebody else has made, or can read.
fn make_own(folder: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    check_own(folder, rustix::process::getuid().as_raw())
}

fn check_own(folder: &Path, uid: u32) -> Result<()> {
    // The link itself, not what it points to: others may put links into a folder for everybody.
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() {
        bail!("it is not a folder");
    }
    if found.uid() != uid {
        bail!("it is somebody else's (user {})", found.uid());
    }
    if found.mode() & 0o077 != 0 {
        bail!("others can look into it; `chmod 700` it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn environment(folder: &Path) -> Environment {
        ["XDG_RUNTIME_DIR", "TMPDIR"].map(|name| (name.to_owned(), folder.into())).into()
    }

    #[test]
    fn the_copy_is_the_users_own_and_goes_with_the_head() {
        let folder = tempfile::tempdir().unwrap();
        let environment = environment(folder.path());
        let left = LeftToken::leave(&environment, 7400, "secret").unwrap();
        let file = folder.path().join("millstream/join-7400.token");
        assert_eq!(fs::read_to_string(&file).unwrap(), "secret");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        let again = LeftToken::leave(&environment, 7400, "newer").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "newer");
        assert_eq!(heads_in(file.parent().unwrap()), ["127.0.0.1:7400"]);
        drop((left, again));
        assert!(!file.exists());
    }

    #[test]
    fn folders_of_others_and_links_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(make_own(&open).unwrap_err().to_string().contains("others can look into it"));
        assert!(make_own(&folder.path().join("own")).is_ok());
        assert!(
            check_own(&folder.path().join("own"), uid + 1)
                .unwrap_err()
                .to_string()
                .contains("somebody else's")
        );
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("own"), &link).unwrap();
        assert!(make_own(&link).unwrap_err().to_string().contains("not a folder"));
        // There is a second place; where nothing can be left at all, the head runs all the same.
        fs::write(folder.path().join("millstream"), "").unwrap();
        assert!(LeftToken::leave(&environment(folder.path()), 1, "secret").is_some());
        let second = folder.path().join(format!("millstream-{uid}"));
        fs::remove_dir_all(&second).unwrap();
        fs::write(&second, "").unwrap();
        assert!(LeftToken::leave(&environment(folder.path()), 1, "secret").is_none());
    }
}
