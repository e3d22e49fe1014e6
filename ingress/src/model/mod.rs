//! What the parts of an ingress say to one another; knows none of them.

mod failure;
mod outcome;
mod stream_part;
mod tenant;
mod traffic_share;

pub(crate) use failure::{Failure, Origin, Refused};
pub use outcome::Outcome;
pub(crate) use stream_part::StreamPart;
pub(crate) use tenant::Tenant;
pub use traffic_share::TrafficShare;
