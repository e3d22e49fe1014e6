//! A listener for processes of the cluster, and for strangers: who calls is known before a service is.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::{Request, Status};

use crate::handshake;
use crate::secret::{Authority, Secret};

/// How long a caller may take to say who it is.
const GREETING_TIMEOUT: Duration = Duration::from_secs(3);
/// How many may be about to say it. When there are more, the one that has been silent for longest is hung up on: whoever
/// opens connections and says nothing keeps nobody else out.
const MAX_UNKNOWN: usize = 256;
/// How long to wait when the system cannot accept, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Where it comes from.
    pub address: SocketAddr,
    /// What it has proved to be; nothing for strangers.
    pub authority: Option<Authority>,
}

impl Peer {
    /// The other end of the connection of a call.
    fn of<T>(request: &Request<T>) -> Option<&Self> {
        request.extensions().get()
    }

    /// What the other end of a call's connection has proved to be.
    #[must_use]
    pub fn authority_of<T>(request: &Request<T>) -> Option<Authority> {
        Self::of(request).and_then(|peer| peer.authority)
    }
}

/// A connection whose other end is known as far as it wants to be.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    peer: Peer,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer
    }
}

/// Refuses calls of whoever has not proved to be this.
pub fn demand(authority: Authority) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone {
    move |request| match Peer::authority_of(&request) {
        Some(proved) if proved == authority => Ok(request),
        _ => Err(Status::unauthenticated(format!(
            "this service takes callers alone that prove to know the cluster's {}",
            authority.token_name()
        ))),
    }
}

/// Connections as they come, each once it is known who calls. Callers that prove nothing are strangers; those that try and
/// fail are told why and hung up on. Ends when the stream is dropped.
pub fn accept(
    listener: TcpListener,
    secrets: Vec<Secret>,
) -> impl Stream<Item = io::Result<Connection>> + Send + use<> {
    let (known, connections) = mpsc::channel(1);
    tokio::spawn(accept_all(listener, secrets.into(), known));
    ReceiverStream::new(connections)
}

async fn accept_all(
    listener: TcpListener,
    secrets: Arc<[Secret]>,
    known: mpsc::Sender<io::Result<Connection>>,
) {
    let mut unknown: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = known.closed() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        unknown.retain(|meeting| !meeting.is_finished());
        if unknown.len() >= MAX_UNKNOWN
            && let Some(oldest) = unknown.pop_front()
        {
            oldest.abort();
        }
        let meeting = introduce(stream, address, Arc::clone(&secrets), known.clone());
        unknown.push_back(tokio::spawn(meeting).abort_handle());
    }
}

/// Passes a connection on once it is known who calls.
async fn introduce(
    stream: TcpStream,
    address: SocketAddr,
    secrets: Arc<[Secret]>,
    known: mpsc::Sender<io::Result<Connection>>,
) {
    match tokio::time::timeout(GREETING_TIMEOUT, meet(stream, address, &secrets)).await {
        Ok(Ok(connection)) => drop(known.send(Ok(connection)).await),
        Ok(Err(handshake::Error::Refused(refusal))) => {
            tracing::warn!(%address, %refusal, "a caller was turned away");
        }
        // It has hung up, or says nothing.
        Ok(Err(handshake::Error::Io(_))) | Err(_) => {}
    }
}

/// Lets the caller prove what it is, if its first byte says that it wants to.
async fn meet(
    mut stream: TcpStream,
    address: SocketAddr,
    secrets: &[Secret],
) -> Result<Connection, handshake::Error> {
    stream.set_nodelay(true)?;
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let authority = match handshake::begins_with(first[0]) {
        true => Some(handshake::listen(&mut stream, secrets).await?),
        false => None,
    };
    Ok(Connection { stream, peer: Peer { address, authority } })
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio_stream::StreamExt as _;
    use tonic::transport::Endpoint;

    use super::*;
    use crate::{Refusal, connect, refusal};

    async fn listen() -> (SocketAddr, impl Stream<Item = io::Result<Connection>> + Send + Unpin) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (address, Box::pin(accept(listener, vec![Secret::new(Authority::Member, "join")])))
    }

    #[tokio::test]
    async fn members_and_strangers_are_told_apart_and_neither_waits_for_silent_ones() {
        let (address, mut connections) = listen().await;
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(b"PRI * HTTP/2.0").await.unwrap();
        let mut met = connections.next().await.unwrap().unwrap();
        assert_eq!(met.connect_info().authority, None);
        let mut said = [0; 14];
        met.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"PRI * HTTP/2.0", "nothing that a stranger says is lost");

        let mut member = TcpStream::connect(address).await.unwrap();
        handshake::call(&mut member, &Secret::new(Authority::Member, "join")).await.unwrap();
        let met = connections.next().await.unwrap().unwrap();
        assert_eq!(met.connect_info().authority, Some(Authority::Member));
        assert_eq!(met.connect_info().address, member.local_addr().unwrap());
    }

    #[tokio::test]
    async fn whoever_says_nothing_keeps_nobody_out() {
        let (address, mut connections) = listen().await;
        let mut silent = Vec::new();
        for _ in 0..MAX_UNKNOWN + 50 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut member = TcpStream::connect(address).await.unwrap();
        let secret = Secret::new(Authority::Member, "join");
        let meeting = async { handshake::call(&mut member, &secret).await.unwrap() };
        let soon = tokio::time::timeout(GREETING_TIMEOUT / 2, meeting).await;
        assert!(soon.is_ok(), "before the silent ones have had their time");
        assert!(connections.next().await.unwrap().unwrap().connect_info().authority.is_some());
        assert_eq!(silent[0].read(&mut [0]).await.unwrap_or(0), 0, "the first of them is hung up on");
    }

    #[tokio::test]
    async fn a_channel_says_why_it_was_refused() {
        let (address, _connections) = listen().await;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let error = connect(&endpoint, &Secret::new(Authority::Member, "other")).await.unwrap_err();
        assert_eq!(refusal(&error), Some(Refusal::WrongToken(Authority::Member)), "{error:?}");
        let nobody = Endpoint::from_static("http://127.0.0.1:1");
        let error = connect(&nobody, &Secret::new(Authority::Member, "join")).await.unwrap_err();
        assert_eq!(refusal(&error), None);
    }
}
