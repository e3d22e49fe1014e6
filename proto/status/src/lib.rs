//! Ids of what there is in a cluster, and the JSON documents by which it is shown and set.
//!
//! Apart from `millstream-proto`, so that the decisions of the control plane can be written in these types and build
//! without gRPC and without a runtime.
#![forbid(unsafe_code)]

pub mod defrag;
pub mod deploy_plan;
pub mod durations;
pub mod event;
pub mod head;
mod ids;
pub mod inspection;
pub mod key;
mod priority;
pub mod series;
pub mod stage;
pub mod status;
pub mod summary;
pub mod token;
pub mod trace;
pub mod usage;
pub mod what_if;

pub use ids::{IngressId, NodeId, ReplicaId, RequestId};
pub use priority::Priority;
