//! Where a model's files are: a function of the reference in the pipeline file and of the folders that are searched.
//!
//! A model that comes with the program is `<folder>/<name>/`; it has the one version `1`, which the alias
//! `production` names. Nothing is downloaded.

use std::path::{Path, PathBuf};

use millstream_pipelines::{ModelRef, closest};

/// The alias that every bundled model has.
const ALIAS: &str = "production";
/// The version that every bundled model has.
const VERSION: &str = "1";

/// Why a model is not found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A name that could lead out of the folders.
    #[error(
        "model name `{0}` is not allowed: use letters, digits, `.`, `-` and `_`, not starting with `.`; for a path \
         write `file:{0}`"
    )]
    UnsafeName(String),
    /// No folder has it.
    #[error(
        "model `{name}` is not found{}; searched {searched}; put its files into a folder `{name}` there, or point at \
         them with `file:PATH`",
        .meant.as_ref().map_or_else(String::new, |meant| format!(" (did you mean `{meant}`?)"))
    )]
    Unknown {
        /// Its name.
        name: String,
        /// One that is there, and is nearly called so.
        meant: Option<String>,
        /// The folders.
        searched: String,
    },
    /// It is there, but not with this alias or version.
    #[error(
        "model `{name}` has no {kind} `{wanted}`; in `{}` it has version `1`, alias `production`; ask for one of those",
        .found.display()
    )]
    NoSuchVersion {
        /// Its name.
        name: String,
        /// `alias` or `version`.
        kind: &'static str,
        /// What was asked for.
        wanted: String,
        /// Where the model is.
        found: PathBuf,
    },
    /// It would have to be downloaded.
    #[error(
        "model `hf:{repo}@{revision}` would have to be downloaded, and downloads are not enabled; fetch it yourself \
         and point at its folder with `file:PATH`"
    )]
    DownloadsOff {
        /// `org/repo`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
    },
    /// A relative path, but nothing it is relative to.
    #[error(
        "model `file:{0}` is a relative path, but the pipeline came without its folder; write an absolute path"
    )]
    NoSourceDir(String),
    /// A file of a model that is a folder.
    #[error(
        "model `file:{0}` is one file of a model; name the folder that it is in, with its settings and its tokenizer"
    )]
    NotItsFolder(String),
    /// Nothing is at the path.
    #[error("model `file:{path}` is not there: `{}` does not exist on this node; copy it there", .resolved.display())]
    NoSuchPath {
        /// As written.
        path: String,
        /// Where it was looked for.
        resolved: PathBuf,
    },
}

/// The folder (for `file:`, possibly the file) of a model. Reads the directory, nothing else.
pub(crate) fn resolve(model: &ModelRef, model_dirs: &[PathBuf], source_dir: &Path) -> Result<PathBuf, Error> {
    match model {
        ModelRef::Alias { name, alias } => named(name, ("alias", alias, ALIAS), model_dirs),
        ModelRef::Version { name, version } => named(name, ("version", version, VERSION), model_dirs),
        ModelRef::Hub { repo, revision } => {
            Err(Error::DownloadsOff { repo: repo.clone(), revision: revision.clone() })
        }
        ModelRef::File { path } => file(path, source_dir),
    }
}

fn named(
    name: &str,
    (kind, wanted, there): (&'static str, &str, &str),
    model_dirs: &[PathBuf],
) -> Result<PathBuf, Error> {
    if !is_safe(name) {
        return Err(Error::UnsafeName(name.to_owned()));
    }
    let Some(found) = model_dirs.iter().map(|dir| dir.join(name)).find(|folder| folder.is_dir()) else {
        let meant = meant(name, model_dirs);
        return Err(Error::Unknown { name: name.to_owned(), meant, searched: listed(model_dirs) });
    };
    if wanted != there {
        return Err(Error::NoSuchVersion { name: name.to_owned(), kind, wanted: wanted.to_owned(), found });
    }
    Ok(found)
}

/// The model of the folders whose name is most like that one.
fn meant(name: &str, model_dirs: &[PathBuf]) -> Option<String> {
    let entries = model_dirs.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten());
    let names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    closest(name, names.iter().map(String::as_str)).map(str::to_owned)
}

fn file(path: &str, source_dir: &Path) -> Result<PathBuf, Error> {
    let relative = Path::new(path);
    if relative.is_relative() && source_dir.as_os_str().is_empty() {
        return Err(Error::NoSourceDir(path.to_owned()));
    }
    let resolved = source_dir.join(relative);
    if !resolved.exists() {
        return Err(Error::NoSuchPath { path: path.to_owned(), resolved });
    }
    if resolved.extension().is_some_and(|extension| extension == "safetensors") {
        return Err(Error::NotItsFolder(path.to_owned()));
    }
    Ok(resolved)
}

/// Names become folder names: no separators, no `..`, nothing hidden.
fn is_safe(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with('.')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn listed(dirs: &[PathBuf]) -> String {
    if dirs.is_empty() {
        return "no folder, as none is configured".to_owned();
    }
    dirs.iter().map(|dir| format!("`{}`", dir.display())).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alias(name: &str, alias: &str) -> ModelRef {
        ModelRef::Alias { name: name.into(), alias: alias.into() }
    }

    fn version(name: &str, version: &str) -> ModelRef {
        ModelRef::Version { name: name.into(), version: version.into() }
    }

    fn at(path: &str) -> ModelRef {
        ModelRef::File { path: path.into() }
    }

    #[test]
    fn models_are_found_in_the_first_folder_that_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().join("a"), dir.path().join("b")];
        for folder in ["a/one", "b/one", "b/two", "src/mine"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        std::fs::write(dir.path().join("src/model.onnx"), "x").unwrap();
        let source = dir.path().join("src");
        let absolute = dir.path().join("b/two").display().to_string();
        let cases = [
            (alias("one", "production"), "a/one"),
            (version("one", "1"), "a/one"),
            (alias("two", "production"), "b/two"),
            (at("mine"), "src/mine"),
            (at("model.onnx"), "src/model.onnx"),
            (at("../b/two"), "src/../b/two"),
            (at(&absolute), "b/two"),
        ];
        for (model, expected) in cases {
            assert_eq!(resolve(&model, &dirs, &source), Ok(dir.path().join(expected)), "{model:?}");
        }
    }

    #[test]
    fn what_is_not_there_says_where_it_was_looked_for_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path().to_owned()];
        std::fs::create_dir(dir.path().join("one")).unwrap();
        let folder = dir.path().display().to_string();
        let hub = ModelRef::Hub { repo: "org/model".into(), revision: "main".into() };
        let cases = [
            (alias("missing", "production"), folder.as_str()),
            (alias("one", "canary"), "no alias `canary`"),
            (version("one", "2"), "no version `2`"),
            (alias("../one", "production"), "not allowed"),
            (alias(".hidden", "production"), "not allowed"),
            (alias("", "production"), "not allowed"),
            (version("a/b", "1"), "file:a/b"),
            (hub, "downloads are not enabled"),
            (at("nothing"), "does not exist"),
        ];
        for (model, expected) in cases {
            let text = resolve(&model, &dirs, dir.path()).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
        let text = resolve(&at("x"), &dirs, Path::new("")).unwrap_err().to_string();
        assert!(text.contains("absolute path"), "{text}");
    }
}
