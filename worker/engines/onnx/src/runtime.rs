//! Loading ONNX Runtime, once per process: it keeps process-wide state and cannot be unloaded.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use millstream_engine::LoadError;
use ort::environment::Environment;

/// Kept for the life of the process once the library is loaded.
static LOADED: Mutex<Option<Environment>> = Mutex::new(None);

/// The environment that sessions are made in; the first call loads the first of `files` that can be loaded.
///
/// # Errors
/// [`LoadError::NotInstalled`] when none can be; a later call tries again.
pub(crate) fn environment(files: &[PathBuf]) -> Result<Environment, LoadError> {
    let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*loaded {
        return Ok(environment.clone());
    }
    let mut reasons = Vec::new();
    for file in files {
        let builder = match ort::init_from(file) {
            Ok(builder) => builder,
            Err(error) => {
                reasons.push(error.to_string());
                continue;
            }
        };
        let environment = builder.with_name("millstream").with_telemetry(false).build().map_err(|error| {
            LoadError::NotInstalled(format!("ONNX Runtime at `{}` does not start: {error}", file.display()))
        })?;
        tracing::info!(path = %file.display(), "loaded ONNX Runtime");
        return Ok(loaded.insert(environment).clone());
    }
    Err(LoadError::NotInstalled(format!(
        "ONNX Runtime cannot be loaded: {}; install version 1.17 or later for this machine",
        reasons.join("; ")
    )))
}
