//! What all connections of an ingress share.

use std::sync::Arc;

use super::byte_budget::ByteBudget;
use super::request_log::RequestLog;
use super::services::Services;
use super::shadow::Shadows;
use crate::execute::Guards;
use crate::limits::HttpLimits;
use crate::metrics::RequestMeter;
use crate::protocol::openai::ResponseStore;
use crate::protocol::{PipelineProtocol, Protocol};
use crate::routes::{Pipeline, Routes};
use crate::trace::Traces;

/// APIs in the order in which they are asked whether a request is theirs.
pub(crate) type Protocols = &'static [&'static dyn Protocol];

/// See the module.
pub(crate) struct Edge {
    /// The APIs, asked in this order whose a request is; the last takes all that are left.
    pub protocols: Protocols,
    /// gRPC services beside them.
    pub services: Services,
    /// What is served.
    pub routes: Arc<Routes>,
    /// What is put up with.
    pub limits: HttpLimits,
    /// What bodies and values take together.
    pub bytes: ByteBudget,
    /// Who may come in.
    pub entry: EntryRules,
    /// What requests are kept within, together with others.
    pub guards: Arc<Guards>,
    /// Keeps responses for later requests, where somebody wants that.
    pub responses: Option<Arc<ResponseStore>>,
    /// Runs copies of requests.
    pub shadows: Shadows,
    /// Told how requests end.
    pub log: RequestLog,
    /// Where the time of requests goes.
    pub traces: Traces,
    /// Counts requests that no pipeline takes.
    pub unrouted: RequestMeter,
}

/// Who may come in.
#[derive(Debug, Clone)]
pub(crate) struct EntryRules {
    /// Whether pages of other sites, and other names of this machine, are kept away.
    pub own_site_only: bool,
    /// Whether requests without an API key are refused.
    pub require_key: bool,
    /// Origins whose pages may call tools.
    pub mcp_origins: Vec<String>,
}

impl Edge {
    /// The API that a path belongs to.
    pub(crate) fn protocol_of(&self, path: &str) -> &'static dyn Protocol {
        protocol_of(self.protocols, path, |path| self.has_route(path))
    }

    /// The most bytes that a body may have as long as it is not known what it is for.
    pub(crate) fn max_body(&self) -> usize {
        let of_pipelines = self.routes.current().as_ref().map_or(0, |table| table.max_body);
        usize::try_from(of_pipelines).unwrap_or(usize::MAX).max(self.limits.request.max_body_bytes)
    }

    /// The most bytes of a body for this pipeline.
    pub(crate) fn max_body_for(&self, pipeline: &Pipeline) -> usize {
        let own = pipeline.plan.max_body();
        own.map_or(self.limits.request.max_body_bytes, |max| usize::try_from(max).unwrap_or(usize::MAX))
    }

    /// Whether a pipeline has this route. Of the paths that the ingress answers, pipelines may have those outside `/v1`, `/v2` and `/-`.
    pub(crate) fn has_route(&self, path: &str) -> bool {
        let path = path.strip_suffix('/').unwrap_or(path);
        self.routes.current().as_ref().is_some_and(|table| table.by_path.contains_key(path))
    }
}

/// The API that a path belongs to, where pipelines have some of the paths as their routes.
pub(crate) fn protocol_of(
    protocols: Protocols,
    path: &str,
    has_route: impl Fn(&str) -> bool,
) -> &'static dyn Protocol {
    match protocols.iter().find(|protocol| protocol.takes(path)) {
        Some(protocol) if !protocol.yields() || !has_route(path) => *protocol,
        _ => &PipelineProtocol,
    }
}
