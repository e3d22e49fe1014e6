//! Calls to replicas: one stage's share of a request. The same types serve a replica in this process, where a call is
//! a channel send, and one on another machine, where it is two messages on a stream.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Instant;

pub use millstream_status::Priority;
use millstream_values::{CallError, ErrorClass, Started, Value};
use tokio::sync::mpsc;

pub use crate::context::{CallContext, TraceContext};
pub use crate::outcome::Ender;
use crate::outcome::{Outcome, OutcomeCell};
pub use crate::timing::{MAX_MATES, SpanRef, Timing};
use crate::{ReplicaId, RequestId};

/// Bytes of parts that a caller may leave unread before the replica is to stop making more: [`Reply::is_behind`].
const MAX_UNREAD_BYTES: usize = 64 << 10;
/// What every part counts besides its text.
const PART_OVERHEAD_BYTES: usize = 64;

/// What a replica is asked to do. Cloning is cheap (for retries): the inputs are shared.
#[derive(Debug, Clone, PartialEq)]
pub struct CallRequest {
    /// Where the call belongs, and how much time it has.
    pub context: CallContext,
    /// A map of inputs; its names follow from the deployment's task.
    pub inputs: Value,
    /// Whether parts of the answer are wanted as they come.
    pub answer: ResponseMode,
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
    let cell = Arc::new(OutcomeCell::default());
    let (parts, received) = match parts {
        Parts::Wanted => {
            let (sender, receiver) = mpsc::unbounded_channel();
            let unread = Arc::new(AtomicUsize::new(0));
            let received = Received { receiver, unread: unread.clone(), on_read: None };
            (Some(Sent { sender, unread }), Some(received))
        }
        Parts::Unwanted => (None, None),
    };
    (Reply { cell: cell.clone(), parts, on_end: None }, PendingCall { cell, parts: received, on_drop: None })
}

/// Where parts go, each with the bytes that it counts.
struct Sent {
    sender: mpsc::UnboundedSender<(CallEvent, usize)>,
    unread: Arc<AtomicUsize>,
}

/// Where they come from.
struct Received {
    receiver: mpsc::UnboundedReceiver<(CallEvent, usize)>,
    unread: Arc<AtomicUsize>,
    on_read: Option<Box<dyn Fn(PartRead) + Send + Sync>>,
}

/// A caller has taken a part of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRead {
    /// The bytes that it counted.
    pub num_bytes: usize,
    /// Whether the caller was behind before and is not any more: the replica may make more.
    pub caught_up: bool,
}

impl Received {
    /// A part that is there; `None` when there will be none.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<CallEvent>> {
        let received = ready!(self.receiver.poll_recv(cx));
        Poll::Ready(received.map(|(part, num_bytes)| self.taken(part, num_bytes)))
    }

    fn taken(&self, part: CallEvent, num_bytes: usize) -> CallEvent {
        let before = self.unread.fetch_sub(num_bytes, Ordering::AcqRel);
        if let Some(on_read) = self.on_read.as_ref().filter(|_| num_bytes > 0) {
            let caught_up = before > MAX_UNREAD_BYTES && before - num_bytes <= MAX_UNREAD_BYTES;
            on_read(PartRead { num_bytes, caught_up });
        }
        part
    }
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
    /// A call as most are: the first attempt, without a deadline, of normal priority, answered in one piece.
    #[must_use]
    pub fn new(request_id: RequestId, inputs: Value) -> Self {
        Self { context: CallContext::new(request_id), inputs, answer: ResponseMode::Whole, timed: false }
    }

    /// The same with a deadline.
    #[must_use]
    pub fn until(mut self, deadline: Option<Instant>) -> Self {
        self.context.deadline = deadline;
        self
    }

    /// Whether parts of the answer are asked for.
    #[must_use]
    pub fn parts(&self) -> Parts {
        if self.answer == ResponseMode::Stream { Parts::Wanted } else { Parts::Unwanted }
    }
}

/// The caller's end: yields events; dropping it cancels the call.
pub struct PendingCall {
    cell: Arc<OutcomeCell>,
    parts: Option<Received>,
    on_drop: Option<Box<dyn FnOnce() + Send>>,
}

