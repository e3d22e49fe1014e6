//! Keeps the newest of what changes, off the path of whoever changes it: one write for changes that follow closely.
//!
//! ```text
//! the owner of a Keeper
//! └─ keeper task     ends with the Keeper; a write that fails is tried again, for ever
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::KeptFile;

/// How long further changes are waited for.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How long it takes until a write that failed is tried again: disks that are full get room.
const RETRY: Duration = Duration::from_secs(5);

struct Newest {
    cluster_id: String,
    content: Vec<u8>,
}

/// Writes a file in the background. What was not written when it is dropped may be lost.
pub struct Keeper {
    newest: watch::Sender<Option<Arc<Newest>>>,
    _task: AbortOnDropHandle<()>,
}

impl Keeper {
    /// Starts the task, which needs a runtime.
    #[must_use]
    pub fn start(file: KeptFile) -> Self {
        let (newest, changes) = watch::channel(None);
        let task = AbortOnDropHandle::new(tokio::spawn(write_each(file, changes)));
        Self { newest, _task: task }
    }

    /// Keeps that from now on; returns at once. What is kept already is not written again.
    pub fn keep(&self, cluster_id: &str, content: Vec<u8>) {
        let next = Newest { cluster_id: cluster_id.to_owned(), content };
        self.newest.send_if_modified(|newest| {
            let is_known = newest
                .as_ref()
                .is_some_and(|it| it.content == next.content && it.cluster_id == next.cluster_id);
            if !is_known {
                *newest = Some(Arc::new(next));
            }
            !is_known
        });
    }
}

async fn write_each(file: KeptFile, mut changes: watch::Receiver<Option<Arc<Newest>>>) {
    let mut is_told = false;
    while changes.changed().await.is_ok() {
        tokio::time::sleep(DEBOUNCE).await;
        let Some(newest) = changes.borrow_and_update().clone() else { continue };
        let to = file.clone();
        let write = tokio::task::spawn_blocking(move || to.write(&newest.cluster_id, &newest.content));
        match write.await.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            Ok(()) => is_told = false,
            Err(error) => {
                if !std::mem::replace(&mut is_told, true) {
                    let file = file.path().display();
                    tracing::error!(%file, %error, "what is to be kept cannot be written; tried again until it can");
                }
                changes.mark_changed();
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn content(file: &KeptFile, expected: &[u8]) {
        for _ in 0..1000 {
            if file.load("c-1").is_some_and(|kept| kept.content == expected) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} does not have {expected:?}", file.path().display());
    }

    #[tokio::test]
    async fn the_newest_is_written_and_failures_are_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("later");
        let file = KeptFile::new(&data_dir, "orders");
        let keeper = Keeper::start(file.clone());
        keeper.keep("c-1", b"lost".to_vec());
        tokio::time::sleep(DEBOUNCE * 3).await;
        std::fs::create_dir(&data_dir).unwrap();
        content(&file, b"lost").await;
        for count in 0..50_u8 {
            keeper.keep("c-1", vec![count]);
        }
        content(&file, &[49]).await;
    }
}
