//! The cluster's status as it changes.

use millstream_proto::status::ClusterStatus;
use millstream_proto::v1;
use tonic::Streaming;

use super::connection::Target;
use super::parse;
use crate::exit::Failure;

/// Statuses as they change.
pub(crate) struct StatusWatch {
    target: Target,
    stream: Streaming<v1::StatusResponse>,
}

impl StatusWatch {
    pub(super) fn new(target: Target, stream: Streaming<v1::StatusResponse>) -> Self {
        Self { target, stream }
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
