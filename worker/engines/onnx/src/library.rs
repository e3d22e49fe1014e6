//! Where ONNX Runtime's library may be. Finding it only looks at folders; nothing is loaded or run here.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use millstream_engine::LoadError;

/// How to get the library, for every message that misses it.
const HOW_TO_GET_IT: &str = "get it with `tests/setup`, or with `pip download --no-deps onnxruntime` and `unzip -j \
    onnxruntime-*.whl 'onnxruntime/capi/libonnxruntime.*' -d DATA_DIR/lib`, or install the Python package `onnxruntime`";

/// Where to look for the library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// A file or folder that somebody named, and how; then nothing else is looked at.
    pub explicit: Option<(PathBuf, &'static str)>,
    /// Folders, in order; a component may end in `*`.
    pub folders: Vec<PathBuf>,
}

/// The places to look at: `configured`, else `ORT_DYLIB_PATH`, else in order the data directory's `lib`, the system's
/// library path, and Python's packages (an active environment, the user's, pyenv's, the system's). `variable` reads the
/// environment.
#[must_use]
pub fn places(
    configured: Option<&Path>,
    data_dir: &Path,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Places {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let explicit = match (configured, variable("ORT_DYLIB_PATH")) {
        (Some(path), _) => Some((path.to_path_buf(), "the settings")),
        (None, Some(path)) => Some((path.into(), "`ORT_DYLIB_PATH`")),
        (None, None) => None,
    };
    let mut folders = vec![data_dir.join("lib"), data_dir.to_path_buf()];
    for name in ["LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"] {
        folders
            .extend(variable(name).iter().flat_map(|paths| std::env::split_paths(paths).collect::<Vec<_>>()));
    }
    let arch = std::env::consts::ARCH;
    let multiarch = format!("/usr/lib/{arch}-linux-gnu");
    let system =
        ["/usr/local/lib", "/usr/lib", "/usr/lib64", &multiarch, "/opt/onnxruntime/lib", "/opt/homebrew/lib"];
    folders.extend(system.map(PathBuf::from));
    let home = variable("HOME").map(PathBuf::from);
    let pyenv =
        variable("PYENV_ROOT").map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join(".pyenv")));
    let environments =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(|name| variable(name)).map(PathBuf::from);
    let roots = environments
        .chain(home.map(|home| home.join(".local")))
        .chain(pyenv.map(|pyenv| pyenv.join("versions/*")))
        .chain([PathBuf::from("/usr/local"), PathBuf::from("/usr")]);
    for root in roots {
        for packages in ["lib/python3*/site-packages", "lib/python3*/dist-packages"] {
            folders.push(root.join(packages).join("onnxruntime/capi"));
        }
    }
    Places { explicit, folders }
}

impl Places {
    /// The library files that are there, best first.
    ///
    /// # Errors
    /// [`LoadError::NotInstalled`] when there is none; the text says how to get one.
    pub fn find(&self) -> Result<Vec<PathBuf>, LoadError> {
        if let Some((path, how)) = &self.explicit {
            let files = if path.is_dir() { libraries_in(path) } else { vec![path.clone()] };
            return match files.first() {
                Some(file) if file.is_file() => Ok(files),
                _ => Err(LoadError::NotInstalled(format!(
                    "ONNX Runtime is not at `{}`, named by {how}; correct the path, or {HOW_TO_GET_IT}",
                    path.display()
                ))),
            };
        }
        let files: Vec<PathBuf> = self
            .folders
            .iter()
            .flat_map(|folder| expand(folder))
            .flat_map(|folder| libraries_in(&folder))
            .collect();
        if files.is_empty() {
            let first = self.folders.first().map(|folder| folder.display().to_string()).unwrap_or_default();
            return Err(LoadError::NotInstalled(format!(
                "ONNX Runtime's library is not on this machine (looked in `{first}`, the system's library path and \
                 Python's packages); {HOW_TO_GET_IT}"
            )));
        }
        Ok(files)
    }
}

