//! The Model Context Protocol over streamable HTTP, without sessions: pipelines and deployments that say `mcp = true` are tools of agents.
//! Each request stands alone, so that any ingress may answer it. `tools/call` goes the way of all requests; the rest is answered from the
//! route table.
//!
//! Revisions 2025-03-26 to 2025-11-25 begin with `initialize`; those from 2026-07-28 on say everything in each request and its headers.
//! What differs between them is in [`version`].

mod call;
mod message;
mod requests;
mod result;
mod tools;
mod version;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use millstream_proto::RequestId;
use millstream_proto::endpoint::{Access, Endpoint};

use self::message::RpcError;
pub(crate) use self::tools::callable_names;
pub(crate) use self::version::{METHOD, NAME, VERSION};
use super::{Exchange, Last, Problem, Protocol};

const ENDPOINT: Endpoint = Endpoint {
    methods: "POST",
    path: "/mcp",
    access: Access::ApiKey,
    help: "The Model Context Protocol (streamable HTTP, without sessions): pipelines and deployments with `mcp = true` as tools of agents.",
};

/// See the module.
pub(crate) struct Mcp;

impl Protocol for Mcp {
    fn endpoints(&self) -> &'static [Endpoint] {
        &[ENDPOINT]
    }

    fn yields(&self) -> bool {
        true
    }

    fn tells_usage(&self) -> bool {
        false
    }

    fn trusts_pages(&self) -> bool {
        false
    }

    fn read(&self, head: &Parts, body: Bytes) -> Result<Box<dyn Exchange>, Problem> {
        Ok(requests::read(&head.headers, &body))
    }

    /// For requests that are turned away by their heads, so that no id is known.
    fn problem(&self, problem: &Problem, _: &RequestId) -> Response<Last> {
        let mut response = message::response(message::answer(None, &Err(RpcError::of(problem))));
        *response.status_mut() = problem.status();
        response
    }
}

#[cfg(test)]
mod tests;
