//! The end of a link that answers: hands calls to the replicas of its process, and what they say back.

use std::collections::HashMap;
use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::BytesMut;
use millstream_calls::call::{CallEvent, PendingCall, ReplicaClient};
use millstream_values::{CallError, ErrorClass};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::caller::SCRATCH;
use crate::codec::{BadValue, Decoder, Encoder};
use crate::frame::{Header, Kind, TOTAL_BYTES};
use crate::inbox::{Complete, Violation};
use crate::message::{Start, put_failure, put_timing};
use crate::wire::{
    Broken, Duplex, LOOK_EVERY, Liveness, Look, Pace, READ_BYTES, Wire, drop_frame, greet, payload_of, read,
};

/// Calls of one link at a time; more are refused before their inputs are looked at.
const MAX_CALLS: usize = 16 << 10;
/// With so many bytes of small answers waiting to be written, nothing more is read: the caller is to read first. It always does,
/// whatever it has to send.
const MAX_UNWRITTEN_BYTES: usize = 4 << 20;

type Link = Wire<HashMap<u64, AbortHandle>>;

/// Answers calls that come over a stream, until it ends or `closing`, and then the calls that are under way. A call whose caller
/// leaves is cancelled, and all are when the stream ends.
///
/// # Errors
/// [`Broken`] unless it was closed here.
pub async fn serve(
    mut stream: impl Duplex,
    replicas: Arc<dyn ReplicaClient>,
    closing: CancellationToken,
) -> Result<(), Broken> {
    greet(&mut stream).await?;
    let (reader, writer) = tokio::io::split(Box::new(stream) as Box<dyn Duplex>);
    let shared = Arc::new(Shared { link: Wire::new(HashMap::new()), replicas, idle: Notify::new() });
    shared.link.open(writer);
    let _end = End(shared.clone());
    shared.serve(reader, &closing).await
}

/// Whether a call's caller is known to wait: it cannot have left before the next frame is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    There,
    /// Its call has been taken out then.
    MayHaveLeft,
}

struct Shared {
    link: Link,
    replicas: Arc<dyn ReplicaClient>,
    /// Told when the last call has ended.
    idle: Notify,
}

/// Cancels what is under way when the link ends, however it does.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.link.close();
        let calls = std::mem::take(&mut self.0.link.state.lock().calls);
        calls.into_values().for_each(|call| call.abort());
    }
}

impl Shared {
    async fn serve(
        self: &Arc<Self>,
        mut reader: tokio::io::ReadHalf<Box<dyn Duplex>>,
        closing: &CancellationToken,
    ) -> Result<(), Broken> {
        let mut written = pin!(self.link.written());
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut liveness = Liveness::new(millstream_clock::now());
        let mut pace = Pace::default();
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        loop {
            let is_closing = closing.is_cancelled();
            if is_closing && self.link.state.lock().calls.is_empty() {
                return Ok(self.link.shut_down().await?);
            }
            let is_full = self.link.state.lock().outbox.num_ready() > MAX_UNWRITTEN_BYTES;
            buffer.reserve(READ_BYTES / 2);
            tokio::select! {
                error = &mut written => return Err(error.into()),
                read = read(&mut reader, &mut buffer), if !is_full => {
                    let num_bytes = read?;
                    liveness.heard(millstream_clock::now());
                    self.take_in(&mut buffer)?;
                    self.link.flush();
                    pace.after(num_bytes).await;
                }
                () = closing.cancelled(), if !is_closing => {}
                () = self.idle.notified(), if is_closing => {}
                _ = look.tick() => match liveness.look(millstream_clock::now()) {
                    // It may have said something that is not read yet.
                    _ if is_full => {}
                    Look::Fine => {}
                    Look::Ask => self.link.ping(),
                    Look::Dead => return Err(Broken::Silent),
                },
            }
        }
    }

    fn take_in(self: &Arc<Self>, buffer: &mut BytesMut) -> Result<(), Broken> {
        let now = millstream_clock::now();
        while let Some(header) = Header::peek(buffer)? {
            let Some(payload) = payload_of(buffer, header) else { break };
            self.take_frame(header, payload, now)?;
            drop_frame(buffer, header);
        }
        Ok(())
    }

