//! The files of the repository.

use std::fs;
use std::path::{Path, PathBuf};

/// A text file.
pub(crate) struct TextFile {
    /// Path in the repository.
    pub(crate) path: String,
    /// What is in it.
    pub(crate) text: String,
}

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The text of a file.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Whether the repository has that file or folder.
pub(crate) fn is_there(path: &str) -> bool {
    root().join(path).exists()
}

/// All files whose names end in this, in order of their paths.
pub(crate) fn ending_in(suffix: &str) -> Vec<TextFile> {
    let mut paths = Vec::new();
    walk(&root(), suffix, &mut paths);
    let mut files: Vec<TextFile> = paths.iter().map(|path| text_file(path)).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn text_file(path: &Path) -> TextFile {
    let shown = path.strip_prefix(root()).unwrap().display().to_string();
    TextFile { text: read(&shown), path: shown }
}

fn walk(folder: &Path, suffix: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.')
            || ["target", "node_modules"].contains(&name.as_str())
            || name == "data" && folder == root()
        {
            continue;
        }
        if path.is_dir() {
            walk(&path, suffix, found);
        } else if name.ends_with(suffix) {
            found.push(path);
        }
    }
}

/// Fails with one line per fault.
#[track_caller]
pub(crate) fn none_of(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
