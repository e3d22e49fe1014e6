//! One connection: HTTP/1.1 or h2 as its first bytes say, until it ends or the server ends it.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::activity::Activity;
use super::edge;
use super::in_flight::InFlight;
use super::state::Edge;
use crate::clock;
use crate::limits::HttpLimits;

/// hyper's read buffer, and so the largest HTTP/1 header block that is read at all. What is over our own limits but
/// fits here gets a problem document, what does not gets hyper's bare 431.
const MAX_H1_BUFFER: usize = 64 << 10;
const H2_PING_INTERVAL: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves a connection to its end. `drain` resolving (or its sender gone) makes it finish what is under way and close.
/// What happens on it is noted in `activity`.
pub(crate) async fn serve(
    stream: TcpStream,
    activity: Arc<Mutex<Activity>>,
    edge: Arc<Edge>,
    drain: oneshot::Receiver<()>,
) {
    let io = TokioIo::new(WatchedStream { stream, activity: activity.clone() });
    let builder = builder(&edge.limits);
    let service = service_fn(|request| {
        let guard = InFlight::start(activity.clone());
        let edge = edge.clone();
        async move { Ok::<_, Infallible>(edge::answer(&edge, request, guard).await) }
    });
    let mut connection = pin!(builder.serve_connection(io, service));
    let result = tokio::select! {
        biased;
        result = connection.as_mut() => result,
        _ = drain => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = %millstream_connect::chain(&*error), "connection ended early");
    }
}

fn builder(limits: &HttpLimits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // The server keeps time, see `activity`.
        .header_read_timeout(None)
        .max_buf_size(MAX_H1_BUFFER)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.connection.max_h2_streams)
        .max_pending_accept_reset_streams(limits.connection.max_h2_pending_resets)
        .max_local_error_reset_streams(limits.connection.max_h2_pending_resets)
        .max_header_list_size(u32::try_from(limits.request.max_header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(H2_PING_INTERVAL)
        .keep_alive_timeout(H2_PING_TIMEOUT);
    builder
}

/// Notes what is read and written.
struct WatchedStream {
    stream: TcpStream,
    activity: Arc<Mutex<Activity>>,
}

impl WatchedStream {
    fn note_write(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(_) => self.activity.lock().wrote(),
            Poll::Pending => self.activity.lock().blocked(clock::now()),
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.activity.lock().read(&buf.filled()[before..], clock::now());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