impl PendingCall {
    /// The next event; not to be asked for after the last one. A replica that vanished without an answer is `Failed`
    /// with class `Unavailable`.
    pub async fn next(&mut self) -> CallEvent {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<CallEvent> {
        // Parts come to an end when the replica's end of the call is gone, with the answer or without. One that does not come back
        // keeps its end: then the outcome was set by somebody else, and comes after the parts that are there.
        while let Some(parts) = &mut self.parts {
            let ended = self.cell.is_set();
            match parts.poll_next(cx) {
                Poll::Ready(Some(part)) => return Poll::Ready(part),
                Poll::Pending if !ended => {
                    ready!(self.cell.poll_ended(cx));
                    // What was sent between the two looks comes first.
                }
                Poll::Ready(None) | Poll::Pending => self.parts = None,
            }
        }
        ready!(self.cell.poll_ended(cx));
        if let Some(timing) = self.cell.take_timing() {
            return Poll::Ready(CallEvent::Timing(timing));
        }
        let outcome = ready!(self.cell.poll_take(cx));
        Poll::Ready(match outcome {
            Some(Ok(value)) => CallEvent::Done(value),
            Some(Err(error)) => CallEvent::Failed(error),
            None => CallEvent::Failed(lost(Started::Yes)),
        })
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

    /// Runs `hook` whenever the caller has taken a part.
    #[must_use]
    pub fn on_read(mut self, hook: impl Fn(PartRead) + Send + Sync + 'static) -> Self {
        if let Some(parts) = &mut self.parts {
            parts.on_read = Some(Box::new(hook));
        }
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
        self.cell.leave();
        if let Some(hook) = self.on_drop.take() {
            hook();
        }
    }
}

/// The replica's end: takes parts and the answer; tells when the caller has left.
/// Dropped without an answer, the caller sees `Unavailable`.
pub struct Reply {
    cell: Arc<OutcomeCell>,
    parts: Option<Sent>,
    on_end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Reply {
    /// Runs `hook` when the call is over: just before its answer is sent, or when the reply is dropped without one.
    /// A caller that has seen the answer can rely on it (a replica counts its ongoing calls by this). Hooks that were
    /// there already run first.
    #[must_use]
    pub fn on_end(mut self, hook: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.on_end = Some(match self.on_end.take() {
            None => Box::new(hook),
            Some(first) => Box::new(move || {
                first();
                hook();
            }),
        });
        self
    }

    /// Sends a part of the answer. What is sent to a caller that has left, or wants no parts, is dropped.
    pub fn delta(&self, part: Value) {
        let contents = part.get("text").and_then(Value::as_text).map_or(0, str::len);
        self.delta_of(part, contents + PART_OVERHEAD_BYTES);
    }

    /// The same for a part that counts so many bytes of what the caller may leave unread.
    pub fn delta_of(&self, part: Value, num_bytes: usize) {
        if let Some(Sent { sender, unread }) = &self.parts {
            unread.fetch_add(num_bytes, Ordering::AcqRel);
            let _ = sender.send((CallEvent::Delta(part), num_bytes));
        }
    }

    /// Says where the time went; the caller hears it just before the answer.
    pub fn timing(&self, timing: Timing) {
        self.cell.note_timing(timing);
    }

    /// Whether the caller leaves so much unread that no more parts are to be made for now: back-pressure from a client that
    /// reads slowly. [`PendingCall::on_read`] tells when that is over.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.parts.as_ref().is_some_and(|parts| parts.unread.load(Ordering::Acquire) > MAX_UNREAD_BYTES)
    }

    /// Ends the call.
    pub fn finish(mut self, outcome: Outcome) {
        if let Some(hook) = self.on_end.take() {
            hook();
        }
        self.cell.set(outcome);
    }

    /// Ends the call from outside of the engine that has its reply.
    #[must_use]
    pub fn ender(&self) -> Ender {
        Ender::of(&self.cell)
    }

    /// Whether the caller has left.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cell.is_over()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(hook) = self.on_end.take() {
            hook();
        }
        // What a panicking engine lets go of may be what it panics on.
        if self.cell.is_open() {
            let started = if std::thread::panicking() { Started::Crashed } else { Started::Yes };
            self.cell.set(Err(lost(started)));
        }
    }
}

