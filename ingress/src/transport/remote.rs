//! Calls to the replicas of a worker in another process: all of them on one long gRPC stream.
//!
//! ```text
//! call() ──frame──▶ channel ──▶ outbound stream ──▶ worker
//! PendingCall ◀── Reply (by call id) ◀── driver task ◀── inbound stream
//! ```
//!
//! The driver task dials, reads replies and dials again for ever with backoff; it is restarted by nobody and ends when
//! the [`RemoteWorker`] is dropped. When the stream breaks, calls whose frame had left may have begun to run, the
//! others have not.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use millstream_connect::{Backoff, Retries, Secret, chain, connect};
use millstream_proto::call::{self, CallRequest, PendingCall, ReplicaClient, Reply, ResponseMode};
use millstream_proto::v1::replica_service_client::ReplicaServiceClient;
use millstream_proto::v1::{CallFrame, Cancel, ReplyFrame, Start, call_frame, reply_frame};
use millstream_proto::{CallError, ErrorClass, ReplicaId, Value, WireError, v1};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Endpoint;

use crate::{clock, random};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A peer that is silent for the sum of these two is taken for dead.
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
const REDIAL: Backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(2) };
/// A connection that lasted so long was a good one: the next dial waits little.
const GOOD_SESSION: Duration = Duration::from_secs(2);
/// Flow control windows: one stream carries all calls of the pair, so HTTP/2's 64 KiB would throttle tensors.
const WINDOW_BYTES: u32 = 16 << 20;
/// Largest call; a larger one would make the worker end the stream, and with it every other call.
const MAX_CALL_BYTES: usize = 65 << 20;
/// Largest reply that is read. What a worker sends is bounded there (`worker/src/server.rs`), below this.
const MAX_MESSAGE_BYTES: usize = 256 << 20;

/// A worker in another process. Dropping it closes the stream.
pub(crate) struct RemoteWorker {
    link: Arc<Link>,
    _driver: AbortOnDropHandle<()>,
}

struct Link {
    address: Arc<str>,
    /// The cluster's join token.
    secret: Secret,
    next_call_id: AtomicU64,
    state: Mutex<State>,
}

struct State {
    /// Where frames go; `None` while the stream is broken: then calls are refused at once and go elsewhere.
    frames: Option<mpsc::UnboundedSender<Frame>>,
    calls: HashMap<u64, OpenCall>,
}

struct OpenCall {
    reply: Reply,
    /// Whether its frame has left.
    sent: bool,
}

enum Frame {
    Start { call_id: u64, start: Start, deadline: Option<Instant> },
    Cancel { call_id: u64 },
}

impl RemoteWorker {
    /// Starts to dial. Calls made before the first attempt has succeeded or failed wait for it.
    pub(crate) fn open(address: Arc<str>, secret: Secret) -> Self {
        let (frames, outbound) = mpsc::unbounded_channel();
        let state = State { frames: Some(frames), calls: HashMap::new() };
        let (next_call_id, state) = (AtomicU64::new(1), Mutex::new(state));
        let link = Arc::new(Link { address, secret, next_call_id, state });
        let driver = tokio::spawn(drive(link.clone(), outbound));
        Self { link, _driver: AbortOnDropHandle::new(driver) }
    }
}

impl Drop for RemoteWorker {
    fn drop(&mut self) {
        self.link.break_off("the worker left the routes");
    }
}

impl ReplicaClient for RemoteWorker {
    fn call(&self, replica: &ReplicaId, request: CallRequest) -> PendingCall {
        let inputs = match &request.inputs {
            Value::Map(map) => v1::Map::from(&**map),
            other => {
                let message = format!("inputs of a call are a map, not `{}`", other.type_name());
                return PendingCall::refused(CallError::not_started(ErrorClass::Internal, message));
            }
        };
        let start = Start {
            replica_id: replica.as_str().to_owned(),
            request_id: request.request_id.as_str().to_owned(),
            inputs: Some(inputs),
            deadline_ms: None,
            stream: request.answer == ResponseMode::Stream,
            priority: v1::Priority::from(request.priority).into(),
            timed: request.timed,
        };
        let num_bytes = start.encoded_len();
        if num_bytes > MAX_CALL_BYTES {
            let message =
                format!("the inputs of the call take `{num_bytes}` bytes, at most `{MAX_CALL_BYTES}` fit");
            return PendingCall::refused(CallError::not_started(ErrorClass::TooLarge, message));
        }
        let call_id = self.link.next_call_id.fetch_add(1, Ordering::Relaxed);
        let (reply, pending) = call::channel(request.parts());
        let frame = Frame::Start { call_id, start, deadline: request.deadline };
        let accepted = {
            let mut state = self.link.state.lock();
            let accepted = state.frames.as_ref().is_some_and(|frames| frames.send(frame).is_ok());
            if accepted {
                state.calls.insert(call_id, OpenCall { reply, sent: false });
            }
            accepted
        };
        if !accepted {
            let message = "the worker of the replica cannot be reached";
            return PendingCall::refused(CallError::not_started(ErrorClass::Unavailable, message));
        }
        let link = self.link.clone();
        pending.on_drop(move || link.forget(call_id))
    }
}

