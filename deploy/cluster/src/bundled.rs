//! The bundled example and its models. They are part of the binary, so that one file serves real answers on any
//! machine; at the first start the models are laid out in the data directory, where engines map them into memory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Name and text of the pipeline that `cluster up` deploys when it is given none.
pub(crate) const EXAMPLE: (&str, &str) = ("rag.toml", include_str!("../../../pipelines/examples/rag.toml"));

/// Relative path and content of every file of the bundled models.
const MODELS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/bundled_models.rs"));

/// Changes with the content of the models.
const FINGERPRINT: &str = env!("BUNDLED_FINGERPRINT");

/// Lays the models out under `data_dir/models` unless this very set is there; gives that folder.
pub(crate) fn lay_out(data_dir: &Path) -> Result<PathBuf> {
    let folder = data_dir.join("models");
    let marker = folder.join(".bundled");
    if fs::read_to_string(&marker).is_ok_and(|found| found == FINGERPRINT) {
        return Ok(folder);
    }
    for (name, content) in MODELS {
        let path = folder.join(name);
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            fs::write(&path, content)
        };
        write().with_context(|| format!("cannot write the bundled model file `{}`", path.display()))?;
    }
    fs::write(&marker, FINGERPRINT).with_context(|| format!("cannot write `{}`", marker.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_laid_out_once_and_again_when_they_differ() {
        let folder = tempfile::tempdir().unwrap();
        let models = lay_out(folder.path()).unwrap();
        let config = models.join("mini-embedder/config.json");
        assert!(config.exists());
        fs::write(&config, "edited").unwrap();
        lay_out(folder.path()).unwrap();
        assert_eq!(fs::read_to_string(&config).unwrap(), "edited");
        fs::write(models.join(".bundled"), "another build").unwrap();
        lay_out(folder.path()).unwrap();
        assert_ne!(fs::read_to_string(&config).unwrap(), "edited");
    }
}
