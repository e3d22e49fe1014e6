//! The listener: accepts connections up to the limit, ends those that are no longer worth keeping ([`activity`]), and
//! drains them.
//!
//! [`activity`]: super::activity

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::activity::{Activity, Verdict};
use super::connection;
use super::state::Edge;
use crate::clock;
use crate::limits::ConnectionLimits;

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;
/// Wait after a failed accept (too many open files), so that it is not a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A bound listener.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// How often the verdicts on all connections are asked for, unless a limit is shorter.
const MAX_TICK: Duration = Duration::from_millis(500);

/// A running server.
pub(crate) struct Server {
    stop: CancellationToken,
    accepting: AbortOnDropHandle<()>,
    _watching: AbortOnDropHandle<()>,
    connections: Arc<Connections>,
}

#[derive(Default)]
struct Connections {
    tracker: TaskTracker,
    open: Mutex<HashMap<u64, Open>>,
}

struct Open {
    activity: Arc<Mutex<Activity>>,
    /// Dropped to make the connection finish and close.
    drain: Option<oneshot::Sender<()>>,
    abort: AbortHandle,
}

impl Server {
    /// Serves on a listener from now on.
    pub(crate) fn start(listener: TcpListener, edge: Arc<Edge>) -> Self {
        let stop = CancellationToken::new();
        let connections = Arc::new(Connections::default());
        let watching = tokio::spawn(watch(connections.clone(), edge.limits.connection.clone()));
        let accepting = tokio::spawn(accept(listener, edge, stop.clone(), connections.clone()));
        let (accepting, watching) = (AbortOnDropHandle::new(accepting), AbortOnDropHandle::new(watching));
        Self { stop, accepting, _watching: watching, connections }
    }

    /// Stops accepting, lets connections finish what is under way for at most `timeout`, then ends them.
    pub(crate) async fn drain(mut self, timeout: Duration) {
        self.stop.cancel();
        let _ = (&mut self.accepting).await;
        let connections = &self.connections;
        connections.open.lock().values_mut().for_each(|open| open.drain = None);
        connections.tracker.close();
        if tokio::time::timeout(timeout, connections.tracker.wait()).await.is_err() {
            tracing::warn!(
                num_connections = connections.tracker.len(),
                "connections cut at the end of the drain"
            );
            connections.abort();
            connections.tracker.wait().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.connections.abort();
    }
}

async fn accept(
    listener: TcpListener,
    edge: Arc<Edge>,
    stop: CancellationToken,
    connections: Arc<Connections>,
) {
    let places = Arc::new(Semaphore::new(edge.limits.connection.max_connections));
    let mut next_id = 0;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = accept_one(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                next_id += 1;
                connections.serve(next_id, stream, place, edge.clone());
            }
            Err(error) => {
                tracing::warn!(error = %error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Looks at all connections again and again: one timer for all of them, and none on a request's path.
async fn watch(connections: Arc<Connections>, limits: ConnectionLimits) {
    let shortest = limits.first_byte.min(limits.headers).min(limits.idle);
    let mut tick = tokio::time::interval((shortest / 4).clamp(Duration::from_millis(5), MAX_TICK));
    loop {
        tick.tick().await;
        connections.judge(&limits);
    }
}

async fn accept_one(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

impl Connections {
    fn serve(self: &Arc<Self>, id: u64, stream: TcpStream, place: OwnedSemaphorePermit, edge: Arc<Edge>) {
        let (drain, draining) = oneshot::channel();
        let activity = Arc::new(Mutex::new(Activity::opened(clock::now())));
        let (connections, noted) = (self.clone(), activity.clone());
        // The lock is held until the entry is in: a connection that ends at once must find it.
        let mut open = self.open.lock();
        let task = self.tracker.spawn(async move {
            connection::serve(stream, noted, edge, draining).await;
            connections.open.lock().remove(&id);
            drop(place);
        });
        open.insert(id, Open { activity, drain: Some(drain), abort: task.abort_handle() });
    }

    /// Ends what is no longer worth keeping.
    fn judge(&self, limits: &ConnectionLimits) {
        let now = clock::now();
        self.open.lock().retain(|_, open| {
            let verdict = open.activity.lock().verdict(limits, now);
            match verdict {
                Verdict::Keep => {}
                Verdict::Close => open.drain = None,
                Verdict::Abort => open.abort.abort(),
            }
            verdict != Verdict::Abort
        });
    }

    fn abort(&self) {
        for (_, open) in self.open.lock().drain() {
            open.abort.abort();
        }
    }
}
