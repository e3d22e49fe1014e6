//! A bound on the bytes that wait for something.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many KiB may wait.
const MAX_KIB: u32 = 64 << 10;

/// See the module. Cloning shares it.
#[derive(Clone)]
pub(super) struct Backlog(Arc<Semaphore>);

/// A place of something that waits; given back when this is dropped.
pub(super) type Place = OwnedSemaphorePermit;

impl Backlog {
    /// Nothing waits.
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_KIB as usize)))
    }

    /// A place for so many bytes; none while there is no room.
    pub(super) fn place(&self, bytes: u64) -> Option<Place> {
        let kib = u32::try_from(bytes / 1024 + 1).ok()?;
        self.0.clone().try_acquire_many_owned(kib).ok()
    }

    /// Waits until nothing waits any more.
    pub(super) async fn until_empty(&self) {
        let _ = self.0.acquire_many(MAX_KIB).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_fit_has_no_place_until_others_have_left() {
        let backlog = Backlog::new();
        assert!(backlog.place(u64::MAX).is_none());
        assert!(backlog.place(1024 * u64::from(MAX_KIB)).is_none(), "one KiB more than there is");
        let half = backlog.place(40 << 20).unwrap();
        assert!(backlog.place(40 << 20).is_none());
        drop(half);
        assert!(backlog.place(40 << 20).is_some());
        backlog.until_empty().await;
    }
}
