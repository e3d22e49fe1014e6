//! The admin address of a process: its metrics and a sign of life, for Prometheus and people. Needs no token: there are
//! names and numbers there, nothing of requests. Pages of other sites are kept out.

use std::net::SocketAddr;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use millstream_head::{MetricsPage, own_site_only};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::exit::Failure;

/// A running listener; dropping it ends it.
pub(crate) struct Admin {
    address: SocketAddr,
    server: JoinHandle<()>,
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
        let router = own_site_only(router(page), address);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the admin listener ended");
            }
        });
        Ok(Self { address, server })
    }

    /// The address it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn router(page: MetricsPage) -> Router {
    let metrics = async move || {
        let kind = "text/plain; version=0.0.4; charset=utf-8";
        ([(header::CONTENT_TYPE, kind)], page())
    };
    let nothing =
        async || (StatusCode::NOT_FOUND, "there is nothing at this address; try /metrics or /healthz\n");
    Router::new().route("/metrics", get(metrics)).route("/healthz", get(async || "ok")).fallback(nothing)
}
