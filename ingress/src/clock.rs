//! The one place of this crate that reads a clock. It follows tokio's, so that tests may pause it.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

/// The present instant.
#[must_use]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The deadline came first.
#[derive(Debug)]
pub(crate) struct TooLate;

/// The work's result, unless the instant comes first. A timer is made only for work that is not done at once.
pub(crate) async fn within<T>(deadline: Instant, work: impl Future<Output = T>) -> Result<T, TooLate> {
    let mut work = pin!(work);
    match futures_util::poll!(work.as_mut()) {
        Poll::Ready(result) => Ok(result),
        Poll::Pending => tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| TooLate),
    }
}
