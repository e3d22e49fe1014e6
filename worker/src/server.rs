//! Calls from ingresses of other processes: one stream for each, on which their calls are multiplexed. Frames are
//! decoded, handed to the same client that local callers use, and what comes back is written by one writer.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::FuturesUnordered;
use millstream_connect::{Authority, Secret, accept, demand};
use millstream_proto::call::{CallEvent, CallRequest, PendingCall, ReplicaClient, ResponseMode};
use millstream_proto::v1::replica_service_server::{ReplicaService, ReplicaServiceServer};
use millstream_proto::v1::{self, call_frame, reply_frame};
use millstream_proto::{ReplicaId, RequestId, WireError};
use millstream_values::{CallError, ErrorClass, Map, Value};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::client::WorkerClient;
use crate::clock;

/// Largest message: the largest body that the HTTP edge takes, and room for its frame.
const MAX_MESSAGE_BYTES: usize = 68 << 20;
/// Frames that wait for one ingress to read.
const MAX_UNSENT_FRAMES: usize = 256;
/// How often an idle connection is asked whether the other side is there, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// Flow control: one large tensor must not wait for window updates of small ones.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Serves until `closing`; then every stream ends once its calls are over.
pub(crate) async fn serve(
    listener: TcpListener,
    secret: Secret,
    client: Arc<WorkerClient>,
    closing: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let service = ReplicaServiceServer::new(Service { client, closing: closing.clone() })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(InterceptedService::new(service, demand(Authority::Member)))
        .serve_with_incoming_shutdown(accept(listener, vec![secret]), closing.cancelled())
        .await
}

struct Service {
    client: Arc<WorkerClient>,
    closing: CancellationToken,
}

#[tonic::async_trait]
impl ReplicaService for Service {
    type CallsStream = Pin<Box<dyn Stream<Item = Result<v1::ReplyFrame, Status>> + Send>>;

    async fn calls(
        &self,
        request: Request<Streaming<v1::CallFrame>>,
    ) -> Result<Response<Self::CallsStream>, Status> {
        let (writer, unsent) = mpsc::channel(MAX_UNSENT_FRAMES);
        let calls = Calls {
            client: self.client.clone(),
            writer,
            running: FuturesUnordered::new(),
            cancels: HashMap::new(),
        };
        tokio::spawn(calls.run(request.into_inner(), self.closing.clone()));
        Ok(Response::new(Box::pin(ReceiverStream::new(unsent))))
    }
}

type Writer = mpsc::Sender<Result<v1::ReplyFrame, Status>>;
type Forwarding = Pin<Box<dyn Future<Output = u64> + Send>>;

/// The calls of one stream. Dropping it cancels them all.
struct Calls {
    client: Arc<WorkerClient>,
    writer: Writer,
    running: FuturesUnordered<Forwarding>,
    cancels: HashMap<u64, AbortHandle>,
}

impl Calls {
    async fn run(mut self, mut frames: Streaming<v1::CallFrame>, closing: CancellationToken) {
        loop {
            let idle = self.running.is_empty();
            tokio::select! {
                frame = frames.message() => match frame {
                    Ok(Some(frame)) => {
                        if let Err(status) = self.take(frame) {
                            let _ = self.writer.send(Err(status)).await;
                            return;
                        }
                    }
                    // The other side is gone or has broken the stream: nobody waits for answers.
                    Ok(None) | Err(_) => return,
                },
                Some(call_id) = self.running.next(), if !idle => {
                    self.cancels.remove(&call_id);
                }
                () = self.writer.closed() => return,
                () = closing.cancelled(), if idle => return,
            }
        }
    }

    /// Begins or cancels a call. An error ends the stream: the two sides no longer agree on what runs.
    fn take(&mut self, frame: v1::CallFrame) -> Result<(), Status> {
        let call_id = frame.call_id;
        match frame.body {
            Some(call_frame::Body::Start(start)) => {
                if self.cancels.contains_key(&call_id) {
                    let text =
                        format!("call id `{call_id}` is in use on this stream; choose another for each call");
                    return Err(Status::invalid_argument(text));
                }
                let pending = match decode(start) {
                    Ok((replica, request)) => self.client.call(&replica, request),
                    Err(error) => {
                        PendingCall::refused(CallError::not_started(ErrorClass::Malformed, error.to_string()))
                    }
                };
                let (cancel, registration) = AbortHandle::new_pair();
                self.cancels.insert(call_id, cancel);
                let forwarding = Abortable::new(forward(call_id, pending, self.writer.clone()), registration);
                self.running.push(Box::pin(async move {
                    let _ = forwarding.await;
                    call_id
                }));
            }
            Some(call_frame::Body::Cancel(v1::Cancel {})) => {
                if let Some(cancel) = self.cancels.get(&call_id) {
                    cancel.abort();
                }
            }
            None => return Err(WireError::Missing("body").into()),
        }
        Ok(())
    }
}

fn decode(start: v1::Start) -> Result<(ReplicaId, CallRequest), WireError> {
    let priority = start.priority().into();
    let inputs = Map::try_from(start.inputs.ok_or(WireError::Missing("inputs"))?)?;
    let request = CallRequest {
        request_id: RequestId::from(start.request_id),
        inputs: Value::from(inputs),
        deadline: start.deadline_ms.and_then(|ms| clock::now().checked_add(Duration::from_millis(ms))),
        answer: if start.stream { ResponseMode::Stream } else { ResponseMode::Whole },
        priority,
        timed: start.timed,
    };
    Ok((ReplicaId::from(start.replica_id), request))
}

/// Writes what comes back, to its end; waits when the other side reads too slowly.
async fn forward(call_id: u64, mut pending: PendingCall, writer: Writer) {
    loop {
        let (body, last) = match pending.next().await {
            CallEvent::Delta(part) => (reply_frame::Body::Delta((&part).into()), false),
            CallEvent::Timing(timing) => (reply_frame::Body::Timing(timing.into()), false),
            CallEvent::Done(value) => (reply_frame::Body::Done((&value).into()), true),
            CallEvent::Failed(error) => (reply_frame::Body::Failed((&error).into()), true),
        };
        let frame = v1::ReplyFrame { call_id, body: Some(body) };
        if writer.send(Ok(frame)).await.is_err() || last {
            return;
        }
    }
}
