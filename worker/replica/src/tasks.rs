//! Calls of a concurrent engine: each a future on the caller's thread up to its first wait, and then on the runtime.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_util::FutureExt as _;
use millstream_calls::call::{CallRequest, PendingCall, Reply};
use millstream_engine::ConcurrentEngine;

use crate::panics::panic_text;
use crate::shared::{Event, Shared};

/// Runs a call: one that never waits costs no task.
pub(crate) fn run(
    shared: &Arc<Shared>,
    engine: &dyn ConcurrentEngine,
    request: CallRequest,
    reply: Reply,
    pending: PendingCall,
) -> PendingCall {
    let _context = shared.runtime.enter();
    let first = catch_unwind(AssertUnwindSafe(|| {
        let mut future = engine.call(request, reply);
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => None,
            Poll::Pending => Some(future),
        }
    }));
    match first {
        Ok(None) => pending,
        Ok(Some(future)) => {
            let task = shared.runtime.spawn(finish(future, shared.clone()));
            pending.on_drop(move || task.abort())
        }
        Err(panic) => {
            crash(shared, &*panic);
            pending
        }
    }
}

/// The rest of a call that has to wait; the replica's end drops it.
async fn finish(future: Pin<Box<dyn Future<Output = ()> + Send>>, shared: Arc<Shared>) {
    let guarded = AssertUnwindSafe(future).catch_unwind();
    if let Some(Err(panic)) = shared.stop.run_until_cancelled(guarded).await {
        crash(&shared, &*panic);
    }
}

/// A panic in an engine ends its replica: nothing new gets in, what is under way ends, the owner is told.
fn crash(shared: &Shared, panic: &(dyn Any + Send)) {
    shared.stop();
    shared.tell(Event::Ended(Some(panic_text(panic))));
}
