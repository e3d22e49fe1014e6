//! Captures: requests of pipelines that ask for it (`[capture]`), with their answers, kept on disk or sent to a receiver of
//! CloudEvents, so that a new revision can be tried on them.
//!
//! ```text
//! request ── drawn? ── ends ──▶ queue, bounded ──▶ a thread: redact, render ──▶ a ring of files
//!                                    │                                      └─▶ a task for each sink: HTTP
//!                                    └▶ full: dropped, and counted
//! ```
//!
//! A request never waits for its capture, and one that is not drawn costs a look at whether its pipeline captures. These are
//! contents: nothing of them goes anywhere else, and what the file redacts does not leave the process.

mod backlog;
mod captures;
mod event;
mod ring;
mod room;
mod sink;
mod source;
mod writer;

pub(crate) use self::captures::{Captures, PipelineCapture};
