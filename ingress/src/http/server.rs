//! The listener: accepts connections up to the limit, ends those that are no longer worth keeping ([`activity`]), and
//! drains them.
//!
//! [`activity`]: super::activity

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::activity::{Activity, Verdict};
use super::connection;
use super::state::Edge;
use crate::clock;
use crate::limits::ConnectionLimits;

/// Connections that wait in the kernel to be accepted.
const BACKLOG: u32 = 1024;
/// Wait after a failed accept (too many open files) when no connection could give way, so that it is not a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often it is said that descriptors run short.
const TOLD_PAUSE: Duration = Duration::from_secs(10);
/// How long a new connection waits for a place before one without a request gives way to it.
const PLACE_PAUSE: Duration = Duration::from_millis(10);
/// Most descriptors that are kept from clients.
const MAX_RESERVED: u64 = 256;

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
    next_id: AtomicU64,
    tracker: TaskTracker,
    open: Mutex<HashMap<u64, Open>>,
}

struct Open {
    activity: Arc<Mutex<Activity>>,
    peer: IpAddr,
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
    let limits = edge.limits.connection.clone();
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let descriptors = Descriptors::new();
    let mut told: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = accept_one(&listener, &places, &connections) => accepted,
        };
        let are_short = accepted.as_ref().map_or(true, |(stream, ..)| descriptors.are_short(stream));
        let now = clock::now();
        if are_short && told.is_none_or(|told| now.duration_since(told) > TOLD_PAUSE) {
            told = Some(now);
            tracing::warn!(
                error = accepted.as_ref().err().map(tracing::field::display),
                "file descriptors run short: connections without a request give way; raise the limit (ulimit -n)"
            );
        }
        let Ok((stream, peer, place)) = accepted else {
            if !connections.close_the_idlest().await {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            continue;
        };
        let kept = descriptors.keep(stream, &connections).await;
        if let Some(stream) = kept
            && (peer.is_loopback() || connections.num_of(peer) < limits.max_per_address)
        {
            connections.serve(peer, stream, place, edge.clone());
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

/// The next connection, once there is a place for it: where all are taken, one that has no request gives way.
async fn accept_one(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    connections: &Connections,
) -> io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    let place = loop {
        match tokio::time::timeout(PLACE_PAUSE, places.clone().acquire_owned()).await {
            Ok(place) => break place.map_err(io::Error::other)?,
            Err(_) => drop(connections.close_the_idlest().await),
        }
    };
    Ok((stream, peer.ip(), place))
}

/// How many files and sockets this process may have open, some of which are kept for everything but the clients' connections: the
/// store, models, the control and dashboard addresses.
struct Descriptors {
    /// The first number that no client's connection may keep.
    reserved_from: u64,
}

impl Descriptors {
    fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let limit = limit.unwrap_or(u64::MAX);
        Self { reserved_from: limit - (limit / 4).clamp(0, MAX_RESERVED) }
    }

    /// Whether so many are open that this connection got one of the last. The system gives the lowest number that is free.
    fn are_short(&self, stream: &TcpStream) -> bool {
        u64::try_from(stream.as_raw_fd()).is_ok_and(|number| number >= self.reserved_from)
    }

    /// The same connection under a number that clients may keep: others without a request give way to it, or, where there are
    /// none, it is closed.
    async fn keep(&self, mut stream: TcpStream, connections: &Connections) -> Option<TcpStream> {
        while self.are_short(&stream) {
            if !connections.close_the_idlest().await {
                return None;
            }
            // A copy has the number that has just become free.
            stream =
                stream.into_std().and_then(|stream| stream.try_clone()).and_then(TcpStream::from_std).ok()?;
        }
        Some(stream)
    }
}

impl Connections {
    /// Ends the connection that has been without a request for longest and waits until it is closed; false where none is without.
    async fn close_the_idlest(&self) -> bool {
        let idlest = {
            let mut open = self.open.lock();
            let idle = open.iter().filter_map(|(id, open)| Some((open.activity.lock().idle_since()?, *id)));
            idle.min().and_then(|(_, id)| open.remove(&id))
        };
        let Some(Open { task, .. }) = idlest else { return false };
        task.abort();
        let _ = task.await;
        true
    }

    /// Connections from that address.
    fn num_of(&self, peer: IpAddr) -> usize {
        self.open.lock().values().filter(|open| open.peer == peer).count()
    }

    fn serve(
        self: &Arc<Self>,
        peer: IpAddr,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        edge: Arc<Edge>,
    ) {
        let (drain, draining) = oneshot::channel();
        let activity = Arc::new(Mutex::new(Activity::opened(clock::now())));
        let (connections, noted) = (self.clone(), activity.clone());
        // The lock is held until the entry is in: a connection that ends at once must find it.
        let mut open = self.open.lock();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let entry = Entry { id, connections };
        let task = self.tracker.spawn(async move {
            let _entry = entry;
            connection::serve(stream, noted, edge, draining).await;
            drop(place);
        });
        open.insert(id, Open { activity, peer, drain: Some(drain), task });
    }

    /// Ends what is no longer worth keeping.
    fn judge(&self, limits: &ConnectionLimits) {
        let now = clock::now();
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
