//! What the parts of an ingress say to one another; knows none of them.

mod failure;
mod outcome;
mod part;
mod tenant;

pub(crate) use failure::Failure;
pub use outcome::Outcome;
pub(crate) use part::Part;
pub(crate) use tenant::Tenant;
