//! What crosses a boundary between processes: gRPC services, values on the wire, ids, calls to replicas.
//!
//! No logic lives here. Head, ingress and worker know this crate and never each other; the `cluster` command joins
//! an ingress and a worker of one process by handing the worker's [`call::ReplicaClient`] to the ingress.
#![forbid(unsafe_code)]

pub mod endpoint;
pub mod metric;
mod wire;

pub use millstream_calls::{IngressId, NodeId, ReplicaId, RequestId, call};
pub use millstream_status::{
    defrag, deploy_plan, durations, event, head, inspection, key, series, stage, status, summary, token,
    trace, usage, what_if,
};
pub use millstream_values::{CallError, DType, ErrorClass, Map, Started, Tensor, TensorError, Value};
pub use wire::{WireError, grpc_code, status_of};

/// The generated types and services of package `millstream.v1`.
#[expect(missing_docs, clippy::all, reason = "generated; the .proto files carry the documentation")]
#[allow(unreachable_pub, clippy::missing_errors_doc, clippy::large_futures, reason = "generated")]
pub mod v1 {
    tonic::include_proto!("millstream.v1");
}

/// The generated messages of package `inference`, and its service: the Open Inference Protocol over gRPC.
#[expect(missing_docs, clippy::all, reason = "generated; the .proto files carry the documentation")]
#[allow(unreachable_pub, clippy::missing_errors_doc, clippy::large_futures, reason = "generated")]
pub mod inference {
    tonic::include_proto!("inference");
}

/// All of `millstream.v1` as a `google.protobuf.FileDescriptorSet`: which services there are, with which methods.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The services that clients call, in the same form: what server reflection tells them.
pub const PUBLIC_FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/public_descriptors.bin"));
