//! The bundled example and its models. They are part of the binary, so that one file serves real answers on any
//! machine; at the first start the models are laid out in the data directory, where engines read them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context as _, Result};

/// Name and text of the pipeline that `cluster up` deploys when it is given none.
pub(crate) const EXAMPLE: (&str, &str) = ("rag.toml", include_str!("../../../pipelines/examples/rag.toml"));

/// Relative path and content of every file of the bundled models.
const MODELS: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/bundled_models.rs"));

/// Lays the models out under `data_dir/models`; returns that folder. What is there is compared with what the binary has: a file that was
/// changed, or cut off by a crash, is written anew.
pub(crate) fn lay_out(data_dir: &Path) -> Result<PathBuf> {
    let folder = data_dir.join("models");
    for (name, content) in MODELS {
        let path = folder.join(name);
        if is_there(&path, content) {
            continue;
        }
        write(&path, content)
            .with_context(|| format!("cannot write the bundled model file `{}`", path.display()))?;
    }
    Ok(folder)
}

fn is_there(path: &Path, content: &[u8]) -> bool {
    let same_size =
        fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == content.len() as u64);
    same_size && fs::read(path).is_ok_and(|found| found == content)
}

/// Writes a file so that it is there whole or not at all.
fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_what_the_binary_has() {
        let folder = tempfile::tempdir().unwrap();
        let models = lay_out(folder.path()).unwrap();
        let config = models.join("mini-embedder/config.json");
        let (whole, written) = (fs::read(&config).unwrap(), config.metadata().unwrap().modified().unwrap());
        lay_out(folder.path()).unwrap();
        assert_eq!(config.metadata().unwrap().modified().unwrap(), written, "not written again");
        for changed in [&whole[1..], &[&whole[..whole.len() - 1], b"x"].concat()] {
            fs::write(&config, changed).unwrap();
            lay_out(folder.path()).unwrap();
            assert_eq!(fs::read(&config).unwrap(), whole);
        }
        fs::remove_file(&config).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", &config).unwrap();
        lay_out(folder.path()).unwrap();
        assert_eq!(fs::read(&config).unwrap(), whole, "a link is replaced");
    }
}
