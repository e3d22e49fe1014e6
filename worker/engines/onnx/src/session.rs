//! The settings that all sessions have.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

/// A session to be, with `threads` threads. They wait instead of spinning: replicas share their cores with one another and with the servers, and a thread that
/// spins for its neighbour's work takes the core that the neighbour needs.
///
/// # Errors
/// ONNX Runtime's.
pub(crate) fn builder(environment: &Environment, threads: usize) -> ort::Result<SessionBuilder> {
    Session::builder(environment)?
        .with_intra_threads(threads)
        .map_err(plain)?
        .with_inter_threads(1)
        .map_err(plain)?
        .with_intra_op_spinning(false)
        .map_err(plain)?
        // What fails is told by the run's own error; its log would tell it once more, for every bad input of a client.
        .with_log_level(LogLevel::Fatal)
        .map_err(plain)
}

/// A session of the model in `file`, with weights of its own.
///
/// # Errors
/// ONNX Runtime's.
pub(crate) fn of_file(environment: &Environment, threads: usize, file: &Path) -> ort::Result<Session> {
    let builder = builder(environment, threads)?;
    builder.with_optimization_level(GraphOptimizationLevel::Level3).map_err(plain)?.commit_from_file(file)
}

/// Where an open file is, for those who want a path; where the system has no such paths, the one that it was opened by.
pub(crate) fn path_of(file: &File, opened_by: &Path) -> PathBuf {
    if cfg!(target_os = "linux") {
        return PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    }
    opened_by.to_path_buf()
}

/// Drops the builder that an option's error carries for recovery.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(crate) fn plain<R>(error: ort::Error<R>) -> ort::Error {
    ort::Error::new_with_code(error.code(), error.message().to_owned())
}
