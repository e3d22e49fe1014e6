//! What the parts of an ingress say to one another; knows none of them.

mod failure;
mod outcome;
mod tenant;

pub(crate) use failure::Failure;
pub use outcome::Outcome;
pub(crate) use tenant::Tenant;
