//! The admin address of a process: its metrics and a sign of life, for Prometheus and people. Needs no token: there are
//! names and numbers there, nothing of requests. Pages of other sites are kept out.

use std::net::SocketAddr;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{MethodRouter, get};
use millstream_head::{MetricsPage, own_origin_only, problem};
use millstream_listen::{ConnectionLimits, Server};
use millstream_proto::endpoint::{Access, Endpoint};
use tokio::net::TcpListener;

use crate::exit::Failure;

/// A running listener; dropping it ends it.
pub(crate) struct Admin {
    address: SocketAddr,
    _server: Server,
}

impl Admin {
    /// Binds the listener and serves.
    pub(crate) async fn start(address: SocketAddr, page: MetricsPage) -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| {
            Failure::failed(format!(
                "cannot listen on `{address}` for metrics: {error}; choose another address with --admin"
            ))
        };
        let listener = TcpListener::bind(address).await.map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let router = own_origin_only(router(page));
        let server = millstream_listen::http::start(listener, ConnectionLimits::pages(), router);
        Ok(Self { address, _server: server })
    }

    /// The address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What there is, and what answers it.
fn routes(metrics: MetricsPage) -> [(Endpoint, MethodRouter); 2] {
    let metrics = async move |headers: HeaderMap| {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
        metrics(accept.unwrap_or_default())
    };
    let page = |path, help, handler| {
        (Endpoint { methods: "GET, HEAD", path, access: Access::Everybody, help }, handler)
    };
    [
        page(
            "/metrics",
            "The metrics of this process in Prometheus's text form, or in that of OpenMetrics for whoever asks for it.",
            get(metrics),
        ),
        page("/healthz", "`ok` as long as the process answers.", get(async || "ok")),
    ]
}

fn router(metrics: MetricsPage) -> Router {
    let nothing = async || {
        problem(StatusCode::NOT_FOUND, "there is nothing at this address; try `/metrics` or `/healthz`")
    };
    let add = |router: Router, (endpoint, handler): (Endpoint, _)| router.route(endpoint.path, handler);
    routes(metrics).into_iter().fold(Router::new(), add).fallback(nothing)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytesize::ByteSize;
    use millstream_ingress::reference;
    use millstream_proto::ErrorClass;
    use millstream_proto::endpoint::Header;

    use super::*;
    use crate::docs::{table, written, written_whole};

    fn endpoints(endpoints: impl IntoIterator<Item = Endpoint>) -> String {
        let rows = endpoints.into_iter().map(|Endpoint { methods, path, access, help }| {
            let access = match access {
                Access::Everybody => "everybody",
                Access::ApiKey => "everybody; with `--require-api-key` only with an API key",
                Access::Viewer => "with a token",
                Access::AdminToken => "with the admin token",
            };
            [methods.to_owned(), format!("`{path}`"), access.to_owned(), help.to_owned()]
        });
        table(["methods", "path", "who may call it", "what it does or answers"], rows)
    }

    fn headers(headers: Vec<Header>) -> String {
        let rows = headers.into_iter().map(|Header { name, help }| [format!("`{name}`"), help.to_owned()]);
        table(["header", "meaning"], rows)
    }

    #[test]
    fn the_documentation_lists_what_every_address_answers() {
        written("http.md", "ingress", &endpoints(reference::endpoints()));
        written("http.md", "dashboard", &endpoints(millstream_head::dashboard_endpoints()));
        let admin = routes(Arc::new(|_| unreachable!("nobody asks"))).map(|(endpoint, _)| endpoint);
        written("http.md", "admin", &endpoints(admin));
    }

    #[test]
    fn the_openapi_document_is_in_the_documentation() {
        let document = millstream_head::openapi_document();
        written_whole("openapi.json", &(serde_json::to_string_pretty(&document).unwrap() + "\n"));
    }

    #[test]
    fn the_documentation_lists_headers_and_statuses() {
        written("http.md", "request headers", &headers(reference::request_headers()));
        written("http.md", "response headers", &headers(reference::response_headers()));
        let rows = reference::KINDS.iter().map(|kind| {
            let classes = ErrorClass::ALL.into_iter().filter(|class| reference::kind_of(*class) == *kind);
            let classes: Vec<_> = classes.map(|class| format!("`{class}`")).collect();
            [
                kind.status.as_u16().to_string(),
                format!("`{}`", kind.name),
                classes.join(", "),
                kind.help.to_owned(),
            ]
        });
        let head = ["status", "`urn:millstream:problem:…`", "error class", "when"];
        written("http.md", "statuses", &table(head, rows));
    }

    #[test]
    fn the_documentation_lists_the_limits() {
        let limits = millstream_ingress::HttpLimits::default();
        let (request, connection) = (limits.request, limits.connection);
        let size = |bytes: usize| ByteSize::b(bytes as u64).to_string().replace(".0 ", " ");
        let time = |time| humantime::format_duration(time).to_string();
        let rows = [
            ("path and query", size(request.max_uri_bytes), "414"),
            ("names and values of all headers", size(request.max_header_bytes), "431"),
            ("number of headers", request.max_headers.to_string(), "431"),
            ("body", size(request.max_body_bytes), "413"),
            (
                "values in a body; the numbers of a tensor are one",
                millstream_pipelines::MAX_VALUES.to_string(),
                "400",
            ),
            ("all bodies under way and their values", "an eighth of the memory".to_owned(), "503"),
            (
                "kept answers of all stages",
                "an eighth of the memory".to_owned(),
                "each cache gets a part of what it asks for",
            ),
            (
                "kept responses (`--response-store`)",
                format!("none, else its size and {}", time(request.max_response_age)),
                "the oldest are forgotten",
            ),
            ("time for the body to arrive", time(request.body_time), "408"),
            ("longest deadline", time(request.max_deadline), "this deadline"),
            (
                "connections at a time",
                connection.max_connections.to_string(),
                "one that has no request is closed, else the new one waits",
            ),
            (
                "connections from another machine",
                connection.max_per_address.to_string(),
                "the connection is closed",
            ),
            (
                "HTTP/2 streams at a time on a connection",
                connection.h2.max_streams.to_string(),
                "the client waits",
            ),
            (
                "time to the first byte of a connection",
                time(connection.first_byte),
                "the connection is closed",
            ),
            ("time for a TLS handshake", time(connection.handshake), "the connection is closed"),
            ("time for the head of a request", time(connection.headers), "the connection is closed"),
            ("time without a request on a connection", time(connection.idle), "the connection is closed"),
            (
                "time in which a client takes nothing of an answer, or less than 1 KiB a second",
                time(connection.write),
                "the stream is reset; over HTTP/1 the connection is closed",
            ),
        ];
        let rows = rows.map(|(what, limit, beyond)| [what.to_owned(), limit, beyond.to_owned()]);
        written("http.md", "limits", &table(["what", "limit", "beyond it"], rows));
    }
}