    fn take_frame(self: &Arc<Self>, header: Header, payload: &[u8], now: Instant) -> Result<(), Broken> {
        let Header { kind, more, call, .. } = header;
        if kind == Kind::Start && self.link.state.lock().calls.contains_key(&call) {
            return Err(Broken::Protocol(format!("call id {call} is in use")));
        }
        match kind {
            Kind::Start if !more => self.begin(call, Start::read(Decoder::copying(payload)), now),
            Kind::Start | Kind::Piece => match self.take_piece(header, payload, now) {
                Ok(None) => {}
                Ok(Some(Complete { bytes, since, .. })) => {
                    self.begin(call, Start::read(Decoder::sharing(&bytes)), since);
                }
                // Pieces of a call that was refused, or whose caller has left.
                Err(Violation::Pieces) if kind == Kind::Piece => {}
                Err(violation) => {
                    self.link.state.lock().inbox.forget(call);
                    self.refuse(call, malformed(&violation));
                }
            },
            Kind::Cancel => {
                let running = {
                    let mut state = self.link.state.lock();
                    state.inbox.forget(call);
                    state.tell_limits();
                    state.outbox.cancel(call);
                    state.calls.remove(&call)
                };
                if let Some(running) = running {
                    running.abort();
                    self.ended();
                }
            }
            Kind::Limit => {
                let limit =
                    payload.try_into().map_err(|_| Broken::Protocol("a limit of no 8 bytes".into()))?;
                self.link.state.lock().outbox.limit(call, u64::from_le_bytes(limit));
            }
            Kind::Ping => self.link.state.lock().outbox.control(Kind::Pong, 0, None),
            Kind::Pong | Kind::Unknown => {}
            Kind::Part | Kind::Timing | Kind::Done | Kind::Failed => {
                return Err(Broken::Protocol("the calling end sent an answer".into()));
            }
        }
        Ok(())
    }

    fn take_piece(
        &self,
        header: Header,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Complete>, Violation> {
        let mut state = self.link.state.lock();
        let complete = match header.kind {
            Kind::Piece => state.inbox.piece(header.call, payload),
            kind => {
                let (total, piece) = payload.split_at_checked(TOTAL_BYTES).ok_or(Violation::TooLarge(0))?;
                let total = u32::from_le_bytes(total.try_into().map_err(|_| Violation::Pieces)?);
                state.inbox.begin(header.call, kind, total as usize, piece, now)
            }
        };
        if !matches!(complete, Ok(None)) {
            state.inbox.forget(header.call);
        }
        state.tell_limits();
        complete
    }

    /// Begins a call, which came then. What is answered at once costs no task.
    fn begin(self: &Arc<Self>, id: u64, start: Result<Start, BadValue>, came: Instant) {
        let Start { replica, mut request, left } = match start {
            Ok(start) => start,
            Err(error) => return self.refuse(id, malformed(&error)),
        };
        if self.link.state.lock().calls.len() >= MAX_CALLS {
            let message = "the worker has as many calls of this ingress as it takes";
            return self.refuse(id, CallError::not_started(ErrorClass::Overloaded, message));
        }
        request.context.deadline = left.and_then(|left| came.checked_add(left));
        let mut pending = self.replicas.call(&replica, request);
        while let Poll::Ready(event) =
            pin!(pending.next()).as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            if self.say(id, event, Caller::There) {
                return;
            }
        }
        let mut state = self.link.state.lock();
        let task = tokio::spawn(self.clone().forward(id, pending));
        state.calls.insert(id, task.abort_handle());
    }

    fn refuse(&self, id: u64, error: CallError) {
        self.say(id, CallEvent::Failed(error), Caller::There);
    }

    /// Says what a replica said; returns whether the call is over.
    fn say(&self, id: u64, event: CallEvent, caller: Caller) -> bool {
        SCRATCH.with_borrow_mut(|encoder| {
            let kind = encode(event, encoder);
            let mut state = self.link.state.lock();
            if caller == Caller::MayHaveLeft && !state.calls.contains_key(&id) {
                drop(state);
                encoder.clear();
                return true;
            }
            state.outbox.push(id, kind, encoder);
            kind.is_last()
        })
    }

    /// Passes on what a replica says, to its end; waits while the caller gives no credit.
    async fn forward(self: Arc<Self>, id: u64, mut pending: PendingCall) {
        loop {
            let event = pending.next().await;
            let is_over = self.say(id, event, Caller::MayHaveLeft);
            if is_over {
                self.link.state.lock().calls.remove(&id);
            }
            self.link.flush_soon();
            if is_over {
                self.ended();
                return;
            }
            let room = |cx: &mut Context<'_>| match self.link.state.lock().outbox.waits(id, cx.waker()) {
                true => Poll::Pending,
                false => Poll::Ready(()),
            };
            std::future::poll_fn(room).await;
        }
    }

    fn ended(&self) {
        if self.link.state.lock().calls.is_empty() {
            self.idle.notify_one();
        }
    }
}

fn malformed(error: &dyn std::error::Error) -> CallError {
    CallError::not_started(ErrorClass::Malformed, format!("the call cannot be read: {error}"))
}

/// Writes an event. An answer that does not travel is a failure of its call: its replica has done the work.
fn encode(event: CallEvent, encoder: &mut Encoder) -> Kind {
    let put = |encoder: &mut Encoder, kind, value| match encoder.put_value(value) {
        Ok(()) => kind,
        Err(error) => {
            encoder.clear();
            let error =
                CallError::started(ErrorClass::TooLarge, format!("the answer cannot be sent: {error}"));
            put_failure(encoder, &error);
            Kind::Failed
        }
    };
    match event {
        CallEvent::Delta(part) => put(encoder, Kind::Part, &part),
        CallEvent::Done(value) => put(encoder, Kind::Done, &value),
        CallEvent::Timing(timing) => {
            put_timing(encoder, &timing);
            Kind::Timing
        }
        CallEvent::Failed(error) => {
            put_failure(encoder, &error);
            Kind::Failed
        }
    }
}
