//! Writes a bundle, in memory first: it is a few megabytes, and a file that is there is a whole one.

use std::io::{self, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;

use super::{Entry, FORMAT, FORMAT_VERSION, Manifest, Missing, Redaction, file};
use crate::exit::Failure;

/// Documents that are longer are written without line breaks: a number a line helps nobody.
const MAX_PRETTY_BYTES: usize = 64 << 10;

fn json(document: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string(document)?;
    if text.len() > MAX_PRETTY_BYTES { Ok(text) } else { serde_json::to_string_pretty(document) }
}

/// A bundle that is being filled.
pub(crate) struct Bundle {
    redaction: Redaction,
    files: Vec<(Entry, Vec<u8>)>,
    missing: Vec<Missing>,
    left_out: Vec<String>,
    takes_pipelines: bool,
}

impl Bundle {
    /// An empty one; what comes in loses these secrets.
    pub(crate) fn new(redaction: Redaction) -> Self {
        Self {
            redaction,
            files: Vec::new(),
            missing: Vec::new(),
            left_out: Vec::new(),
            takes_pipelines: true,
        }
    }

    /// Adds a file. It may have been missed before.
    pub(crate) fn add(&mut self, path: impl Into<String>, what: impl Into<String>, bytes: &[u8]) {
        let bytes = self.redaction.apply(bytes);
        let entry = Entry { path: path.into(), bytes: bytes.len(), what: what.into() };
        self.missing.retain(|missing| missing.path != entry.path);
        self.files.push((entry, bytes));
    }

    /// Adds a document, or says why it could not be had.
    pub(crate) fn add_json<T: Serialize>(&mut self, path: &str, what: &str, found: Result<T, Failure>) {
        let text = found.and_then(|found| json(&found).map_err(|error| Failure::failed(error.to_string())));
        match text {
            Ok(text) => self.add(path, what, format!("{text}\n").as_bytes()),
            Err(failure) => self.miss(path, failure.message()),
        }
    }

    /// Says that a file is not there, and why.
    pub(crate) fn miss(&mut self, path: impl Into<String>, why: impl Into<String>) {
        let why = self.redaction.apply(why.into().as_bytes());
        let why = String::from_utf8_lossy(&why).into_owned();
        self.missing.push(Missing { path: path.into(), why });
    }

    /// Says that something is not there because somebody wants it so.
    pub(crate) fn leave_out(&mut self, what: impl Into<String>) {
        self.left_out.push(what.into());
    }

    /// Says that pipelines' files are not there because somebody wants it so.
    pub(crate) fn leave_out_pipelines(&mut self, what: impl Into<String>) {
        self.takes_pipelines = false;
        self.leave_out(what);
    }

    /// Whether pipelines' files are to be there.
    pub(crate) fn takes_pipelines(&self) -> bool {
        self.takes_pipelines
    }

    /// Whether there is a file.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.iter().any(|(entry, _)| entry.path == path)
    }

    /// Whether there is anything in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The archive with all files in a folder of that name, and what is in it.
    pub(crate) fn pack(self, folder: &str, now_ms: u64) -> io::Result<(Manifest, Vec<u8>)> {
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            command_version: env!("CARGO_PKG_VERSION").to_owned(),
            created_at_ms: now_ms,
            files: self.files.iter().map(|(entry, _)| entry.clone()).collect(),
            missing: self.missing,
            left_out: self.left_out,
        };
        let text = serde_json::to_string_pretty(&manifest)? + "\n";
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        let mut append = |path: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(now_ms / 1000);
            archive.append_data(&mut header, format!("{folder}/{path}"), bytes)
        };
        append(file::MANIFEST, text.as_bytes())?;
        for (entry, bytes) in &self.files {
            append(&entry.path, bytes)?;
        }
        let mut bytes = archive.into_inner()?.finish()?;
        bytes.flush()?;
        Ok((manifest, bytes))
    }
}
