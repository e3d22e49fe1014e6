//! Rules of the repository that no compiler checks. One file per rule; nothing of the workspace is compiled for them.
//!
//! - `dependencies`: which package may know which, versions in one place, `unsafe` forbidden;
//! - `circles`: no files import each other in a circle;
//! - `counts`: long files and functions, many parameters and fields, listed in `debts.txt`;
//! - `core`: decisions are free of I/O, time and chance;
//! - `headers`: every file says why it exists, no file names a folder of one machine;
//! - `links`: every relative link of a page leads somewhere;
//! - `targets`: every file of a folder of tests is compiled.
//!
//! The list may only shrink. `TIDY_UPDATE=1 cargo test -p millstream-tests --test tidy` takes out what has become
//! better and refuses to add; a line that has to be added, is added by hand and seen in review.

#![expect(clippy::unwrap_used, reason = "a test")]

mod circles;
mod core;
mod counts;
mod dependencies;
mod files;
mod headers;
mod imports;
mod links;
mod list;
mod modules;
mod targets;
mod uses;
