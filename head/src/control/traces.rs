//! Traces of requests that ingresses have kept.

use std::sync::Arc;

use millstream_proto::trace::{RequestTrace, TracedRequest};

use super::Error;
use crate::host::Host;
use crate::traces::TraceFilter;

/// Most that are listed.
const MAX_LISTED: usize = 1000;

/// The requests whose traces were kept, the newest first.
pub(crate) fn list(host: &Host, filter: &TraceFilter, limit: usize) -> Vec<TracedRequest> {
    let found = host.traces.lock().newest(filter, limit.min(MAX_LISTED));
    found.iter().map(|trace| trace.request.clone()).collect()
}

/// The same, whole.
pub(crate) fn whole(host: &Host, filter: &TraceFilter, limit: usize) -> Vec<Arc<RequestTrace>> {
    host.traces.lock().newest(filter, limit.min(MAX_LISTED))
}

/// The trace of a request.
pub(crate) fn find(host: &Host, id: &str) -> Result<Arc<RequestTrace>, Error> {
    let found = host.traces.lock().find(id);
    found.ok_or_else(|| {
        let id: String = id.chars().take(100).collect();
        Error::NotFound(format!(
            "no trace of `{id}` is kept; there are those of requests that failed or were slow, and one other a second, of the \
             time since this head started; `cluster trace` lists them"
        ))
    })
}
