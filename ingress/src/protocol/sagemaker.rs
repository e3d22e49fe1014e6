//! What SageMaker asks of a container: `POST /invocations` runs the only pipeline that has a route, as its own route does; `GET /ping`
//! says whether that would be answered, and is a page of the ingress's own.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::RequestId;
use millstream_proto::endpoint::{Access, Endpoint};

use super::{Exchange, Last, PipelineProtocol, Problem, Protocol, Target};

/// The page that says whether requests may come.
pub(crate) const PING: Endpoint = Endpoint {
    methods: "GET, HEAD",
    path: "/ping",
    access: Access::Everybody,
    help: "For SageMaker: as `/-/readyz`, but 503 also while the pipeline that `/invocations` runs has a deployment without a replica.",
};

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/invocations",
    access: Access::ApiKey,
    help: "For SageMaker: runs the only pipeline that has a route. Where there are several, the answer is 404 and lists them.",
};

/// See the module.
pub(crate) struct Invocations;

impl Protocol for Invocations {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn yields(&self) -> bool {
        true
    }

    fn target<'r>(&self, _: &'r Parts) -> Option<Target<'r>> {
        Some(Target::OnlyRoute)
    }

    fn tells_usage(&self) -> bool {
        PipelineProtocol.tells_usage()
    }

    fn read(&self, head: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        PipelineProtocol.read(head, body)
    }

    fn problem(&self, problem: &Problem, request_id: &RequestId) -> Response<Last> {
        PipelineProtocol.problem(problem, request_id)
    }
}
