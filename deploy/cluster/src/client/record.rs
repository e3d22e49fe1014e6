//! What a head remembers: numbers, stages, whole traces, and how it stands itself.

use millstream_proto::inspection::Inspection;
use millstream_proto::series::Series;
use millstream_proto::stage::StageTraffic;
use millstream_proto::trace::RequestTrace;
use millstream_proto::v1;

use super::{Client, LONG, SHORT, parse};
use crate::exit::Failure;

/// Seconds that a head remembers.
const RECORDED_S: u32 = 3600;
/// Most traces that it keeps.
const MAX_TRACES: u32 = 1000;

impl Client {
    /// The numbers of the last hour, in steps of so many seconds.
    pub(crate) async fn series(&mut self, step_s: u32) -> Result<Series, Failure> {
        let request = v1::GetSeriesRequest { since_s: RECORDED_S, step_s };
        let answer = self.call(LONG, request, async |service, request| service.get_series(request).await);
        parse(&answer.await?.json)
    }

    /// The calls of a pipeline's stages in the last minute.
    pub(crate) async fn stages(&mut self, pipeline: &str) -> Result<Vec<StageTraffic>, Failure> {
        let request = v1::GetStagesRequest { pipeline: pipeline.to_owned() };
        let answer = self.call(SHORT, request, async |service, request| service.get_stages(request).await);
        parse(&answer.await?.json)
    }

    /// All traces that are kept, of a pipeline or (with an empty name) of all; the newest first.
    pub(crate) async fn whole_traces(&mut self, pipeline: &str) -> Result<Vec<RequestTrace>, Failure> {
        let request =
            v1::ListTracesRequest { pipeline: pipeline.to_owned(), limit: MAX_TRACES, with_spans: true };
        let answer = self.call(LONG, request, async |service, request| service.list_traces(request).await);
        parse(&answer.await?.json)
    }

    /// The head from inside.
    pub(crate) async fn inspect(&mut self) -> Result<Inspection, Failure> {
        let request = v1::InspectRequest {};
        let answer = self.call(SHORT, request, async |service, request| service.inspect(request).await);
        parse(&answer.await?.json)
    }
}
