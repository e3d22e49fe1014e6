//! Traces of requests: where the time of each went, put together here from what the ingress sees and what replicas report with
//! their answers. So a trace is whole when its request ends, and which ones are kept is decided then: all that failed and the
//! slow ones (tail sampling), and a sample of the rest.
//!
//! ```text
//! request ── Trace: calls as they end ──▶ end ──▶ keep::decide ──▶ RequestTrace ──▶ head: the last of each kind, for people
//!                                                                             └──▶ exporter: OTLP, where one is asked for
//! ```
//!
//! A request whose trace is not kept costs a few clock readings, written into memory that another trace had before.

mod keep;
mod pool;
mod record;
mod traces;
mod view;

pub(crate) use self::keep::SlowThreshold;
pub(crate) use self::record::{Trace, TracedCall, TracedTry};
pub use self::traces::{Exporter, TraceConfig};
pub(crate) use self::traces::{KeptTraces, Traces};
pub(crate) use self::view::Finished;
