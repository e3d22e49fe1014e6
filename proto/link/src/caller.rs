//! The end of a link that calls.

use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::BytesMut;
use millstream_calls::ReplicaId;
use millstream_calls::call::{self, CallRequest, Parts, PendingCall, ReplicaClient, Reply, Timing};
use millstream_values::{CallError, ErrorClass, Value};

use crate::codec::{BadValue, Decoder, Encoder};
use crate::frame::{Header, Kind, TOTAL_BYTES};
use crate::inbox::{Complete, Violation};
use crate::message::{put_start, read_failure, read_timing};
use crate::wire::{
    Broken, Duplex, LOOK_EVERY, Liveness, Look, Pace, READ_BYTES, Wire, drop_frame, greet, payload_of, read,
};

/// Bytes of calls that may wait to be sent; beyond, calls go elsewhere.
const MAX_QUEUED_BYTES: usize = 256 << 20;
/// With more calls under way than that, what is to be sent is collected before it is written.
const MAX_INLINE_CALLS: usize = 2;

thread_local! {
    /// Where messages are written before it is known how large they are.
    pub(crate) static SCRATCH: RefCell<Encoder> = RefCell::default();
}

/// Calls the replicas at the other end of a link. Calls that are made before the first connection wait for it; while a link is
/// broken they are refused at once, so that they go elsewhere. Dropping the last clone cancels nothing: end [`Caller::run`].
#[derive(Clone)]
pub struct Caller {
    link: Arc<Link>,
}

type Link = Wire<Calls>;

struct Calls {
    /// Whether calls are taken; else they are refused at once.
    is_open: bool,
    open: HashMap<u64, OpenCall>,
}

struct OpenCall {
    reply: Reply,
    /// Where in the outbox its start was put.
    position: u64,
}

/// What came back for a call.
enum Reaction {
    Part(Value, usize, Came),
    Timing(Timing),
    End(Result<Value, CallError>),
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// In one frame, not yet counted.
    Whole,
    /// In pieces, each counted as it came.
    InPieces,
}

/// Numbers calls; those of all links together, so that nobody takes one for another in a log.
static NEXT_CALL: AtomicU64 = AtomicU64::new(1);

impl Default for Caller {
    fn default() -> Self {
        Self { link: Arc::new(Wire::new(Calls { is_open: true, open: HashMap::new() })) }
    }
}

impl Caller {
    /// Carries calls over this stream, to its end; returns the reason of that. Calls under way end as `Unavailable`, those whose start
    /// had not left as not started, and new ones are refused until it is run again.
    ///
    /// # Errors
    /// Always, with why the link ended.
    pub async fn run(&self, mut stream: impl Duplex) -> Result<std::convert::Infallible, Broken> {
        let result = match greet(&mut stream).await {
            Ok(()) => self.carry(Box::new(stream)).await,
            Err(error) => Err(error),
        };
        self.refuse("the connection to the replica's worker broke");
        result
    }

    async fn carry(&self, stream: Box<dyn Duplex>) -> Result<std::convert::Infallible, Broken> {
        let (mut reader, writer) = tokio::io::split(stream);
        self.link.open(writer);
        self.link.state.lock().calls.is_open = true;
        let mut written = pin!(self.link.written());
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut liveness = Liveness::new(millstream_clock::now());
        let mut pace = Pace::default();
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        loop {
            buffer.reserve(READ_BYTES / 2);
            tokio::select! {
                error = &mut written => return Err(error.into()),
                read = read(&mut reader, &mut buffer) => {
                    let num_bytes = read?;
                    liveness.heard(millstream_clock::now());
                    self.take_in(&mut buffer)?;
                    pace.after(num_bytes).await;
                }
                _ = look.tick() => match liveness.look(millstream_clock::now()) {
                    Look::Fine => {}
                    Look::Ask => self.link.ping(),
                    Look::Dead => return Err(Broken::Silent),
                },
            }
        }
    }

