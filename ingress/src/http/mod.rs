//! The HTTP edge: connections, limits, keys, bodies in and out. What requests and answers look like is a [`protocol`]'s; everything
//! behind a checked request is left to `execute`.
//!
//! [`protocol`]: crate::protocol

mod activity;
mod answer;
mod byte_budget;
mod call;
mod connection;
mod edge;
mod grpc;
mod headers;
mod in_flight;
mod own_pages;
mod own_site;
mod read_body;
mod request_end;
mod server;
mod shadow;
mod state;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use byte_budget::ByteBudget;
pub use edge::endpoints;
pub(crate) use grpc::Services;
pub use headers::{request_headers, response_headers};
pub(crate) use server::{Server, bind};
pub(crate) use shadow::Shadows;
pub(crate) use state::Edge;
