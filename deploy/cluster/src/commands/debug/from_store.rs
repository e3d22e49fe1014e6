//! What a bundle has from the store of a head that is away: the decisions and files that it wrote down. Read from a copy, so that
//! nothing of the store is changed.

use std::fs;
use std::path::Path;

use millstream_head::stored::{Stored, StoredText, read};
use serde_json::json;

use crate::data_dir::DataDir;
use crate::debug_bundle::{Bundle, file};
use crate::exit::Failure;

/// Takes them, if the store is here.
pub(super) async fn collect(data_dir: &DataDir, bundle: &mut Bundle) {
    match copy_and_read(data_dir.path()).await {
        Ok(None) => {}
        Err(failure) => bundle.miss(format!("{}/{}", file::PIPELINES, "*"), failure.message()),
        Ok(Some(Stored { events, texts })) => {
            let what = "the decisions that the head's store has; the head itself is away";
            bundle.add_json(file::EVENTS, what, Ok(json!({ "events": events })));
            let takes_pipelines = bundle.takes_pipelines();
            for StoredText { pipeline, revision, file_name, source } in
                texts.iter().filter(|_| takes_pipelines)
            {
                let what = format!("`{file_name}` as the head's store has it");
                bundle.add(file::pipeline(pipeline, *revision), what, source.as_bytes());
            }
        }
    }
}

/// What the store in the folder has; `None` without one.
async fn copy_and_read(folder: &Path) -> Result<Option<Stored>, Failure> {
    let original = folder.join(millstream_head::stored::FILE_NAME);
    if !original.exists() {
        return Ok(None);
    }
    let failed = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("the store `{}` cannot be read: {error}", original.display()))
    };
    let copy = tempfile::tempdir().map_err(|error| failed(&error))?;
    fs::copy(&original, copy.path().join(millstream_head::stored::FILE_NAME))
        .map_err(|error| failed(&error))?;
    read(copy.path()).await.map(Some).map_err(|error| failed(&error))
}
