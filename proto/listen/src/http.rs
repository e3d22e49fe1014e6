//! HTTP on a connection: HTTP/1.1 or h2 as its first bytes say, until it ends or its listener ends it.

use std::convert::Infallible;
use std::error::Error;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use hyper::body::{Body, Incoming};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tower::{Service, ServiceExt as _};

use crate::body::{GuardedBody, Reading};
use crate::connection::Busy;
use crate::{Connection, ConnectionLimits, H2Limits, Listener, Server};

/// hyper's read buffer, and so the largest HTTP/1 header block that is read at all. Services may have smaller limits of their own;
/// what does not fit here gets hyper's bare 431.
const MAX_H1_BUFFER: usize = 64 << 10;

/// Serves HTTP on a listener: each request goes to a copy of the service.
pub fn start<S, B>(listener: impl Into<Listener>, limits: ConnectionLimits, service: S) -> Server
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    Server::start(listener, limits, move |connection| {
        let service = service.clone();
        serve(connection, move |request| async move {
            let Ok(response) = service.oneshot(request).await;
            response
        })
    })
}

/// Serves a connection to its end: a copy of `answer` is called for each request. A client that does not take an answer loses it after
/// [`ConnectionLimits::write`]: alone where it is one of several on an HTTP/2 connection.
pub async fn serve<F, Fut, B>(mut connection: Connection, answer: F)
where
    F: FnOnce(Request<Incoming>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Response<B>> + Send,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let activity = connection.activity().clone();
    let (closing, limits) = (connection.take_closing(), connection.limits().clone());
    let streams = Streams { next: Arc::default(), limit: limits.write };
    let builder = builder(&limits.h2, streams.clone());
    let service = service_fn(|request| {
        let busy = Busy::new(activity.clone());
        let reading = (request.version() == Version::HTTP_2).then(|| streams.begin());
        let answer = answer.clone();
        // The answer's future is made where it stays: one that is made here would be copied, all its kilobytes, from hand to hand.
        async move {
            let response = answer(request).await;
            Ok::<_, Infallible>(response.map(|body| GuardedBody::new(body, reading, busy)))
        }
    });
    let mut served = pin!(builder.serve_connection(TokioIo::new(connection), service));
    let until_told = async {
        match closing {
            Some(closing) => drop(closing.await),
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        biased;
        result = served.as_mut() => result,
        () = until_told => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended early");
    }
}

fn builder(h2: &H2Limits, streams: Streams) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        // The listener keeps time, see `activity`.
        .header_read_timeout(None)
        .max_buf_size(MAX_H1_BUFFER)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(h2.max_streams)
        .max_pending_accept_reset_streams(h2.max_pending_resets)
        .max_local_error_reset_streams(h2.max_pending_resets)
        .max_header_list_size(h2.max_header_bytes)
        .keep_alive_interval(h2.ping_interval)
        .keep_alive_timeout(h2.ping_timeout);
    builder
}

/// Runs the streams of an HTTP/2 connection, each until it ends or its client takes nothing for too long. hyper waits for a client
/// without end; a stream that is dropped is reset.
#[derive(Clone)]
struct Streams {
    /// What the stream that is begun next is known by: hyper asks for a future and has it run at once.
    next: Arc<Mutex<Option<Arc<Reading>>>>,
    limit: Duration,
}

impl Streams {
    fn begin(&self) -> Arc<Reading> {
        let reading = Arc::new(Reading::default());
        *self.next.lock() = Some(reading.clone());
        reading
    }
}

impl<T: Future<Output: Send> + Send + 'static> Executor<T> for Streams {
    fn execute(&self, stream: T) {
        let (reading, limit) = (self.next.lock().take(), self.limit);
        let Some(reading) = reading else { return drop(tokio::spawn(stream)) };
        tokio::spawn(async move {
            let (mut stream, mut timer) = (pin!(stream), None);
            poll_fn(|cx| match stream.as_mut().poll(cx) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => reading.poll_stalled(limit, &mut timer, cx),
            })
            .await;
        });
    }
}
