//! Calls to replicas: one stage's share of a request. The same types serve a replica in this process, where a call is
//! a channel send, and one on another machine, where it is two messages on a stream.

use std::time::Instant;

use millstream_values::{CallError, ErrorClass, Value};
use tokio::sync::mpsc;

use crate::{ReplicaId, RequestId};

/// What a replica is asked to do. Cloning is cheap (for retries): the inputs are shared.
#[derive(Debug, Clone)]
pub struct CallRequest {
    /// The request that this call belongs to.
    pub request_id: RequestId,
    /// A map of inputs; its names follow from the deployment's task.
    pub inputs: Value,
    /// Work past this instant is dropped before it runs.
    pub deadline: Option<Instant>,
    /// Whether parts of the answer are wanted as they come.
    pub answer: Answer,
}

/// How the caller wants the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// In one piece.
    Whole,
    /// In parts as they are made, then whole; engines that cannot do so give it in one piece.
    Stream,
}

/// What comes back from a call; after `Done` or `Failed` nothing more comes.
#[derive(Debug, Clone, PartialEq)]
pub enum CallEvent {
    /// A part of the answer: for `generate` a map `{text}` with the new text.
    Delta(Value),
    /// The whole answer.
    Done(Value),
    /// The call ended without an answer.
    Failed(CallError),
}

/// Where calls to the replicas of one node go: in this process, or over the network.
pub trait ReplicaClient: Send + Sync + 'static {
    /// Sends a call and returns at once; a refusal comes as [`CallEvent::Failed`] with `started: No`.
    /// Dropping what is returned cancels the call.
    fn call(&self, replica: &ReplicaId, request: CallRequest) -> PendingCall;
}

/// Makes the two ends of a call.
#[must_use]
pub fn channel() -> (Reply, PendingCall) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Reply { sender }, PendingCall { receiver, on_drop: None })
}

/// The caller's end: yields events; dropping it cancels the call.
pub struct PendingCall {
    receiver: mpsc::UnboundedReceiver<CallEvent>,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

impl PendingCall {
    /// The next event. A replica that vanished without an answer is `Failed` with class `Unavailable`.
    pub async fn next(&mut self) -> CallEvent {
        self.receiver.recv().await.unwrap_or_else(|| {
            CallEvent::Failed(CallError::started(ErrorClass::Unavailable, "the replica ended without an answer"))
        })
    }

    /// Runs `hook` when the call is dropped, answered or not (a network client sends its cancel frame there).
    #[must_use]
    pub fn on_drop(mut self, hook: impl FnOnce() + Send + 'static) -> Self {
        self.on_drop = Some(Box::new(hook));
        self
    }

    /// A call that was refused before it was sent.
    #[must_use]
    pub fn refused(error: CallError) -> Self {
        let (reply, pending) = channel();
        reply.finish(Err(error));
        pending
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        // Close first: whoever the hook wakes must already see that nobody listens.
        self.receiver.close();
        if let Some(hook) = self.on_drop.take() {
            hook();
        }
    }
}

/// The replica's end: takes parts and the answer; tells when the caller has left.
/// Dropped without an answer, the caller sees `Unavailable`.
#[derive(Debug)]
pub struct Reply {
    sender: mpsc::UnboundedSender<CallEvent>,
}

impl Reply {
    /// Sends a part of the answer. What is sent to a caller that has left is dropped.
    pub fn delta(&self, part: Value) {
        let _ = self.sender.send(CallEvent::Delta(part));
    }

    /// Ends the call.
    pub fn finish(self, outcome: Result<Value, CallError>) {
        let event = match outcome {
            Ok(value) => CallEvent::Done(value),
            Err(error) => CallEvent::Failed(error),
        };
        let _ = self.sender.send(event);
    }

    /// Whether the caller has left.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until the caller has left.
    pub async fn cancelled(&self) {
        self.sender.closed().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn dropping_the_pending_call_is_seen_by_the_reply_and_runs_the_hook_after() {
        let (reply, pending) = channel();
        let (hook_ran, seen) = std::sync::mpsc::channel();
        let pending = pending.on_drop(move || hook_ran.send(()).unwrap());
        assert!(!reply.is_cancelled());
        drop(pending);
        assert!(reply.is_cancelled());
        seen.try_recv().unwrap();
        reply.cancelled().await;
    }

    #[tokio::test]
    async fn a_reply_dropped_without_an_answer_is_unavailable() {
        let (reply, mut pending) = channel();
        drop(reply);
        let CallEvent::Failed(error) = pending.next().await else { panic!("expected a failure") };
        assert_eq!(error.class, ErrorClass::Unavailable);
    }
}
