//! A concurrent engine: its calls, each a future on the caller's thread up to its first wait and then on the runtime; its health, and
//! its end.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::FutureExt as _;
use millstream_calls::call::{CallRequest, PendingCall, Reply};
use millstream_engine::ConcurrentEngine;

use crate::panics::panic_text;
use crate::shared::{Event, Shared};

/// How often an engine is asked whether it is well.
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);
/// How long it may take to say so.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(5);
/// Errors in a row that end its replica.
const MAX_ERRORS: u32 = 3;
/// How long its end may take.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Looks after an engine until the replica ends, and then ends it.
pub(crate) async fn watch(shared: Arc<Shared>, engine: Arc<dyn ConcurrentEngine>) {
    let error = shared.stop.run_until_cancelled(becomes_unwell(&*engine)).await;
    shared.stop();
    let failed = error.is_some();
    if failed {
        shared.tell(Event::Ended(error));
    }
    let end = AssertUnwindSafe(async { engine.end().await }).catch_unwind();
    if !matches!(tokio::time::timeout(END_TIMEOUT, end).await, Ok(Ok(()))) {
        tracing::warn!("an engine did not end as it should");
    }
    if !failed {
        shared.tell(Event::Ended(None));
    }
}

/// Why an engine is no longer well, once that is certain.
async fn becomes_unwell(engine: &dyn ConcurrentEngine) -> String {
    let mut num_errors = 0;
    loop {
        tokio::time::sleep(HEALTH_INTERVAL).await;
        let health = AssertUnwindSafe(async { engine.health().await }).catch_unwind();
        let error = match tokio::time::timeout(HEALTH_TIMEOUT, health).await {
            Ok(Ok(Ok(()))) => {
                num_errors = 0;
                continue;
            }
            Ok(Ok(Err(error))) => error,
            Ok(Err(panic)) => panic_text(&*panic),
            Err(_) => format!("what the engine waits for did not answer within {HEALTH_TIMEOUT:?}"),
        };
        num_errors += 1;
        if num_errors >= MAX_ERRORS {
            return error;
        }
    }
}

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
