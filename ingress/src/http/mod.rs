//! The HTTP edge: connections, limits, routing by path, bodies in and out. What a protocol of its own needs gets a
//! file of its own here; everything behind a checked request is left to `execute`.

mod activity;
mod answer;
mod byte_budget;
mod connection;
mod edge;
mod headers;
mod in_flight;
mod own_site;
mod pipeline_call;
mod problem;
mod read_body;
mod request_end;
mod server;
mod shadow;
mod sse;
mod state;

pub(crate) use byte_budget::ByteBudget;
pub use edge::endpoints;
pub use headers::{request_headers, response_headers};
pub use problem::{KINDS, Kind, kind_of};
pub(crate) use server::{Server, bind};
pub(crate) use shadow::Shadows;
pub(crate) use state::Edge;
