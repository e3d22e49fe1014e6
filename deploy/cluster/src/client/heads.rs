//! What is asked of heads about themselves and their store.

use std::time::Duration;

use millstream_proto::head::HeadStatus;
use millstream_proto::v1;

use super::{Client, SHORT, parse};
use crate::exit::Failure;

/// How long a head may take to read its whole store.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(60);

impl Client {
    /// The heads of the cluster.
    pub(crate) async fn heads(&mut self) -> Result<Vec<HeadStatus>, Failure> {
        let request = v1::ListHeadsRequest {};
        let answer = self.call(SHORT, request, async |service, request| service.list_heads(request).await);
        parse(&answer.await?.json)
    }

    /// All that people asked for, as the file of `cluster state`.
    pub(crate) async fn export_state(&mut self) -> Result<String, Failure> {
        let request = v1::ExportStateRequest {};
        let answer =
            self.call(EXPORT_TIMEOUT, request, async |service, request| service.export_state(request).await);
        answer.await.map(|answer| answer.state)
    }

    /// Lets another head lead; returns the term that is over.
    pub(crate) async fn step_down(&mut self) -> Result<u64, Failure> {
        let request = v1::StepDownRequest {};
        let answer = self.call(SHORT, request, async |service, request| service.step_down(request).await);
        answer.await.map(|answer| answer.epoch)
    }
}
