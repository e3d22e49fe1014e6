//! Calls to replicas: one stage's share of a request. The same types serve a replica in this process, where a call is
//! a channel send, and one on another machine, where it is two messages on a stream.

use std::fmt;
use std::time::{Duration, Instant};

pub use millstream_status::Priority;
use millstream_values::{CallError, ErrorClass, Value};
use tokio::sync::{mpsc, oneshot};

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
    pub answer: ResponseMode,
    /// Who goes first where calls wait.
    pub priority: Priority,
    /// Whether [`CallEvent::Timing`] is wanted.
    pub timed: bool,
}

/// How the caller wants the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseMode {
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
    /// Where the time went, just before the answer; only for calls that ask, from engines that know.
    Timing(Timing),
    /// The whole answer.
    Done(Value),
    /// The call ended without an answer.
    Failed(CallError),
}

/// Where a call's time in its replica went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// From its arrival until it began to run: behind others, or for company.
    pub waited: Duration,
    /// From there to the answer.
    pub ran: Duration,
}

/// Where calls to the replicas of one node go: in this process, or over the network.
pub trait ReplicaClient: Send + Sync + 'static {
    /// Sends a call and returns at once; a refusal comes as [`CallEvent::Failed`] with `started: No`.
    /// Dropping what is returned cancels the call.
    fn call(&self, replica: &ReplicaId, request: CallRequest) -> PendingCall;
}

/// Makes the two ends of a call. Without `parts` only the answer comes: nobody wants what the replica has to say before.
///
/// Most calls want the answer alone: it has a place of its own, and a queue is made only for parts.
#[must_use]
pub fn channel(parts: Parts) -> (Reply, PendingCall) {
    let (end, ended) = oneshot::channel();
    let (parts, received) = match parts {
        Parts::Wanted => Some(mpsc::unbounded_channel()).unzip(),
        Parts::Unwanted => (None, None),
    };
    (Reply { end: Some(end), parts, on_end: None }, PendingCall { ended, parts: received, on_drop: None })
}

/// Whether a caller wants more than the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parts {
    /// It does.
    Wanted,
    /// The answer will do.
    Unwanted,
}

impl CallRequest {
    /// Whether more than the answer is asked for.
    #[must_use]
    pub fn parts(&self) -> Parts {
        if self.answer == ResponseMode::Stream || self.timed { Parts::Wanted } else { Parts::Unwanted }
    }
}

/// The caller's end: yields events; dropping it cancels the call.
pub struct PendingCall {
    ended: oneshot::Receiver<Result<Value, CallError>>,
    parts: Option<mpsc::UnboundedReceiver<CallEvent>>,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

impl PendingCall {
    /// The next event; not to be asked for after the last one. A replica that vanished without an answer is `Failed`
    /// with class `Unavailable`.
    pub async fn next(&mut self) -> CallEvent {
        // Parts come to an end when the replica's end of the call is gone, with the answer or without.
        if let Some(parts) = &mut self.parts
            && let Some(part) = parts.recv().await
        {
            return part;
        }
        match (&mut self.ended).await {
            Ok(Ok(value)) => CallEvent::Done(value),
            Ok(Err(error)) => CallEvent::Failed(error),
            Err(_) => {
                let text = "the replica ended without an answer";
                CallEvent::Failed(CallError::started(ErrorClass::Unavailable, text))
            }
        }
    }

    /// Runs `hook` when the call is dropped, answered or not (a network client sends its cancel frame there).
    /// Hooks that were there already run first.
    #[must_use]
    pub fn on_drop(mut self, hook: impl FnOnce() + Send + 'static) -> Self {
        self.on_drop = Some(match self.on_drop.take() {
            None => Box::new(hook),
            Some(first) => Box::new(move || {
                first();
                hook();
            }),
        });
        self
    }