/// ONNX Runtime's library files in a folder, newest version first.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(Vec<u64>, PathBuf)> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((library_version(path.file_name()?.to_str()?)?, path)))
        .filter(|(_, path)| path.is_file())
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The numbers in the name of a library file, `None` for other files: `libonnxruntime.so.1.31.1` is 1, 31, 1.
fn library_version(name: &str) -> Option<Vec<u64>> {
    let rest = name.strip_prefix("libonnxruntime.")?;
    let is_library = rest == "so" || rest.starts_with("so.") || rest == "dylib" || rest.ends_with(".dylib");
    is_library.then(|| rest.split('.').filter_map(|part| part.parse().ok()).collect())
}

/// The folders that a path stands for when components end in `*`; last in the alphabet, so mostly newest, first.
fn expand(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let prefix = match component {
            Component::Normal(name) => name.to_str().and_then(|name| name.strip_suffix('*')),
            _ => None,
        };
        let Some(prefix) = prefix else {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        found = found.iter().flat_map(|path| children(path, prefix)).collect();
    }
    found
}

fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<OsString> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    names.retain(|name| name.to_str().is_some_and(|name| name.starts_with(prefix)));
    names.sort_unstable_by(|a, b| b.cmp(a));
    names.into_iter().map(|name| folder.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_comes_before_what_is_found() {
        let environment = |name: &str| (name == "ORT_DYLIB_PATH").then(|| OsString::from("/b"));
        let named = places(Some(Path::new("/a")), Path::new("/data"), environment);
        assert_eq!(named.explicit, Some((PathBuf::from("/a"), "the settings")));
        let by_environment = places(None, Path::new("/data"), environment);
        assert_eq!(by_environment.explicit, Some((PathBuf::from("/b"), "`ORT_DYLIB_PATH`")));
        assert_eq!(places(None, Path::new("/data"), |_| None).explicit, None);
    }

    #[test]
    fn folders_are_searched_from_the_data_directory_to_python() {
        let environment = |name: &str| match name {
            "HOME" => Some("/home/ann".into()),
            "VIRTUAL_ENV" => Some("/venv".into()),
            "LD_LIBRARY_PATH" => Some("/ld1:/ld2".into()),
            _ => None,
        };
        let folders = places(None, Path::new("/data"), environment).folders;
        let at = |path: &str| folders.iter().position(|folder| folder == Path::new(path));
        let order = [
            "/data/lib",
            "/ld1",
            "/ld2",
            "/usr/lib",
            "/venv/lib/python3*/site-packages/onnxruntime/capi",
            "/home/ann/.local/lib/python3*/site-packages/onnxruntime/capi",
            "/home/ann/.pyenv/versions/*/lib/python3*/site-packages/onnxruntime/capi",
            "/usr/lib/python3*/dist-packages/onnxruntime/capi",
        ];
        let positions: Vec<Option<usize>> = order.iter().map(|path| at(path)).collect();
        assert!(positions.iter().all(Option::is_some), "{positions:?}");
        assert!(positions.is_sorted(), "{positions:?}");
    }

    #[test]
    fn the_newest_library_of_a_python_package_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let packages = dir.path().join("lib/python3.11/site-packages/onnxruntime/capi");
        std::fs::create_dir_all(&packages).unwrap();
        for name in
            ["libonnxruntime.so.1.9.0", "libonnxruntime.so.1.31.1", "libonnxruntime_providers_shared.so"]
        {
            std::fs::write(packages.join(name), "").unwrap();
        }
        let pattern = dir.path().join("lib/python3*/site-packages/onnxruntime/capi");
        let files = Places { explicit: None, folders: vec![pattern] }.find().unwrap();
        let expected =
            ["libonnxruntime.so.1.31.1", "libonnxruntime.so.1.9.0"].map(|name| packages.join(name));
        assert_eq!(files, expected);
    }

    #[test]
    fn a_missing_library_says_how_to_get_it() {
        let places = Places { explicit: None, folders: vec!["/nowhere/lib".into()] };
        let error = places.find().unwrap_err().to_string();
        assert!(error.contains("`/nowhere/lib`") && error.contains("tests/setup"), "{error}");
        let named = Places { explicit: Some(("/nowhere/x.so".into(), "the settings")), folders: Vec::new() };
        let error = named.find().unwrap_err().to_string();
        assert!(error.contains("not at `/nowhere/x.so`, named by the settings"), "{error}");
    }
}
