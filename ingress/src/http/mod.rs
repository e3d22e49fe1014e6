//! The HTTP edge: connections, limits, keys, bodies in and out. What requests and answers look like is a [`protocol`]'s; everything
//! behind a checked request is left to `execute`.
//!
//! [`protocol`]: crate::protocol

mod access;
mod answer;
mod byte_budget;
mod call;
mod called;
mod edge;
mod execution;
mod grpc;
mod headers;
mod infer_stream;
mod inference_pages;
mod later;
mod openapi;
mod own_pages;
mod own_site;
mod read_body;
mod refusal;
mod request_end;
mod request_log;
mod response_pages;
mod services;
mod shadow;
mod site;
mod state;
mod stream;
#[cfg(test)]
mod tests;
mod time_allowed;

pub(crate) use byte_budget::ByteBudget;
pub use edge::{endpoints, endpoints_for};
pub use headers::{request_headers, response_headers};
pub use request_log::ACCESS_LOG;
pub(crate) use request_log::RequestLog;
pub(crate) use services::Services;
pub(crate) use shadow::Shadows;
pub(crate) use state::{Edge, EntryRules};

use std::sync::Arc;

use millstream_listen::tls::{self, ServerCertificate};
use millstream_listen::{Connection, Server};
use tokio::net::TcpListener;

/// Serves on a listener from now on, over TLS where there is a certificate.
pub(crate) fn start(
    listener: TcpListener,
    certificate: Option<ServerCertificate>,
    edge: Arc<Edge>,
) -> Server {
    let limits = edge.limits.connection.clone();
    let Some(certificate) = certificate.map(Arc::new) else {
        return Server::start(listener, limits, move |connection| serve(connection, edge.clone()));
    };
    Server::start(listener, limits, move |connection| {
        let (edge, certificate) = (edge.clone(), certificate.clone());
        async move {
            if let Some(secured) = tls::accept(connection, &certificate).await {
                serve(secured, edge).await;
            }
        }
    })
}

fn serve(connection: Connection, edge: Arc<Edge>) -> impl Future<Output = ()> + Send {
    millstream_listen::http::serve(connection, move |request| edge::answer(edge, request))
}
