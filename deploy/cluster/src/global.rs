//! Flags of every command.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use millstream_connect::Heads;
use millstream_worker::Environment;

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Global {
    /// Print JSON on stdout instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The control addresses of the cluster's heads; without it those in the data directory, else 127.0.0.1:7400.
    #[arg(long, global = true, value_name = "HOST:PORT,…", env = "MILLSTREAM_CLUSTER")]
    pub(crate) cluster: Option<Heads>,
    /// Folder for the store, models, tokens, captures and endpoints.json [default: ~/.local/share/millstream].
    #[arg(long, global = true, value_name = "DIR", env = "MILLSTREAM_DATA_DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// File that holds the admin token; without it `admin.token` in the data directory. With `up --join`: the file that
    /// holds the join token.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Accept that nothing is encrypted: with `up` that other machines reach its listeners, so that everybody there can
    /// call your models; with other commands that what is said to the cluster can be read and changed on the way.
    #[arg(long, global = true)]
    pub(crate) insecure: bool,
    /// What to log on stderr, such as `info` or `warn,millstream_head=debug`.
    #[arg(long, global = true, value_name = "FILTER", env = "MILLSTREAM_LOG", default_value = "warn")]
    pub(crate) log: String,
    /// How to log.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// When to use colours.
    #[arg(long, global = true, value_enum, default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
    /// The environment as `main` found it, for settings that have no flag.
    #[arg(skip)]
    pub(crate) environment: Environment,
}

/// Where clear text may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClearText {
    /// It stays on this machine.
    Here,
    /// Somebody has accepted that others can read it, and change it (`--insecure`).
    Anywhere,
}

impl Global {
    /// Where what is said to a cluster may go: there is no TLS.
    pub(crate) fn clear_text(&self) -> ClearText {
        if self.insecure { ClearText::Anywhere } else { ClearText::Here }
    }
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}
