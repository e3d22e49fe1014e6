//! A bare axum echo that stays up, for `tests/bench/run`: `bench-axum-echo ADDRESS_FILE`.

use std::path::Path;

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let file = std::env::args().nth(1).context("no file to write the address to")?;
    millstream_tests::axum_echo::serve(Path::new(&file))
}
