//! Pipeline files: read and compiled here, so that faults are shown with the text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use millstream_pipelines::{Faults, Plan};
use millstream_proto::v1::{self, deploy_request::Beside};
use millstream_worker::signatures_in_reach;

use crate::exit::Failure;
use crate::input;

/// Largest pipeline file that is read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A pipeline file that compiles.
pub(crate) struct PipelineFile {
    /// Its compiled form.
    pub(crate) plan: Plan,
    /// What to send to the head.
    pub(crate) file: v1::PipelineFile,
}

impl PipelineFile {
    /// Compiles a pipeline's text; its relative models are found in the folder. Where their files are here and say what the models
    /// take and return, the text is checked against that too.
    pub(crate) fn compile(name: &str, text: &str, folder: &Path) -> Result<Self, Faults> {
        let mut plan = Plan::compile(name, text)?;
        let signatures = signatures_in_reach(&plan, folder);
        if !signatures.is_empty() {
            plan = Plan::compile_with(name, text, &signatures)?;
        }
        let file = v1::PipelineFile {
            file_name: name.to_owned(),
            source: text.to_owned(),
            source_dir: folder.display().to_string(),
        };
        Ok(Self { plan, file })
    }

    /// What deploys files together.
    pub(crate) fn request(files: Vec<Self>, beside: Option<Beside>) -> v1::DeployRequest {
        v1::DeployRequest { files: files.into_iter().map(|file| file.file).collect(), beside }
    }

    /// Reads and compiles files, the `.toml` files of folders, and standard input for `-`; the faults of all files come together.
    pub(crate) fn read_all(paths: &[PathBuf]) -> Result<Vec<Self>, Failure> {
        let (files, faults) = Self::sort_all(paths)?;
        if faults.is_empty() { Ok(files) } else { Err(Failure::faults(faults)) }
    }

    /// The same, with those that compile beside the faults of the others.
    pub(crate) fn sort_all(paths: &[PathBuf]) -> Result<(Vec<Self>, Vec<Faults>), Failure> {
        let mut files = Vec::new();
        let mut faults = Vec::new();
        for source in Source::all(paths)? {
            let text = source.read()?;
            match Self::compile(&source.name(), &text, &source.folder()?) {
                Ok(file) => files.push(file),
                Err(found) => faults.push(found),
            }
        }
        Ok((files, faults))
    }
}

/// Where a pipeline's text comes from.
enum Source {
    File(PathBuf),
    Stdin,
}

impl Source {
    /// What these paths stand for.
    fn all(paths: &[PathBuf]) -> Result<Vec<Self>, Failure> {
        let mut sources = Vec::new();
        for path in paths {
            if path == Path::new("-") {
                sources.push(Self::Stdin);
            } else if path.is_dir() {
                sources.extend(files_of(path)?.into_iter().map(Self::File));
            } else {
                sources.push(Self::File(path.clone()));
            }
        }
        Ok(sources)
    }

    fn read(&self) -> Result<String, Failure> {
        Ok(match self {
            Self::File(path) => input::read_text("pipeline file", path, MAX_FILE_BYTES)?,
            Self::Stdin => input::read_stdin("the pipeline", MAX_FILE_BYTES)?,
        })
    }

    /// What messages call it.
    fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "stdin.toml".to_owned(),
        }
    }

    /// The absolute folder that relative models are found in.
    fn folder(&self) -> Result<PathBuf, Failure> {
        let path = match self {
            Self::File(path) => path,
            Self::Stdin => return Ok(std::env::current_dir().context("cannot tell the current folder")?),
        };
        let absolute = fs::canonicalize(path)
            .with_context(|| format!("cannot tell which folder `{}` is in", path.display()))?;
        Ok(absolute.parent().unwrap_or(Path::new("/")).to_owned())
    }
}

/// The pipeline files of a folder, by name.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let cannot = || format!("cannot read folder `{}`", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        if path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Failure::failed(format!("folder `{}` has no `.toml` files", folder.display())));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ECHO: &str = include_str!("../../../pipelines/examples/echo.toml");

    #[test]
    fn a_file_is_sent_with_its_absolute_folder_and_faults_of_all_files_come_together() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let (_, of_folder) = (path("notes.txt", "x"), path("only.toml", ECHO));
        assert_eq!(PipelineFile::read_all(&[folder.path().to_owned()]).unwrap().len(), 1);
        fs::remove_file(of_folder).unwrap();
        let Err(empty) = PipelineFile::read_all(&[folder.path().to_owned()]) else { panic!("accepted") };
        assert!(empty.to_json().unwrap().to_string().contains("has no `.toml` files"));
        let (good, bad, worse) = (path("good.toml", ECHO), path("bad.toml", "x"), path("worse.toml", "y"));
        let read = PipelineFile::read_all(std::slice::from_ref(&good)).unwrap();
        let absolute = fs::canonicalize(folder.path()).unwrap();
        assert_eq!(Path::new(&read[0].file.source_dir), absolute);
        let Err(failure) = PipelineFile::read_all(&[bad, good, worse]) else { panic!("accepted") };
        assert_eq!(failure.code(), 3);
        assert!(matches!(failure.into_cause(), crate::exit::Cause::Faults(files) if files.len() == 2));
    }
}
