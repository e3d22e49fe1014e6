//! Work with a deadline, for the request path.

use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

/// The deadline came first.
#[derive(Debug)]
pub(crate) struct TooLate;

/// The work's result, unless the instant comes first. A timer is made only for work that is not done at once. The work
/// stays where it is: one that is taken by value would have its place twice in what awaits it.
pub(crate) async fn within<T>(
    deadline: Instant,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> Result<T, TooLate> {
    match futures_util::poll!(work.as_mut()) {
        Poll::Ready(result) => Ok(result),
        Poll::Pending => tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| TooLate),
    }
}
