//! A connection that was accepted: it reads and writes as its socket does, or as TLS over its socket, and what happens on it is
//! noted. What is noted is above TLS: requests and answers, not records.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use crate::ConnectionLimits;
use crate::activity::Activity;

pub(crate) type Socket = Either<TcpStream, UnixStream>;

/// Most bytes that are encrypted before the client has taken some: what is held back here is not known to be untaken.
const MAX_TLS_BUFFER: usize = 32 << 10;

/// See the module.
#[derive(Debug)]
pub struct Connection {
    stream: Either<Socket, Box<TlsStream<Socket>>>,
    peer: Option<SocketAddr>,
    activity: Arc<Mutex<Activity>>,
    limits: Arc<ConnectionLimits>,
    /// Resolves, or loses its sender, when the connection is to finish what is under way and close.
    closing: Option<oneshot::Receiver<()>>,
}

impl Connection {
    pub(crate) fn new(
        socket: Socket,
        peer: Option<SocketAddr>,
        activity: Arc<Mutex<Activity>>,
        limits: Arc<ConnectionLimits>,
        closing: oneshot::Receiver<()>,
    ) -> Self {
        Self { stream: Either::Left(socket), peer, activity, limits, closing: Some(closing) }
    }

    /// Where it comes from; `None` for a Unix socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The first byte, left where it is; `None` when it ends before one. Over TCP alone.
    ///
    /// # Errors
    /// What the system says.
    pub async fn peek(&self) -> io::Result<Option<u8>> {
        let mut first = [0];
        match &self.stream {
            Either::Left(Either::Left(tcp)) => Ok((tcp.peek(&mut first).await? > 0).then_some(first[0])),
            Either::Left(Either::Right(_)) | Either::Right(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// The same over TLS, once the handshake is done: it has [`ConnectionLimits::handshake`] for that, after which deadlines begin anew.
    ///
    /// # Errors
    /// What the client or TLS says; the connection is over. It is one error to call this a second time.
    pub async fn secure(self, config: Arc<ServerConfig>) -> io::Result<Self> {
        let Either::Left(socket) = self.stream else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "there is TLS on this connection already",
            ));
        };
        self.activity.lock().securing(millstream_clock::now());
        let limited = |session: &mut rustls::ServerConnection| session.set_buffer_limit(Some(MAX_TLS_BUFFER));
        let handshake = Box::pin(TlsAcceptor::from(config).accept_with(socket, limited));
        let stream = Box::new(handshake.await?);
        self.activity.lock().introduced(millstream_clock::now());
        Ok(Self { stream: Either::Right(stream), ..self })
    }

    /// The certificates that the client has shown and that were checked, its own first; none without TLS, or where none is asked for.
    #[must_use]
    pub fn client_certificates(&self) -> &[CertificateDer<'static>] {
        match &self.stream {
            Either::Left(_) => &[],
            Either::Right(tls) => tls.get_ref().1.peer_certificates().unwrap_or_default(),
        }
    }

    /// Both ends have met: what was read so far came before what is spoken here, and deadlines begin anew.
    pub fn introduced(&self) {
        self.activity.lock().introduced(millstream_clock::now());
    }

    /// It has something under way for as long as this is kept.
    #[must_use]
    pub fn busy(&self) -> Busy {
        Busy::new(self.activity.clone())
    }

    pub(crate) fn activity(&self) -> &Arc<Mutex<Activity>> {
        &self.activity
    }

    pub(crate) fn limits(&self) -> &Arc<ConnectionLimits> {
        &self.limits
    }

    pub(crate) fn take_closing(&mut self) -> Option<oneshot::Receiver<()>> {
        self.closing.take()
    }

    fn note_write(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(Ok(num_bytes)) => self.activity.lock().wrote(*num_bytes),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => self.activity.lock().blocked(millstream_clock::now()),
        }
    }
}

/// Something under way on a connection, such as a request from its head to the end of its answer.
#[derive(Debug)]
pub struct Busy {
    activity: Arc<Mutex<Activity>>,
}

impl Busy {
    pub(crate) fn new(activity: Arc<Mutex<Activity>>) -> Self {
        activity.lock().request_started();
        Self { activity }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.activity.lock().request_ended(millstream_clock::now());
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.activity.lock().read(&buf.filled()[before..], millstream_clock::now());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
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

    /// Whoever writes flushes once all has been written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        match &result {
            Poll::Ready(Ok(())) => self.activity.lock().flushed(),
            Poll::Ready(Err(_)) => {}
            // A socket is flushed at once; TLS has records that the client does not take.
            Poll::Pending => self.activity.lock().blocked(millstream_clock::now()),
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
