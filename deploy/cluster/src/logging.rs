//! Structured logs on stderr.

use tracing_subscriber::EnvFilter;

use crate::cli::{Global, LogFormat};
use crate::exit::Failure;

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
        .with_ansi(crate::style::stderr_has_color());
    match global.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