    /// Ends every call and refuses new ones until the next [`Caller::run`]; for whoever dials in vain.
    pub fn refuse(&self, reason: &str) {
        self.link.close();
        let (calls, outbox) = {
            let mut state = self.link.state.lock();
            state.calls.is_open = false;
            let calls = std::mem::take(&mut state.calls.open);
            let fresh = crate::wire::State::new(Calls { is_open: false, open: HashMap::new() });
            (calls, std::mem::replace(&mut *state, fresh).outbox)
        };
        for (id, call) in calls {
            let has_left = outbox.has_left(call.position) && !outbox.has_queued(id);
            let error = if has_left { CallError::started } else { CallError::not_started };
            call.reply.finish(Err(error(ErrorClass::Unavailable, reason)));
        }
    }

    /// Whole frames off the front of what was read.
    fn take_in(&self, buffer: &mut BytesMut) -> Result<(), Broken> {
        let mut reactions = Vec::new();
        while let Some(header) = Header::peek(buffer)? {
            let Some(payload) = payload_of(buffer, header) else { break };
            self.take_frame(header, payload, &mut reactions)?;
            drop_frame(buffer, header);
        }
        self.react(reactions);
        Ok(())
    }

    fn take_frame(
        &self,
        header: Header,
        payload: &[u8],
        reactions: &mut Vec<(u64, Reaction)>,
    ) -> Result<(), Broken> {
        let Header { kind, more, call, length } = header;
        match kind {
            Kind::Part | Kind::Timing | Kind::Done | Kind::Failed if !more => {
                reactions.push((call, decode(kind, Decoder::copying(payload), length, Came::Whole)));
            }
            Kind::Part | Kind::Timing | Kind::Done | Kind::Failed | Kind::Piece => {
                // What is there of other calls is to be counted first.
                self.react(std::mem::take(reactions));
                match self.take_piece(header, payload) {
                    Ok(None) => {}
                    Ok(Some(Complete { kind, bytes, .. })) => {
                        let reaction = decode(kind, Decoder::sharing(&bytes), bytes.len(), Came::InPieces);
                        reactions.push((call, reaction));
                    }
                    Err(violation) => reactions.push((call, Reaction::End(Err(not_ours(&violation))))),
                }
            }
            Kind::Limit => {
                let limit =
                    payload.try_into().map_err(|_| Broken::Protocol("a limit of no 8 bytes".into()))?;
                self.link.state.lock().outbox.limit(call, u64::from_le_bytes(limit));
                self.link.flush();
            }
            Kind::Ping => {
                self.link.state.lock().outbox.control(Kind::Pong, 0, None);
                self.link.flush();
            }
            Kind::Pong | Kind::Unknown => {}
            Kind::Start | Kind::Cancel => {
                return Err(Broken::Protocol("the answering end sent a call".into()));
            }
        }
        Ok(())
    }

    fn take_piece(&self, header: Header, payload: &[u8]) -> Result<Option<Complete>, Violation> {
        let mut state = self.link.state.lock();
        if !state.calls.open.contains_key(&header.call) {
            // Its caller has left.
            return Ok(None);
        }
        let complete = match header.kind {
            Kind::Piece => state.inbox.piece(header.call, payload),
            kind => {
                let (total, piece) = payload.split_at_checked(TOTAL_BYTES).ok_or(Violation::Pieces)?;
                let total = u32::from_le_bytes(total.try_into().map_err(|_| Violation::Pieces)?);
                state.inbox.begin(header.call, kind, total as usize, piece, millstream_clock::now())
            }
        };
        state.tell_limits();
        drop(state);
        self.link.flush();
        complete
    }

    /// Gives calls what came for them.
    fn react(&self, reactions: Vec<(u64, Reaction)>) {
        if reactions.is_empty() {
            return;
        }
        let mut ended: smallvec::SmallVec<[_; 8]> = smallvec::SmallVec::new();
        let mut state = self.link.state.lock();
        for (id, reaction) in reactions {
            let outcome = match reaction {
                Reaction::Part(part, num_bytes, came) => {
                    let state = &mut *state;
                    let Some(call) = state.calls.open.get(&id) else { continue };
                    call.reply.delta_of(part, num_bytes);
                    let counted = match came {
                        Came::Whole => state.inbox.whole(id, num_bytes),
                        Came::InPieces => Ok(()),
                    };
                    match counted {
                        Ok(()) => continue,
                        Err(violation) => Err(not_ours(&violation)),
                    }
                }
                Reaction::Timing(timing) => {
                    let Some(call) = state.calls.open.get(&id) else { continue };
                    call.reply.timing(timing);
                    continue;
                }
                Reaction::End(outcome) => outcome,
            };
            if let Some(call) = state.calls.open.remove(&id) {
                state.inbox.forget(id);
                // What it had not said yet, nobody needs to hear.
                if state.outbox.cancel(id) {
                    state.outbox.control(Kind::Cancel, id, None);
                }
                ended.push((call.reply, outcome));
            }
        }
        drop(state);
        for (reply, outcome) in ended {
            reply.finish(outcome);
        }
    }
}

