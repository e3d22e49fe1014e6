//! Structured logs on stderr.

use tracing_subscriber::EnvFilter;

use crate::exit::Failure;
use crate::global::{Global, LogFormat};

/// Starts logging as the flags say.
pub(crate) fn start(global: &Global) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&global.log).map_err(|error| {
        Failure::usage(format!(
            "--log `{}` is not a filter: {error}; try `info` or `warn,millstream_head=debug`",
            global.log
        ))
    })?;
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
