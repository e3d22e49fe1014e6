//! Which `cluster` tests and benchmarks start: one that is made of the sources as they are now.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

/// The `cluster` of this build.
///
/// Tests of the package `millstream` get the one that cargo has just built for them. Everything else, such as a
/// benchmark, takes the one beside it in the folder of its profile.
///
/// # Panics
/// When that one is missing, or older than a source that it was built from.
#[must_use]
pub fn cluster_binary() -> PathBuf {
    for variable in ["CARGO_BIN_EXE_cluster", "NEXTEST_BIN_EXE_cluster"] {
        if let Some(path) = std::env::var_os(variable) {
            return path.into();
        }
    }
    let this = std::env::current_exe().unwrap();
    // target/PROFILE/BENCHMARK, or target/PROFILE/deps/TEST when a test's file is run by hand.
    let folders = this.ancestors().skip(1).take(2);
    let binary = folders.map(|folder| folder.join("cluster")).find(|path| path.is_file());
    let binary = binary.unwrap_or_else(|| {
        panic!("there is no `cluster` beside {}; build it first: {}", this.display(), how_to_build(&this))
    });
    if let Some(newer) = newer_source(&binary) {
        panic!(
            "{} is older than {}: it would show how `cluster` used to be; build it again: {}",
            binary.display(),
            newer.display(),
            how_to_build(&binary)
        );
    }
    binary
}

/// The command that builds `cluster` in the profile of this file.
fn how_to_build(file: &Path) -> String {
    let profile =
        file.ancestors().skip(1).filter_map(Path::file_name).find(|name| *name != OsStr::new("deps"));
    match profile.and_then(OsStr::to_str) {
        Some("debug") | None => "cargo build -p millstream".to_owned(),
        Some(profile) => format!("cargo build -p millstream --profile {profile}"),
    }
}

/// A source that has changed since the binary was built. Cargo writes down beside a binary which files it was made of:
/// sources of all crates of the workspace that are in it, `.proto` files and what they include.
fn newer_source(binary: &Path) -> Option<PathBuf> {
    let list = binary.with_extension("d");
    let text = fs::read_to_string(&list).unwrap_or_else(|error| {
        panic!("cannot tell how old {} is: {}: {error}", binary.display(), list.display())
    });
    let built = changed(binary).expect("the binary is there");
    sources(&text).into_iter().find(|source| changed(source).is_none_or(|at| at > built))
}

/// When a file was changed; `None` when it is gone.
fn changed(file: &Path) -> Option<SystemTime> {
    fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

/// The files after `BINARY:` of cargo's list, in which a space within a name is written `\ `.
fn sources(list: &str) -> Vec<PathBuf> {
    let (_, files) = list.split_once(": ").unwrap_or_default();
    let files = files.replace("\\ ", "\0");
    files.split_whitespace().map(|file| PathBuf::from(file.replace('\0', " "))).collect()
}

/// Runs a `cluster` command to its end. It finds no data directory of a user: its home is an empty folder.
///
/// # Panics
/// When it cannot be started.
pub fn run_cluster<S: AsRef<OsStr>>(args: &[S]) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new(cluster_binary())
        .args(args)
        .env("HOME", home.path())
        .env_remove("XDG_DATA_HOME")
        .env_remove("MILLSTREAM_DATA_DIR")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_binary_that_is_older_than_a_source_or_lacks_one_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, age_s: u64| {
            let path = folder.path().join(name);
            let at = SystemTime::now() - Duration::from_secs(age_s);
            fs::File::create(&path).unwrap().set_modified(at).unwrap();
            path
        };
        let binary = file("cluster", 60);
        let [old, spaced, new] = [file("old.rs", 90), file("a file.proto", 61), file("new.rs", 10)];
        let list = |files: &[&Path]| {
            let files = files.iter().map(|file| file.display().to_string().replace(' ', "\\ "));
            let line = format!("{}: {}\n", binary.display(), files.collect::<Vec<_>>().join(" "));
            fs::write(folder.path().join("cluster.d"), line).unwrap();
        };
        list(&[&old, &spaced]);
        assert_eq!(newer_source(&binary), None);
        list(&[&old, &new, &spaced]);
        assert_eq!(newer_source(&binary), Some(new));
        let gone = folder.path().join("gone.rs");
        list(&[&old, &gone]);
        assert_eq!(newer_source(&binary), Some(gone));
    }

    #[test]
    fn what_to_run_names_the_profile() {
        let line = |path: &str| how_to_build(Path::new(path));
        assert_eq!(line("/r/target/debug/deps/serve-1"), "cargo build -p millstream");
        assert_eq!(line("/r/target/release/bench-echo"), "cargo build -p millstream --profile release");
        assert_eq!(line("/r/target/dist/cluster"), "cargo build -p millstream --profile dist");
    }
}