/// The end of a call whose replica gives no answer any more.
fn lost(started: Started) -> CallError {
    let message = match started {
        Started::Crashed => "the replica crashed while it worked on this call",
        Started::Yes | Started::No => "the replica ended without an answer",
    };
    CallError { class: ErrorClass::Unavailable, message: message.to_owned(), started }
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

    #[test]
    fn end_hooks_add_up_in_order() {
        let (order, seen) = std::sync::mpsc::channel();
        let (reply, _pending) = channel(Parts::Unwanted);
        let (first, second) = (order.clone(), order);
        let reply = reply.on_end(move || first.send(1).unwrap()).on_end(move || second.send(2).unwrap());
        reply.finish(Ok(Value::None));
        assert_eq!(seen.iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[tokio::test]
    async fn a_replica_sees_that_its_caller_is_behind_and_hears_when_it_has_caught_up() {
        let (reply, pending) = channel(Parts::Wanted);
        let (hook, reads) = std::sync::mpsc::channel();
        let mut pending = pending.on_read(move |read| hook.send(read).unwrap());
        let part = Value::map([("text", Value::from("x".repeat(MAX_UNREAD_BYTES / 2)))]);
        reply.delta(part.clone());
        assert!(!reply.is_behind());
        reply.delta(part);
        assert!(reply.is_behind());
        pending.next().await;
        assert!(!reply.is_behind());
        pending.next().await;
        let reads: Vec<_> = reads.try_iter().map(|read| read.caught_up).collect();
        assert_eq!(reads, [true, false]);
        let (reply, _pending) = channel(Parts::Unwanted);
        reply.delta_of(Value::None, usize::MAX);
        assert!(!reply.is_behind(), "parts that nobody wants wait for nobody");
    }

    #[tokio::test]
    async fn a_call_can_be_ended_from_outside_after_the_parts_that_are_there() {
        for wanted in [Parts::Wanted, Parts::Unwanted] {
            let (reply, mut pending) = channel(wanted);
            let ender = reply.ender();
            reply.delta(Value::from("part"));
            assert!(!ender.is_over());
            ender.fail(CallError::started(ErrorClass::Unavailable, "hangs"));
            ender.fail(CallError::started(ErrorClass::Internal, "later"));
            if wanted == Parts::Wanted {
                assert!(matches!(pending.next().await, CallEvent::Delta(_)));
            }
            let CallEvent::Failed(error) = pending.next().await else { panic!("expected a failure") };
            assert_eq!(error.message, "hangs");
            assert!(reply.is_cancelled() && ender.is_over());
            reply.finish(Ok(Value::None));
        }
    }

    #[tokio::test]
    async fn a_call_that_waits_for_parts_hears_of_an_end_from_outside() {
        let (reply, mut pending) = channel(Parts::Wanted);
        let ender = reply.ender();
        let waiting = tokio::spawn(async move { pending.next().await });
        tokio::task::yield_now().await;
        ender.fail(CallError::started(ErrorClass::Unavailable, "hangs"));
        assert!(matches!(waiting.await.unwrap(), CallEvent::Failed(_)));
        drop(reply);
    }

    #[tokio::test]
    async fn what_a_panicking_engine_lets_go_of_is_suspect() {
        let (reply, mut pending) = channel(Parts::Unwanted);
        let engine = std::thread::spawn(move || {
            let _reply = reply;
            panic!("as engines do");
        });
        assert!(engine.join().is_err());
        let CallEvent::Failed(error) = pending.next().await else { panic!("expected a failure") };
        assert_eq!((error.class, error.started), (ErrorClass::Unavailable, Started::Crashed));
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
        for (parts, expected) in [(Parts::Wanted, 1), (Parts::Unwanted, 0)] {
            let (reply, mut pending) = channel(parts);
            reply.delta(part());
            reply.timing(Timing::default());
            reply.finish(Ok(Value::None));
            for _ in 0..expected {
                assert!(matches!(pending.next().await, CallEvent::Delta(_)));
            }
            assert_eq!(pending.next().await, CallEvent::Timing(Timing::default()));
            assert_eq!(pending.next().await, CallEvent::Done(Value::None));
        }
    }
}
