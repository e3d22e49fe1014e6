//! Parts of a streaming answer on their way to the client: bounded in bytes, so that a client that reads slowly costs a replica
//! nothing until it is far behind, and memory never.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use crate::model::StreamPart;

/// What may wait for a client. The whole answer of most calls, so that their replicas are free when they have answered. Beyond that
/// no further parts are taken, and the replica waits for its credit.
const MAX_WAITING_BYTES: usize = 256 << 10;
/// What a part counts besides its text.
const PART_BYTES: usize = 64;
/// How long a client may leave that much unread.
const MAX_UNREAD: Duration = Duration::from_secs(30);

/// Parts, from the calls to the client.
pub(crate) fn channel() -> (PartSender, PartReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(Waiting::default());
    (PartSender { sender, waiting: waiting.clone() }, PartReceiver { receiver, waiting })
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: AtomicUsize,
    less: Notify,
}

/// Where the calls of a request put parts.
#[derive(Debug)]
pub(crate) struct PartSender {
    sender: mpsc::UnboundedSender<StreamPart>,
    waiting: Arc<Waiting>,
}

/// The client has left too much unread for too long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unread;

impl PartSender {
    /// Adds a part; waits while too much is unread.
    ///
    /// # Errors
    /// [`Unread`] when that takes too long.
    pub(crate) async fn send(&self, part: StreamPart) -> Result<(), Unread> {
        if self.is_full() {
            tokio::time::timeout(MAX_UNREAD, self.room()).await.map_err(|_| Unread)?;
        }
        self.waiting.bytes.fetch_add(size_of(&part), Ordering::Relaxed);
        // Nobody listens any more: the execution is about to be dropped.
        let _ = self.sender.send(part);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.waiting.bytes.load(Ordering::Acquire) >= MAX_WAITING_BYTES
    }

    async fn room(&self) {
        loop {
            let mut less = std::pin::pin!(self.waiting.less.notified());
            // Listen before looking, so that a part that is taken in between is not missed.
            less.as_mut().enable();
            if !self.is_full() {
                return;
            }
            less.await;
        }
    }
}

/// Where the client's connection takes them.
#[derive(Debug)]
pub(crate) struct PartReceiver {
    receiver: mpsc::UnboundedReceiver<StreamPart>,
    waiting: Arc<Waiting>,
}

impl PartReceiver {
    /// The next part; `None` once there will be none.
    pub(crate) async fn recv(&mut self) -> Option<StreamPart> {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// The same, polled.
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamPart>> {
        self.receiver.poll_recv(cx).map(|part| part.map(|part| self.taken(part)))
    }

    /// A part that is there.
    pub(crate) fn try_recv(&mut self) -> Option<StreamPart> {
        let part = self.receiver.try_recv().ok()?;
        Some(self.taken(part))
    }

    fn taken(&self, part: StreamPart) -> StreamPart {
        self.waiting.bytes.fetch_sub(size_of(&part), Ordering::Release);
        self.waiting.less.notify_waiters();
        part
    }
}

fn size_of(part: &StreamPart) -> usize {
    part.text.len() + PART_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(num_bytes: usize) -> StreamPart {
        StreamPart { field: "answer".into(), text: "x".repeat(num_bytes).into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_holds_nobody_up_until_it_is_far_behind() {
        let (sender, mut receiver) = channel();
        for _ in 0..1000 {
            sender.send(part(100)).await.unwrap();
        }
        sender.send(part(200 << 10)).await.unwrap();
        let mut waiting = std::pin::pin!(sender.send(part(1)));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        while receiver.try_recv().is_some() {}
        assert_eq!(waiting.await, Ok(()));
        assert_eq!(receiver.recv().await, Some(part(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_read_at_all_is_given_up() {
        let (sender, _receiver) = channel();
        sender.send(part(MAX_WAITING_BYTES)).await.unwrap();
        assert_eq!(sender.send(part(1)).await, Err(Unread));
    }
}
