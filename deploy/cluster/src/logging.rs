//! Structured logs on stderr.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::exit::Failure;
use crate::global::{Global, LogFormat};

/// Whether each request of an ingress is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AccessLog {
    /// It is.
    On,
    /// Those alone that the server failed.
    Off,
}

/// Starts logging as the flags say.
pub(crate) fn start(global: &Global, access_log: AccessLog) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&global.log).map_err(|error| {
        Failure::usage(format!(
            "--log `{}` is not a filter: {error}; try `info` or `warn,millstream_head=debug`",
            global.log
        ))
    })?;
    // The numbers of actors tell nobody anything, and the access log is a flag of its own.
    let access = match access_log {
        AccessLog::On => LevelFilter::INFO,
        AccessLog::Off => LevelFilter::OFF,
    };
    let filter = [("ractor", LevelFilter::WARN), (millstream_ingress::ACCESS_LOG, access)]
        .into_iter()
        .filter(|(target, _)| !global.log.contains(target))
        .filter_map(|(target, level)| format!("{target}={level}").parse().ok())
        .fold(filter, EnvFilter::add_directive);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // They would go to stderr too, and panic when nobody reads it.
        .log_internal_errors(false)
        .with_ansi(crate::style::stderr_has_color());
    match global.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
