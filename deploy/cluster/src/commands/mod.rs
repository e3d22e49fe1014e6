//! One file per command that talks to a running cluster, and what they share.

pub(crate) mod bench;
pub(crate) mod defrag;
pub(crate) mod delete;
pub(crate) mod deploy;
mod deploy_plan;
pub(crate) mod down;
pub(crate) mod explain;
pub(crate) mod key;
pub(crate) mod rollout;
pub(crate) mod scale;
pub(crate) mod simulate;
pub(crate) mod status;
pub(crate) mod validate;

use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory as _;
use clap_complete::Shell;
use millstream_pipelines::{Faults, Plan};
use millstream_proto::v1;

use crate::cli::{Cli, Global};
use crate::exit::Failure;

/// Largest pipeline file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A pipeline file that compiles.
pub(crate) struct PipelineFile {
    /// Its compiled form.
    pub(crate) plan: Plan,
    /// What to send to the head.
    pub(crate) request: v1::DeployRequest,
}

/// Prints a completion script.
pub(crate) fn completions(shell: Shell) {
    clap_complete::generate(shell, &mut Cli::command(), "cluster", &mut std::io::stdout());
}

/// Reads and compiles pipeline files; the faults of all files come together.
pub(crate) fn read_files(paths: &[PathBuf], global: &Global) -> Result<Vec<PipelineFile>, Failure> {
    let mut files = Vec::new();
    let mut faults = Vec::new();
    for path in paths {
        let (name, text, folder) = read_file(path)?;
        match compile(&name, &text, &folder) {
            Ok(file) => files.push(file),
            Err(found) => faults.push(found),
        }
    }
    if faults.is_empty() { Ok(files) } else { Err(Failure::faults(faults, global.json)) }
}

/// Compiles a pipeline's text.
pub(crate) fn compile(name: &str, text: &str, folder: &Path) -> Result<PipelineFile, Faults> {
    let plan = Plan::compile(name, text)?;
    let request = v1::DeployRequest {
        file_name: name.to_owned(),
        source: text.to_owned(),
        source_dir: folder.display().to_string(),
        beside: None,
    };
    Ok(PipelineFile { plan, request })
}

/// A file's name for messages, its text, and the absolute folder it is in.
fn read_file(path: &Path) -> Result<(String, String, PathBuf), Failure> {
    let name = path.display().to_string();
    let cannot = |what: String| Failure::failed(format!("cannot read pipeline file `{name}`: {what}"));
    let metadata = fs::metadata(path).map_err(|error| cannot(error.to_string()))?;
    if !metadata.is_file() {
        return Err(cannot("it is not a file".to_owned()));
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(cannot(format!("it has {} bytes, more than {MAX_FILE_BYTES}", metadata.len())));
    }
    let bytes = fs::read(path).map_err(|error| cannot(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        cannot(format!("it is not UTF-8 text (byte {})", error.utf8_error().valid_up_to()))
    })?;
    let absolute = fs::canonicalize(path).map_err(|error| cannot(error.to_string()))?;
    let folder = absolute.parent().unwrap_or(Path::new("/")).to_owned();
    Ok((name, text, folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_none_are_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read_file(folder.path()).is_err());
        assert!(read_file(&folder.path().join("missing.toml")).is_err());
        let latin1 = folder.path().join("latin1.toml");
        fs::write(&latin1, b"name = \"\xe9\"").unwrap();
        assert!(read_file(&latin1).is_err());
        let good = folder.path().join("good.toml");
        fs::write(&good, "x").unwrap();
        let (_, text, parent) = read_file(&good).unwrap_or_else(|_| panic!("unreadable"));
        assert_eq!((text.as_str(), parent), ("x", fs::canonicalize(folder.path()).unwrap()));
    }
}
