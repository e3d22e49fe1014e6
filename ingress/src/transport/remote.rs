//! Calls to the replicas of a worker in another process: all of them on one link.
//!
//! The driver task dials, carries the link and dials again for ever with backoff; it is restarted by nobody and ends when the
//! [`RemoteWorker`] is dropped.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_connect::{Backoff, Retries, Secret, chain, dial, handshake};
use millstream_link::Caller;
use millstream_proto::ReplicaId;
use millstream_proto::call::{CallRequest, PendingCall, ReplicaClient};
use tokio::net::UnixStream;
use tokio_util::task::AbortOnDropHandle;

use crate::random;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that lasted so long was a good one: the next dial waits little.
const GOOD_SESSION: Duration = Duration::from_secs(2);

/// A worker in another process. Dropping it ends the link.
pub(crate) struct RemoteWorker {
    caller: Caller,
    _driver: AbortOnDropHandle<()>,
}

/// Where a worker takes calls.
pub(crate) struct Site {
    /// HOST:PORT.
    pub(crate) address: Arc<str>,
    /// The Unix socket that it has, if it runs on this machine for this user.
    pub(crate) socket: Option<PathBuf>,
    /// The cluster's join token.
    pub(crate) secret: Secret,
}

impl RemoteWorker {
    /// Starts to dial. Calls made before the first attempt has succeeded or failed wait for it.
    pub(crate) fn open(site: Site) -> Self {
        let caller = Caller::default();
        let driver = tokio::spawn(drive(caller.clone(), site));
        Self { caller, _driver: AbortOnDropHandle::new(driver) }
    }
}

impl Drop for RemoteWorker {
    fn drop(&mut self) {
        self.caller.refuse("the worker left the routes");
    }
}

impl ReplicaClient for RemoteWorker {
    fn call(&self, replica: &ReplicaId, request: CallRequest) -> PendingCall {
        self.caller.call(replica, request)
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

async fn drive(caller: Caller, site: Site) {
    let mut retries = Retries::new(Backoff::REDIAL, GOOD_SESSION);
    loop {
        let dialled = millstream_clock::now();
        let Err(error) = session(&caller, &site).await;
        caller.refuse("the replica's worker cannot be reached");
        let wait = retries.next_wait(millstream_clock::now().duration_since(dialled), &mut random::rng());
        // Told once per outage, not once per attempt.
        if retries.is_first() {
            tracing::warn!(address = %site.address, error = %chain(&*error), "connection to a worker broke, dialling again");
        }
        tokio::time::sleep(wait).await;
    }
}

/// One connection from dialling to its end, with the reason of that.
async fn session(caller: &Caller, site: &Site) -> Result<Infallible, Error> {
    if let Some(stream) = nearby(site).await {
        return Ok(caller.run(stream).await?);
    }
    let stream = tokio::time::timeout(CONNECT_TIMEOUT, dial(&site.address, &site.secret)).await??;
    Ok(caller.run(stream).await?)
}

/// The worker's Unix socket, where it has one that answers: half the way of TCP.
async fn nearby(site: &Site) -> Option<UnixStream> {
    let path = site.socket.as_ref()?;
    let open = async {
        let mut stream = UnixStream::connect(path).await?;
        handshake::call(&mut stream, &site.secret).await?;
        Ok::<_, handshake::Error>(stream)
    };
    tokio::time::timeout(CONNECT_TIMEOUT, open).await.ok()?.ok()
}
