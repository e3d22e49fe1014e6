//! Memory for traces, used again. Nearly all traces are forgotten when their requests end: the memory that was written last is
//! still in the processor's cache, where memory that the allocator gives is not.

use std::cell::RefCell;
use std::sync::Arc;

use rand::Rng as _;
use rand::rngs::SmallRng;

use super::record::Trace;
use crate::random;

/// Most traces that a thread keeps the memory of.
const MAX_KEPT: usize = 64;
/// Memory for more calls than these is given back.
const MAX_CALLS_KEPT: usize = 16;

thread_local! {
    /// Traces that are over; the one whose memory was used last comes last. Nobody else holds them.
    static OVER: RefCell<Vec<Arc<Trace>>> = const { RefCell::new(Vec::new()) };
    /// Ids of traces are no secrets.
    static IDS: RefCell<SmallRng> = RefCell::new(random::small_rng());
}

/// Begins a trace where one was before, if there is such a place.
pub(super) fn begin(begin: impl FnOnce(&mut Trace)) -> Arc<Trace> {
    let old = OVER.try_with(|over| over.borrow_mut().pop()).ok().flatten();
    let mut place = old.unwrap_or_default();
    if let Some(trace) = Arc::get_mut(&mut place) {
        begin(trace);
    }
    place
}

/// Random bits for the ids of a trace and its spans.
pub(super) fn random() -> [u64; 2] {
    IDS.with_borrow_mut(|ids| ids.random())
}

/// A trace is over.
pub(super) fn give_back(mut trace: Arc<Trace>) {
    let Some(last) = Arc::get_mut(&mut trace) else { return };
    if last.forget() > MAX_CALLS_KEPT {
        return;
    }
    // A thread that ends has no such list any more.
    let _ = OVER.try_with(|over| {
        let over = &mut *over.borrow_mut();
        if over.len() < MAX_KEPT {
            over.push(trace);
        }
    });
}
