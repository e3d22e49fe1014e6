//! The error of a model that asks for what this engine does not run.

use millstream_engine::LoadError;

/// A setting that this engine does not run.
pub(crate) fn unsupported(key: &str, value: &str, supported: &str) -> LoadError {
    LoadError::Unsupported(format!("`config.json`: `{key}` is `{value}`; `generator` runs {supported}"))
}