impl Link {
    /// The caller has left, or has its answer.
    fn forget(&self, call_id: u64) {
        let mut state = self.state.lock();
        let under_way = state.calls.remove(&call_id).is_some_and(|call| call.sent);
        if let Some(frames) = state.frames.as_ref().filter(|_| under_way) {
            let _ = frames.send(Frame::Cancel { call_id });
        }
    }

    /// The frame as it goes out now; `None` when its caller has left meanwhile.
    fn encode(&self, frame: Frame) -> Option<CallFrame> {
        match frame {
            Frame::Start { call_id, mut start, deadline } => {
                self.state.lock().calls.get_mut(&call_id)?.sent = true;
                start.deadline_ms = deadline.map(|deadline| {
                    let left = deadline.saturating_duration_since(clock::now());
                    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
                });
                Some(CallFrame { call_id, body: Some(call_frame::Body::Start(start)) })
            }
            Frame::Cancel { call_id } => {
                Some(CallFrame { call_id, body: Some(call_frame::Body::Cancel(Cancel {})) })
            }
        }
    }

    /// A frame came back. Frames of calls that nobody waits for are ignored.
    fn receive(&self, frame: ReplyFrame) {
        let call_id = frame.call_id;
        let outcome = match frame.body {
            Some(reply_frame::Body::Delta(part)) => match Value::try_from(part) {
                Ok(part) => {
                    if let Some(call) = self.state.lock().calls.get(&call_id) {
                        call.reply.delta(part);
                    }
                    return;
                }
                Err(error) => Err(not_ours(&error)),
            },
            Some(reply_frame::Body::Timing(timing)) => {
                if let Some(call) = self.state.lock().calls.get(&call_id) {
                    call.reply.timing(timing.into());
                }
                return;
            }
            Some(reply_frame::Body::Done(value)) => Value::try_from(value).map_err(|error| not_ours(&error)),
            Some(reply_frame::Body::Failed(failure)) => Err(failure.into()),
            None => Err(not_ours(&WireError::Missing("body"))),
        };
        let call = self.state.lock().calls.remove(&call_id);
        if let Some(call) = call {
            call.reply.finish(outcome);
        }
    }

    /// Makes the link usable again.
    fn mend(&self) -> mpsc::UnboundedReceiver<Frame> {
        let (frames, outbound) = mpsc::unbounded_channel();
        self.state.lock().frames = Some(frames);
        outbound
    }

    /// Ends every call and refuses new ones until [`Link::mend`].
    fn break_off(&self, reason: &str) {
        let calls = {
            let mut state = self.state.lock();
            state.frames = None;
            std::mem::take(&mut state.calls)
        };
        for call in calls.into_values() {
            let error = if call.sent { CallError::started } else { CallError::not_started };
            call.reply.finish(Err(error(ErrorClass::Unavailable, reason)));
        }
    }
}

fn not_ours(error: &WireError) -> CallError {
    CallError::started(ErrorClass::Internal, format!("the replica's answer cannot be read: {error}"))
}

async fn drive(link: Arc<Link>, outbound: mpsc::UnboundedReceiver<Frame>) {
    let mut outbound = Some(outbound);
    let mut retries = Retries::new(REDIAL, GOOD_SESSION);
    loop {
        let dialled = clock::now();
        let error = session(&link, outbound.take()).await;
        link.break_off("the connection to the replica's worker broke");
        let wait = retries.next_wait(clock::now().duration_since(dialled), &mut random::rng());
        // Told once per outage, not once per attempt.
        if retries.is_first() {
            tracing::warn!(address = %link.address, error = %error, "connection to a worker broke, dialling again");
        }
        tokio::time::sleep(wait).await;
    }
}

/// One connection from dialling to its end; gives the reason of the end.
async fn session(link: &Arc<Link>, outbound: Option<mpsc::UnboundedReceiver<Frame>>) -> String {
    match connected(link, outbound).await {
        Ok(()) => "the worker closed the stream".to_owned(),
        Err(error) => chain(&*error),
    }
}

async fn connected(
    link: &Arc<Link>,
    outbound: Option<mpsc::UnboundedReceiver<Frame>>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = Endpoint::from_shared(format!("http://{}", link.address))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES);
    let channel = connect(&endpoint, &link.secret).await?;
    let mut client = ReplicaServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let outbound = outbound.unwrap_or_else(|| link.mend());
    let encoder = link.clone();
    let frames = UnboundedReceiverStream::new(outbound)
        .filter_map(move |frame| std::future::ready(encoder.encode(frame)));
    let mut replies = client.calls(frames).await?.into_inner();
    while let Some(frame) = replies.message().await? {
        link.receive(frame);
    }
    Ok(())
}
