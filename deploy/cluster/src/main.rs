//! The `cluster` binary; the command is in `lib.rs`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// A call is made on one thread and ends on another, thousands of times a second.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    millstream::run()
}
