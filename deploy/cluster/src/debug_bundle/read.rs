//! Reads a bundle. It may come from anywhere: sizes are bounded, paths are only names, and nothing is written to disk.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;
use serde::de::DeserializeOwned;

use super::{FORMAT, FORMAT_VERSION, Manifest, file};
use crate::exit::Failure;
use crate::input;

/// Largest archive that is read, packed and unpacked.
const MAX_PACKED_BYTES: u64 = 256 << 20;
const MAX_BYTES: u64 = 512 << 20;

/// A bundle in memory.
pub(crate) struct Contents {
    /// What was read, for messages.
    name: String,
    /// What it says of itself.
    pub(crate) manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
}

impl Contents {
    /// Reads a bundle's file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let packed = input::read_file("bundle", path, MAX_PACKED_BYTES)?;
        Self::unpack(path.display().to_string(), &packed)
    }

    pub(super) fn unpack(name: String, packed: &[u8]) -> Result<Self, Failure> {
        let foreign =
            |why: &str| Failure::failed(format!("`{name}` is not a bundle of `cluster debug bundle`: {why}"));
        let broken = |error: std::io::Error| foreign(&format!("it cannot be read as a .tar.gz ({error})"));
        let mut archive = tar::Archive::new(GzDecoder::new(packed).take(MAX_BYTES));
        let mut files = BTreeMap::new();
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path().map_err(broken)?.into_owned();
            // Its folder's name is the time at which it was written.
            let path: Vec<_> = path.iter().skip(1).map(|part| part.to_string_lossy()).collect();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(broken)?;
            files.insert(path.join("/"), bytes);
        }
        let manifest = files.remove(file::MANIFEST).ok_or_else(|| foreign("it has no `manifest.json`"))?;
        let manifest: Manifest = serde_json::from_slice(&manifest)
            .map_err(|error| foreign(&format!("its `manifest.json` cannot be read ({error})")))?;
        if manifest.format != FORMAT {
            return Err(foreign(&format!("its manifest says `{}`", manifest.format)));
        }
        if manifest.format_version > FORMAT_VERSION {
            return Err(Failure::failed(format!(
                "`{name}` has format {}, this program knows {FORMAT_VERSION}; read it with version {} of the command, which \
                 wrote it",
                manifest.format_version, manifest.command_version
            )));
        }
        Ok(Self { name, manifest, files })
    }

    /// A document of it.
    ///
    /// # Errors
    /// When it is not there, with the reason that the manifest gives, or cannot be read.
    pub(crate) fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let bytes = self.files.get(path).ok_or_else(|| self.missing(path))?;
        serde_json::from_slice(bytes)
            .map_err(|error| Failure::failed(format!("`{path}` in `{}` cannot be read: {error}", self.name)))
    }

    /// A text of it.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn text(&self, path: &str) -> Result<&str, Failure> {
        let bytes = self.files.get(path).ok_or_else(|| self.missing(path))?;
        std::str::from_utf8(bytes)
            .map_err(|_| Failure::failed(format!("`{path}` in `{}` is not text", self.name)))
    }

    fn missing(&self, path: &str) -> Failure {
        let told = self.manifest.missing.iter().find(|missing| missing.path == path);
        let is_of_pipeline = path.starts_with(file::PIPELINES);
        let left_out =
            || self.manifest.left_out.iter().find(|what| is_of_pipeline && what.contains("pipelines"));
        let why = told.map(|missing| missing.why.clone());
        let why = why.or_else(|| left_out().map(|what| format!("left out: {what}")));
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        Failure::failed(format!("`{}` has no `{path}`{why}", self.name))
    }
}
