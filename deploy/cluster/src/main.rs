//! The `cluster` binary; the command is in `lib.rs`. The environment is read here, and nowhere else.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use millstream::Environment;

/// A call is made on one thread and ends on another, thousands of times a second.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    millstream::run(environment())
}

/// The variables of the environment. One whose name is not UTF-8 is left out: nothing here asks for it.
#[expect(clippy::disallowed_methods, reason = "read here once, and passed on")]
fn environment() -> Environment {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect()
}
