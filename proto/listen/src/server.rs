//! The listener: accepts connections up to the limit, ends those that are no longer worth keeping ([`activity`]), and
//! drains them.
//!
//! [`activity`]: crate::activity

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_util::either::Either;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::activity::{Activity, Verdict};
use crate::connection::Socket;
use crate::descriptors::{Descriptors, renumbered};
use crate::{Connection, ConnectionLimits};

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;
/// Wait after a failed accept (too many open files) when no connection could give way, so that it is not a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is said that descriptors run short.
const TOLD_PAUSE: Duration = Duration::from_secs(10);
/// How long a new connection waits for a place before one without a request gives way to it.
const PLACE_PAUSE: Duration = Duration::from_millis(10);
/// How often the verdicts on all connections are asked for, unless a limit is shorter.
const MAX_TICK: Duration = Duration::from_millis(500);

/// A bound TCP listener.
///
/// # Errors
/// What the system says: the address is taken, or not ours.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for connections of the one before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// An address.
    Tcp(TcpListener),
    /// A path.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Either::Left(stream), Some(peer)))
            }
            Self::Unix(listener) => Ok((Either::Right(listener.accept().await?.0), None)),
        }
    }
}

/// A running listener. Dropping it ends it and its connections at once; see [`Server::drain`] for the polite way.
pub struct Server {
    stop: CancellationToken,
    accepting: AbortOnDropHandle<()>,
    _watching: AbortOnDropHandle<()>,
    connections: Arc<Connections>,
}

#[derive(Default)]
struct Connections {
    next_id: AtomicU64,
    tracker: TaskTracker,
    open: Mutex<HashMap<u64, Open>>,
}

struct Open {
    activity: Arc<Mutex<Activity>>,
    peer: Option<IpAddr>,
    /// Dropped to make the connection finish and close.
    drain: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// A connection's entry in the table, taken out when it ends, whichever way.
struct Entry {
    id: u64,
    connections: Arc<Connections>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.open.lock().remove(&self.id);
    }
}

impl Server {
    /// Serves on a listener from now on: `serve` is called for each connection.
    pub fn start<F, Fut>(listener: impl Into<Listener>, limits: ConnectionLimits, serve: F) -> Self
    where
        F: Fn(Connection) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let (stop, limits) = (CancellationToken::new(), Arc::new(limits));
        let connections = Arc::new(Connections::default());
        let mut listeners = LISTENERS.lock();
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(&connections));
        drop(listeners);
        let watching = tokio::spawn(watch(connections.clone(), limits.clone()));
        let accepting =
            tokio::spawn(accept(listener.into(), limits, serve, stop.clone(), connections.clone()));
        let (accepting, watching) = (AbortOnDropHandle::new(accepting), AbortOnDropHandle::new(watching));
        Self { stop, accepting, _watching: watching, connections }
    }

    /// Lets the connections that there are finish what is under way; new ones are still accepted.
    pub fn finish_connections(&self) {
        self.connections.open.lock().values_mut().for_each(|open| open.drain = None);
    }

    /// Stops accepting, lets connections finish what is under way for at most `timeout`, then ends them.
    pub async fn drain(mut self, timeout: Duration) {
        self.stop.cancel();
        let _ = (&mut self.accepting).await;
        self.finish_connections();
        let connections = &self.connections;
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

async fn accept<F, Fut>(
    listener: Listener,
    limits: Arc<ConnectionLimits>,
    serve: F,
    stop: CancellationToken,
    connections: Arc<Connections>,
) where
    F: Fn(Connection) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let descriptors = Descriptors::new();
    let mut warned_at: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = accept_one(&listener, &places, &connections) => accepted,
        };
        let are_short = accepted.as_ref().map_or(true, |accepted| descriptors.are_short(&accepted.socket));
        let now = millstream_clock::now();
        if are_short && warned_at.is_none_or(|warned_at| now.duration_since(warned_at) > TOLD_PAUSE) {
            warned_at = Some(now);
            tracing::warn!(
                error = accepted.as_ref().err().map(tracing::field::display),
                "file descriptors run short: connections without a request give way; raise the limit (ulimit -n)"
            );
        }
        let Ok(Accepted { socket, peer, place }) = accepted else {
            if !close_the_idlest_of_all().await {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            continue;
        };
        let kept = keep(socket, &descriptors, limits.leaves_reserve).await;
        let Some(socket) = kept else { continue };
        let address = peer.map(|peer| peer.ip());
        let is_counted = address.is_some_and(|address| !address.is_loopback());
        if !is_counted || connections.num_of(address) < limits.max_per_address {
            connections.serve(Accepted { socket, peer, place }, limits.clone(), &serve);
        }
    }
}

