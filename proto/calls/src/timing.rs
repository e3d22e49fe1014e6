//! What a replica says of a call's time.

use std::sync::Arc;
use std::time::Duration;

use crate::call::TraceContext;

/// Most calls of a batch that are named by their spans.
pub const MAX_MATES: usize = 16;

/// Where a call's time in its replica went.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Timing {
    /// From its arrival until it began to run: behind others, or for company.
    pub waited: Duration,
    /// From there to the answer.
    pub ran: Duration,
    /// Inputs of all calls that ran together with its first; 0 where that is not known.
    pub batch_size: u32,
    /// Tokens of its inputs; 0 for what has none.
    pub input_tokens: u32,
    /// Tokens that were made for it; 0 for what makes none.
    pub output_tokens: u32,
    /// The calls that ran together with its first input, itself included: at most [`MAX_MATES`] of those that have a trace. `None`
    /// where there was no other.
    pub mates: Option<Arc<[SpanRef]>>,
}

/// A span of a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanRef {
    /// The trace.
    pub trace_id: [u8; 16],
    /// The span.
    pub span_id: [u8; 8],
}

impl From<&TraceContext> for SpanRef {
    fn from(context: &TraceContext) -> Self {
        Self { trace_id: context.trace_id, span_id: context.parent_id }
    }
}