/// What a message says; one that cannot be read ends its call.
fn decode(kind: Kind, mut from: Decoder<'_>, length: usize, came: Came) -> Reaction {
    fn whole(mut from: Decoder<'_>) -> Result<Value, BadValue> {
        let value = from.value()?;
        from.end()?;
        Ok(value)
    }
    match kind {
        Kind::Part => match from.value() {
            Ok(part) => Reaction::Part(part, length, came),
            Err(error) => Reaction::End(Err(not_ours(&error))),
        },
        Kind::Timing => Reaction::Timing(read_timing(from).unwrap_or_default()),
        Kind::Done => Reaction::End(whole(from).map_err(|error| not_ours(&error))),
        _ => Reaction::End(Err(read_failure(from).unwrap_or_else(|error| not_ours(&error)))),
    }
}

fn not_ours(error: &dyn std::error::Error) -> CallError {
    CallError::started(ErrorClass::Internal, format!("the replica's answer cannot be read: {error}"))
}

impl ReplicaClient for Caller {
    fn call(&self, replica: &ReplicaId, request: CallRequest) -> PendingCall {
        let refused = |class, message: String| PendingCall::refused(CallError::not_started(class, message));
        let left = request.context.deadline.map(|at| at.saturating_duration_since(millstream_clock::now()));
        SCRATCH.with_borrow_mut(|encoder| {
            if let Err(error) = put_start(encoder, replica, &request, left) {
                encoder.clear();
                return refused(ErrorClass::TooLarge, format!("the inputs cannot be sent: {error}"));
            }
            let parts = request.parts();
            let (reply, pending) = call::channel(parts);
            let id = NEXT_CALL.fetch_add(1, Ordering::Relaxed);
            let mut state = self.link.state.lock();
            if !state.calls.is_open {
                drop(state);
                encoder.clear();
                let message = "the worker of the replica cannot be reached";
                return refused(ErrorClass::Unavailable, message.to_owned());
            }
            if state.outbox.num_bytes() > MAX_QUEUED_BYTES {
                drop(state);
                encoder.clear();
                let message = "too much waits to be sent to the worker of the replica";
                return refused(ErrorClass::Overloaded, message.to_owned());
            }
            let position = state.outbox.position();
            state.calls.open.insert(id, OpenCall { reply, position });
            state.outbox.push(id, Kind::Start, encoder);
            let is_alone = state.calls.open.len() <= MAX_INLINE_CALLS;
            drop(state);
            if is_alone {
                self.link.flush()
            } else {
                self.link.flush_soon()
            }
            self.attend(id, pending, parts)
        })
    }
}

impl Caller {
    /// Sees to it that the other end hears what becomes of the caller.
    fn attend(&self, id: u64, pending: PendingCall, parts: Parts) -> PendingCall {
        let link = self.link.clone();
        let pending = pending.on_drop(move || forget(&link, id));
        if parts == Parts::Unwanted {
            return pending;
        }
        let link = self.link.clone();
        pending.on_read(move |read| {
            let mut state = link.state.lock();
            state.inbox.read(id, read.num_bytes);
            state.tell_limits();
            let is_quiet = state.outbox.is_empty();
            drop(state);
            if !is_quiet {
                link.flush_soon();
            }
        })
    }
}

/// The caller has left, or has its answer.
fn forget(link: &Link, id: u64) {
    let mut state = link.state.lock();
    let Some(call) = state.calls.open.remove(&id) else { return };
    state.inbox.forget(id);
    state.outbox.cancel(id);
    state.outbox.control(Kind::Cancel, id, None);
    state.tell_limits();
    drop(state);
    link.flush_soon();
    // Its reply is dropped without the lock.
    drop(call);
}
