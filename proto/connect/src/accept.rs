//! A listener for processes of the cluster, and for unknown callers: who calls is known before anything else is done for it.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use millstream_listen::{Connection, ConnectionLimits, Listener, Server};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;

use crate::handshake;
use crate::secret::{Authority, Secret};

/// Who is at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// What it has proved to be; nothing for unknown callers.
    pub authority: Option<Authority>,
}

impl Peer {
    /// What the other end of a call's connection has proved to be.
    #[must_use]
    pub fn authority_of<T>(request: &tonic::Request<T>) -> Option<Authority> {
        request.extensions().get::<Self>().and_then(|peer| peer.authority)
    }
}

/// Refuses calls of whoever has not proved to be this.
pub fn demand(
    authority: Authority,
) -> impl Fn(tonic::Request<()>) -> Result<tonic::Request<()>, Status> + Clone {
    move |request| match Peer::authority_of(&request) {
        Some(proved) if proved == authority => Ok(request),
        _ => Err(Status::unauthenticated(format!(
            "this service takes callers alone that prove to know the cluster's {}",
            authority.token_name()
        ))),
    }
}

/// Serves on a listener: `serve` is called for each connection once it is known who calls. Callers that prove nothing are unknown;
/// those that try and fail are told why and hung up on.
pub fn serve<F, Fut>(
    listener: impl Into<Listener>,
    limits: ConnectionLimits,
    secrets: Vec<Secret>,
    serve: F,
) -> Server
where
    F: Fn(Connection, Peer) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (secrets, serve): (Arc<[Secret]>, _) = (secrets.into(), Arc::new(serve));
    Server::start(listener, limits, move |mut connection| {
        let (secrets, serve) = (secrets.clone(), serve.clone());
        async move {
            match meet(&mut connection, &secrets).await {
                Ok(peer) => {
                    connection.introduced();
                    serve(connection, peer).await;
                }
                Err(handshake::Error::Refused(refusal)) => {
                    tracing::warn!(address = ?connection.peer(), %refusal, "a caller was turned away");
                }
                // It has hung up.
                Err(handshake::Error::Io(_)) => {}
            }
        }
    })
}

/// Serves gRPC on a listener. The services learn who calls from [`Peer::authority_of`].
pub fn serve_grpc(
    listener: impl Into<Listener>,
    limits: ConnectionLimits,
    secrets: Vec<Secret>,
    routes: Routes,
) -> Server {
    // Made once: the routes are copied for each call.
    let routes = routes.prepare();
    serve(listener, limits, secrets, move |connection, peer| {
        let routes = routes.clone();
        millstream_listen::http::serve(connection, move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            async move {
                let answered: Result<Response<Body>, Infallible> = routes.oneshot(request).await;
                let Ok(response) = answered;
                response
            }
        })
    })
}

/// Lets the caller prove what it is. Over TCP it may be a stranger, if its first byte says that it does not want to.
async fn meet(connection: &mut Connection, secrets: &[Secret]) -> Result<Peer, handshake::Error> {
    let wants_to = match connection.peer() {
        Some(_) => {
            let first = connection.peek().await?;
            handshake::begins_with(first.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?)
        }
        None => true,
    };
    let authority = match wants_to {
        true => Some(handshake::listen(connection, secrets).await?),
        false => None,
    };
    Ok(Peer { authority })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::mpsc;
    use tonic::transport::Endpoint;

    use super::*;
    use crate::{Refusal, connect, refusal};

    /// A listener that hands over its connections.
    async fn listen(limits: ConnectionLimits) -> (SocketAddr, mpsc::Receiver<(Connection, Peer)>, Server) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (met, connections) = mpsc::channel(1);
        let server =
            serve(listener, limits, vec![Secret::new(Authority::Member, "join")], move |connection, peer| {
                let met = met.clone();
                async move { drop(met.send((connection, peer)).await) }
            });
        (address, connections, server)
    }

    #[tokio::test]
    async fn members_and_unknown_callers_are_told_apart_and_neither_waits_for_silent_ones() {
        let (address, mut connections, _server) = listen(ConnectionLimits::members()).await;
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(b"PRI * HTTP/2.0").await.unwrap();
        let (mut met, peer) = connections.recv().await.unwrap();
        assert_eq!(peer.authority, None);
        let mut said = [0; 14];
        met.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"PRI * HTTP/2.0", "nothing that a stranger says is lost");

        let mut member = TcpStream::connect(address).await.unwrap();
        handshake::call(&mut member, &Secret::new(Authority::Member, "join")).await.unwrap();
        let (met, peer) = connections.recv().await.unwrap();
        assert_eq!(peer.authority, Some(Authority::Member));
        assert_eq!(met.peer(), Some(member.local_addr().unwrap()));
    }

    #[tokio::test]
    async fn whoever_says_nothing_keeps_nobody_out() {
        let limits = ConnectionLimits { max_connections: 16, ..ConnectionLimits::members() };
        let (address, mut connections, _server) = listen(limits.clone()).await;
        let mut silent = Vec::new();
        for _ in 0..limits.max_connections + 4 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut member = TcpStream::connect(address).await.unwrap();
        let secret = Secret::new(Authority::Member, "join");
        let meeting = async { handshake::call(&mut member, &secret).await.unwrap() };
        let soon = tokio::time::timeout(limits.first_byte / 2, meeting).await;
        assert!(soon.is_ok(), "before the silent ones have had their time");
        assert!(connections.recv().await.unwrap().1.authority.is_some());
        assert_eq!(silent[0].read(&mut [0]).await.unwrap_or(0), 0, "the first of them is hung up on");
    }

    #[tokio::test]
    async fn a_channel_says_why_it_was_refused() {
        let (address, _connections, _server) = listen(ConnectionLimits::members()).await;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        let error = connect(&endpoint, &Secret::new(Authority::Member, "other")).await.unwrap_err();
        assert_eq!(refusal(&error), Some(Refusal::WrongToken(Authority::Member)), "{error:?}");
        let nobody = Endpoint::from_static("http://127.0.0.1:1");
        let error = connect(&nobody, &Secret::new(Authority::Member, "join")).await.unwrap_err();
        assert_eq!(refusal(&error), None);
    }
}
