//! Calls from ingresses of other processes: a link for each, over TCP or over a Unix socket. What comes on it goes to the same
//! client that local callers use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::{Authority, Secret, accept, handshake};
use millstream_link::{Broken, Duplex, socket_name};
use millstream_proto::NodeId;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected as _;

use crate::table::ReplicaTable;

/// How long a caller on the Unix socket may take to prove itself.
const GREETING_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait when the system cannot accept, as when no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all links need.
pub(crate) struct Server {
    /// The cluster's join token.
    pub(crate) secret: Secret,
    /// The replicas of this process.
    pub(crate) client: Arc<ReplicaTable>,
    /// Links end once it is cancelled and their calls are over.
    pub(crate) closing: CancellationToken,
}

impl Server {
    /// Serves until `closing`; then every link ends once its calls are over.
    pub(crate) async fn serve(self, listener: TcpListener, socket: Option<Socket>) {
        let links = TaskTracker::new();
        let local = async {
            match &socket {
                Some(socket) => self.serve_local(&socket.listener, &links).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.serve_all(listener, &links) => {}
            () = local => {}
            () = self.closing.cancelled() => {}
        }
        drop(socket);
        links.close();
        links.wait().await;
    }

    async fn serve_all(&self, listener: TcpListener, links: &TaskTracker) {
        let mut connections = std::pin::pin!(accept(listener, vec![self.secret.clone()]));
        while let Some(connection) = connections.next().await {
            // What cannot be accepted has been told by whoever accepts.
            let Ok(connection) = connection else { continue };
            let peer = connection.connect_info();
            if peer.authority == Some(Authority::Member) {
                self.spawn(connection, links);
            } else {
                tracing::warn!(address = %peer.address, "a caller that does not know the join token was turned away");
            }
        }
    }

    async fn serve_local(&self, listener: &UnixListener, links: &TaskTracker) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (secret, client) = (self.secret.clone(), self.client.clone());
                    let closing = self.closing.clone();
                    links.spawn(async move {
                        if let Some(stream) = meet(stream, secret).await {
                            told(millstream_link::serve(stream, client, closing).await);
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn(&self, stream: impl Duplex, links: &TaskTracker) {
        let (client, closing) = (self.client.clone(), self.closing.clone());
        links.spawn(async move { told(millstream_link::serve(stream, client, closing).await) });
    }
}

/// The stream, once its other end has proved that it belongs to the cluster.
async fn meet(mut stream: UnixStream, secret: Secret) -> Option<UnixStream> {
    let secrets = [secret];
    let meeting = handshake::listen(&mut stream, &secrets);
    match tokio::time::timeout(GREETING_TIMEOUT, meeting).await {
        Ok(Ok(_)) => Some(stream),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a caller on the Unix socket was turned away");
            None
        }
        Err(_) => None,
    }
}

fn told(end: Result<(), Broken>) {
    match end {
        // An ingress that ends, or drops this worker from its routes.
        Ok(()) | Err(Broken::Closed) => {}
        Err(error) => tracing::warn!(%error, "the connection of an ingress broke"),
    }
}

/// A Unix socket in a folder of this user's own; gone when dropped.
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at that path. What a process before this one has left there is replaced; what somebody answers on is not.
    pub(crate) async fn bind(path: &Path) -> io::Result<Self> {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        Ok(Self { listener: UnixListener::bind(path)?, path: path.to_owned() })
    }
}

/// The socket for calls of this machine, where one can be had; without it they come over TCP.
pub(crate) async fn open_socket(folder: Option<&Path>, node: &NodeId) -> Option<Socket> {
    let path = folder?.join(socket_name(node));
    let bound = Socket::bind(&path).await;
    let told = |error: &io::Error| tracing::warn!(path = %path.display(), %error, "no Unix socket for calls: they come over TCP");
    bound.inspect_err(told).ok()
}

impl Drop for Socket {
    fn drop(&mut self) {
        // One that stays behind is replaced by the next worker of this node.
        let _ = std::fs::remove_file(&self.path);
    }
}