    /// A call that was refused before it was sent.
    #[must_use]
    pub fn refused(error: CallError) -> Self {
        let (reply, pending) = channel(Parts::Unwanted);
        reply.finish(Err(error));
        pending
    }
}

impl Drop for PendingCall {
    fn drop(&mut self) {
        // Close first: whoever the hook wakes must already see that nobody listens.
        self.ended.close();
        if let Some(hook) = self.on_drop.take() {
            hook();
        }
    }
}

/// The replica's end: takes parts and the answer; tells when the caller has left.
/// Dropped without an answer, the caller sees `Unavailable`.
pub struct Reply {
    /// Taken by the answer.
    end: Option<oneshot::Sender<Result<Value, CallError>>>,
    parts: Option<mpsc::UnboundedSender<CallEvent>>,
    on_end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Reply {
    /// Runs `hook` when the call is over: just before its answer is sent, or when the reply is dropped without one.
    /// A caller that has seen the answer can rely on it (a replica counts its ongoing calls by this). A later hook
    /// replaces an earlier one.
    #[must_use]
    pub fn on_end(mut self, hook: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.on_end = Some(Box::new(hook));
        self
    }

    /// Sends a part of the answer. What is sent to a caller that has left, or wants no parts, is dropped.
    pub fn delta(&self, part: Value) {
        self.send(CallEvent::Delta(part));
    }

    /// Says where the time went.
    pub fn timing(&self, timing: Timing) {
        self.send(CallEvent::Timing(timing));
    }

    fn send(&self, part: CallEvent) {
        if let Some(parts) = &self.parts {
            let _ = parts.send(part);
        }
    }

    /// Ends the call.
    pub fn finish(mut self, outcome: Result<Value, CallError>) {
        if let Some(hook) = self.on_end.take() {
            hook();
        }
        if let Some(end) = self.end.take() {
            let _ = end.send(outcome);
        }
    }

    /// Whether the caller has left.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.end.as_ref().is_none_or(oneshot::Sender::is_closed)
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(hook) = self.on_end.take() {
            hook();
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_hook_runs_once_before_the_answer_or_at_the_drop() {
        let count = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let seen = || count.load(std::sync::atomic::Ordering::Relaxed);
        let hooked = || {
            let count = count.clone();
            let (reply, pending) = channel(Parts::Unwanted);
            let hook = move || {
                count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            };
            (reply.on_end(hook), pending)
        };
        let (reply, _pending) = hooked();
        reply.finish(Ok(Value::None));
        assert_eq!(seen(), 1);
        let (reply, pending) = hooked();
        drop(pending);
        assert_eq!(seen(), 1, "the caller leaving does not end the work");
        drop(reply);
        assert_eq!(seen(), 2);
    }

    #[test]
    fn drop_hooks_add_up_in_order() {
        let (order, seen) = std::sync::mpsc::channel();
        let (_reply, pending) = channel(Parts::Unwanted);
        let (first, second) = (order.clone(), order);
        drop(pending.on_drop(move || first.send(1).unwrap()).on_drop(move || second.send(2).unwrap()));
        assert_eq!(seen.iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn dropping_the_pending_call_is_seen_by_the_reply_and_runs_the_hook_after() {
        let (reply, pending) = channel(Parts::Unwanted);
        let (hook_ran, seen) = std::sync::mpsc::channel();
        let pending = pending.on_drop(move || hook_ran.send(()).unwrap());
        assert!(!reply.is_cancelled());
        drop(pending);
        assert!(reply.is_cancelled());
        seen.try_recv().unwrap();
    }

    #[tokio::test]
    async fn a_reply_dropped_without_an_answer_is_unavailable() {
        let (reply, mut pending) = channel(Parts::Unwanted);
        drop(reply);
        let CallEvent::Failed(error) = pending.next().await else { panic!("expected a failure") };
        assert_eq!(error.class, ErrorClass::Unavailable);
    }

    #[tokio::test]
    async fn parts_come_before_the_answer_and_only_where_they_are_wanted() {
        let part = || Value::from("part");
        for (parts, expected) in [(Parts::Wanted, 2), (Parts::Unwanted, 0)] {
            let (reply, mut pending) = channel(parts);
            reply.delta(part());
            reply.timing(Timing::default());
            reply.finish(Ok(Value::None));
            for _ in 0..expected {
                assert!(matches!(pending.next().await, CallEvent::Delta(_) | CallEvent::Timing(_)));
            }
            assert_eq!(pending.next().await, CallEvent::Done(Value::None));
        }
    }
}
