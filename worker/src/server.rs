//! Calls from ingresses of other processes: a link for each, over TCP or over a Unix socket. What comes on it goes to the same
//! client that local callers use.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::{Authority, Peer, Secret, serve};
use millstream_link::{Broken, socket_name};
use millstream_listen::{Connection, ConnectionLimits};
use millstream_proto::NodeId;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::table::ReplicaTable;

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
        let limits = ConnectionLimits::members();
        let server = Arc::new(self);
        let (secrets, closing) = (vec![server.secret.clone()], server.closing.clone());
        let link = move |connection, peer| server.clone().link(connection, peer);
        let over_tcp = serve(listener, limits.clone(), secrets.clone(), link.clone());
        let (listener, path) = socket.map(Socket::into_parts).unzip();
        let local = listener.map(|listener| serve(listener, limits, secrets, link));
        closing.cancelled().await;
        drop(path);
        let local = async {
            if let Some(local) = local {
                local.drain(Duration::MAX).await;
            }
        };
        tokio::join!(over_tcp.drain(Duration::MAX), local);
    }

    async fn link(self: Arc<Self>, connection: Connection, peer: Peer) {
        if peer.authority != Some(Authority::Member) {
            let address = connection.peer();
            tracing::warn!(?address, "a caller that does not know the join token was turned away");
            return;
        }
        let _busy = connection.busy();
        log_end(millstream_link::serve(connection, self.client.clone(), self.closing.clone()).await);
    }
}

fn log_end(end: Result<(), Broken>) {
    match end {
        // An ingress that ends, or drops this worker from its routes.
        Ok(()) | Err(Broken::Closed) => {}
        Err(error) => tracing::warn!(%error, "the connection of an ingress broke"),
    }
}

/// A Unix socket in a folder of this user's own; gone when dropped.
pub(crate) struct Socket {
    listener: UnixListener,
    path: SocketPath,
}

/// Its path, which goes when this is dropped.
pub(crate) struct SocketPath(PathBuf);

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
        Ok(Self { listener: UnixListener::bind(path)?, path: SocketPath(path.to_owned()) })
    }

    fn into_parts(self) -> (UnixListener, SocketPath) {
        (self.listener, self.path)
    }
}

/// The socket for calls of this machine, where one can be had; without it they come over TCP.
pub(crate) async fn open_socket(folder: Option<&Path>, node: &NodeId) -> Option<Socket> {
    let path = folder?.join(socket_name(node));
    let bound = Socket::bind(&path).await;
    let log_end = |error: &io::Error| tracing::warn!(path = %path.display(), %error, "no Unix socket for calls: they come over TCP");
    bound.inspect_err(log_end).ok()
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // One that stays behind is replaced by the next worker of this node.
        let _ = std::fs::remove_file(&self.0);
    }
}