/// Looks at all connections again and again: one timer for all of them, and none on a request's path.
async fn watch(connections: Arc<Connections>, limits: Arc<ConnectionLimits>) {
    let shortest =
        limits.first_byte.min(limits.handshake).min(limits.headers).min(limits.idle).min(limits.write);
    let mut tick = tokio::time::interval((shortest / 4).clamp(Duration::from_millis(5), MAX_TICK));
    loop {
        tick.tick().await;
        connections.judge(&limits);
    }
}

/// A connection that has a place.
struct Accepted {
    socket: Socket,
    peer: Option<SocketAddr>,
    place: OwnedSemaphorePermit,
}

/// The next connection, once there is a place for it: where all are taken, one that has no request gives way.
async fn accept_one(
    listener: &Listener,
    places: &Arc<Semaphore>,
    connections: &Connections,
) -> io::Result<Accepted> {
    let (socket, peer) = listener.accept().await?;
    let place = loop {
        match tokio::time::timeout(PLACE_PAUSE, places.clone().acquire_owned()).await {
            Ok(place) => break place.map_err(io::Error::other)?,
            Err(_) => drop(connections.close_the_idlest().await),
        }
    };
    Ok(Accepted { socket, peer, place })
}

/// The listeners of this process. Descriptors are the process's: a connection that gives way for one may be any listener's.
static LISTENERS: Mutex<Vec<Weak<Connections>>> = Mutex::new(Vec::new());

/// The same connection, if it can be with a number that is not reserved: others without a request give way to it. Where there are
/// none, it is closed, or has one of the reserved.
async fn keep(mut socket: Socket, descriptors: &Descriptors, leaves_reserve: bool) -> Option<Socket> {
    while descriptors.are_short(&socket) {
        if !close_the_idlest_of_all().await {
            return (!leaves_reserve).then_some(socket);
        }
        // A copy has the number that has just become free.
        socket = renumbered(socket).ok()?;
    }
    Some(socket)
}

/// Ends the connection of this process that has been without a request for longest; false where none is without.
async fn close_the_idlest_of_all() -> bool {
    let listeners: Vec<_> = LISTENERS.lock().iter().filter_map(Weak::upgrade).collect();
    let idlest = listeners.iter().filter_map(|connections| Some((connections.idlest()?, connections)));
    let Some(((_, id), connections)) = idlest.min_by_key(|(idlest, _)| *idlest) else { return false };
    connections.close(id).await;
    true
}

impl Connections {
    /// The connection that has been without a request for longest, and since when.
    fn idlest(&self) -> Option<(Instant, u64)> {
        let open = self.open.lock();
        let idle = open.iter().filter_map(|(id, open)| Some((open.activity.lock().idle_since()?, *id)));
        idle.min()
    }

    /// Ends a connection and waits until it is closed.
    async fn close(&self, id: u64) {
        let open = self.open.lock().remove(&id);
        if let Some(Open { task, .. }) = open {
            task.abort();
            let _ = task.await;
        }
    }

    /// Ends the one that has been without a request for longest; false where none is without.
    async fn close_the_idlest(&self) -> bool {
        let Some((_, id)) = self.idlest() else { return false };
        self.close(id).await;
        true
    }

    /// Connections from that address.
    fn num_of(&self, peer: Option<IpAddr>) -> usize {
        self.open.lock().values().filter(|open| open.peer == peer).count()
    }

    fn serve<F, Fut>(self: &Arc<Self>, accepted: Accepted, limits: Arc<ConnectionLimits>, serve: &F)
    where
        F: Fn(Connection) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let Accepted { socket, peer, place } = accepted;
        let (drain, closing) = oneshot::channel();
        let activity = Arc::new(Mutex::new(Activity::opened(millstream_clock::now())));
        let served = serve(Connection::new(socket, peer, activity.clone(), limits, closing));
        let connections = self.clone();
        // The lock is held until the entry is in: a connection that ends at once must find it.
        let mut open = self.open.lock();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let entry = Entry { id, connections };
        let task = self.tracker.spawn(async move {
            let _entry = entry;
            served.await;
            drop(place);
        });
        let peer = peer.map(|peer| peer.ip());
        open.insert(id, Open { activity, peer, drain: Some(drain), task });
    }

    /// Ends what is no longer worth keeping.
    fn judge(&self, limits: &ConnectionLimits) {
        let now = millstream_clock::now();
        self.open.lock().retain(|_, open| {
            let verdict = open.activity.lock().verdict(limits, now);
            match verdict {
                Verdict::Keep => {}
                Verdict::Close => {
                    open.drain = None;
                    open.activity.lock().told_to_close(now);
                }
                Verdict::Abort => open.task.abort(),
            }
            verdict != Verdict::Abort
        });
    }

    fn abort(&self) {
        for (_, open) in self.open.lock().drain() {
            open.task.abort();
        }
    }
}
