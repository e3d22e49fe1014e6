//! Where a model's file keeps weights outside itself. A model may come from anywhere; it must not make the process read
//! files beyond its own folder.

use std::fs::File;
use std::path::{Path, PathBuf};

use millstream_engine::LoadError;
use millstream_model_files::open;

use crate::outline::Outline;

/// The external files of the model in `source`, each within the folder of `file`, from which it was opened.
///
/// # Errors
/// [`LoadError::Model`] when a name leads out of the folder, a file is missing, or `source` is not protobuf.
pub(crate) fn external_files(source: &File, file: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let outline = Outline::read(source).map_err(|error| {
        LoadError::Model(format!("`{}` is not an ONNX model: {error}; fetch the model anew", file.display()))
    })?;
    let folder = file.parent().unwrap_or(Path::new("."));
    outline.locations.iter().map(|location| resolve(folder, location)).collect()
}

/// The file that a location names: a plain file of the folder, by a plain name. ONNX Runtime reads other names in ways of its own, one of
/// them as an address in memory.
fn resolve(folder: &Path, location: &str) -> Result<PathBuf, LoadError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+ ".contains(&byte);
    if location.is_empty()
        || location.starts_with('.')
        || location.contains("_ORT_")
        || !location.bytes().all(is_plain)
    {
        return Err(LoadError::Model(format!(
            "the model keeps weights in `{location}`, which is not in its own folder, or no plain name of a file; use a model that \
             keeps its weights beside it"
        )));
    }
    let path = folder.join(location);
    open(&path)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::field;

    fn external_files_of(path: &Path) -> Result<Vec<PathBuf>, LoadError> {
        external_files(&open(path)?, path)
    }

    /// A model with one weight that lies in `location`.
    fn model(location: &str) -> Vec<u8> {
        let entry = [field(1, b"location"), field(2, location.as_bytes())].concat();
        let offset = [field(1, b"offset"), field(2, b"0")].concat();
        let tensor = [field(8, b"weight"), field(13, &entry), field(13, &offset)].concat();
        [vec![1 << 3, 8], field(2, b"maker"), field(7, &[field(2, b"graph"), field(5, &tensor)].concat())]
            .concat()
    }

    fn check(location: &str) -> Result<Vec<PathBuf>, LoadError> {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("model");
        std::fs::create_dir_all(folder.join("sub")).unwrap();
        std::fs::write(folder.join("model.onnx"), model(location)).unwrap();
        std::fs::write(folder.join("weights.bin"), "w").unwrap();
        std::fs::write(folder.join("sub/weights.bin"), "w").unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), folder.join("link")).unwrap();
        external_files_of(&folder.join("model.onnx"))
    }

    #[test]
    fn weights_stay_in_the_models_own_folder() {
        assert_eq!(check("weights.bin").unwrap().len(), 1);
        for (outside, reason) in [
            ("../secret", "not in its own folder"),
            ("/etc/passwd", "not in its own folder"),
            ("./sub/weights.bin", "no plain name"),
            ("sub/../../secret", "not in its own folder"),
            ("*/_ORT_MEM_ADDR_/*", "no plain name"),
            ("_ORT_MEM_ADDR_", "no plain name"),
            ("link", "is a link"),
            ("sub", "is not a plain file"),
            ("", "no plain name"),
        ] {
            let error = check(outside).unwrap_err().to_string();
            assert!(error.contains(reason), "{outside}: {error}");
        }
        assert!(check("missing.bin").unwrap_err().to_string().contains("cannot be read"));
    }

    #[test]
    fn broken_files_are_errors_and_end() {
        let whole = model("weights.bin");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.onnx");
        for end in 1..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            // Whatever it says, it neither panics nor finds a file that is not there.
            let _ = external_files_of(&path);
        }
        std::fs::write(&path, [0xff; 64]).unwrap();
        assert!(external_files_of(&path).unwrap_err().to_string().contains("is not an ONNX model"));
        let mut deep = Vec::new();
        for _ in 0..100 {
            deep = field(5, &field(6, &deep[deep.len().saturating_sub(100)..]));
            deep = field(1, &deep);
        }
        std::fs::write(&path, field(7, &deep[..deep.len().min(120)])).unwrap();
        let _ = external_files_of(&path);
    }
}
