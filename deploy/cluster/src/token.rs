//! The admin token: which file holds it, and what is in it. A head takes the token that its own commands prove to know.

use std::path::Path;

use anyhow::{Result, bail};

use crate::data_dir::DataDir;
use crate::global::Global;
use crate::input;

/// Largest file that is read.
const MAX_FILE_BYTES: u64 = 4096;

/// The token that calls to a cluster prove to know.
pub(crate) fn find(global: &Global, data_dir: &DataDir) -> Result<String> {
    let file = global.token_file.clone().unwrap_or_else(|| data_dir.token_file());
    read("admin token", &file)
}

/// The token of a head of this data directory: made at its first start, unless a file is named.
pub(crate) fn find_or_make(global: &Global, data_dir: &DataDir) -> Result<String> {
    match &global.token_file {
        Some(file) => read("admin token", file),
        None => data_dir.admin_token(),
    }
}

/// The token in a file.
pub(crate) fn read(what: &str, file: &Path) -> Result<String> {
    let text = input::read_text(&format!("the {what}'s file"), file, MAX_FILE_BYTES)?;
    match text.trim() {
        "" => bail!("the {what}'s file `{}` is empty", file.display()),
        token => Ok(token.to_owned()),
    }
}
