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
        let mut service = target.connect(KeepAlive::WATCH).await?;
        let stream = within(OPEN_TIMEOUT, service.watch_status(v1::StatusRequest {})).await;
        let stream = stream.map_err(|status| target.failure(&status))?.into_inner();
        Ok(Self { target: target.clone(), stream, _service: service })
    }

    /// The next status; `None` when the head has ended the stream because it stops.
    ///
    /// # Errors
    /// When the connection breaks: whether the cluster still runs is then not known.
    pub(crate) async fn next(&mut self) -> Result<Option<ClusterStatus>, Failure> {
        let answer = self.stream.message().await.map_err(|status| self.target.failure(&status))?;
        answer.map(|answer| parse(&answer.json)).transpose()
    }
}
