//! The cluster's status as it changes.

use std::time::Duration;

use millstream_proto::status::ClusterStatus;
use millstream_proto::v1;
use tonic::Streaming;

use super::connection::{KeepAlive, Service, Target};
use super::{parse, within};
use crate::exit::Failure;

/// How long a head may take to open the stream: it does so before it looks anything up.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to look for a head that leads.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Statuses as they change.
pub(crate) struct StatusWatch {
    target: Target,
    stream: Streaming<v1::StatusResponse>,
    /// A connection that nothing more can be asked on is not pinged, although a stream still runs on it.
    _service: Service,
}

impl StatusWatch {
    /// Opens the stream, on a connection of its own: a watch outlives hiccups of the network that a call need not.
    pub(super) async fn open(target: &Target) -> Result<Self, Failure> {
        let mut target = target.clone();
        let service = target.connect(KeepAlive::WATCH).await?;
        Self::open_on(target, service).await
    }

    /// Opens the stream at the head of this connection, or at the one that it says leads.
    async fn open_on(mut target: Target, mut service: Service) -> Result<Self, Failure> {
        let deadline = millstream_clock::now() + ELECTION_TIMEOUT;
        loop {
            let status = match within(OPEN_TIMEOUT, service.watch_status(v1::StatusRequest {})).await {
                Ok(stream) => return Ok(Self { target, stream: stream.into_inner(), _service: service }),
                Err(status) => status,
            };
            let redirected = target.redirected(&status, KeepAlive::WATCH, deadline).await;
            service = redirected.ok_or_else(|| target.failure(&status))?;
        }
    }

    /// The next status; `None` when the head has ended the stream because it stops.
    ///
    /// # Errors
    /// When the connection breaks: whether the cluster still runs is then not known.
    pub(crate) async fn next(&mut self) -> Result<Option<ClusterStatus>, Failure> {
        loop {
            let status = match self.stream.message().await {
                Ok(answer) => return answer.map(|answer| parse(&answer.json)).transpose(),
                Err(status) => status,
            };
            // A head whose term is over tells who leads now.
            let deadline = millstream_clock::now() + ELECTION_TIMEOUT;
            let redirected = self.target.redirected(&status, KeepAlive::WATCH, deadline).await;
            let service = redirected.ok_or_else(|| self.target.failure(&status))?;
            *self = Self::open_on(self.target.clone(), service).await?;
        }
    }
}
