//! Calls to replicas, and the ids of nodes, replicas and requests.
//!
//! Apart from `millstream-proto`, so that engines, which answer calls but never cross a network, build without gRPC.
#![forbid(unsafe_code)]

pub mod call;
mod context;
mod outcome;
mod timing;

pub use millstream_status::{IngressId, NodeId, ReplicaId, RequestId};
pub use millstream_values::{CallError, DType, ErrorClass, Map, Started, Tensor, TensorError, Value};
