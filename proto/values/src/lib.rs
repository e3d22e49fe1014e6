//! The values that flow between the stages of a pipeline, and the classes of errors.
//!
//! Everything here is plain data without I/O, async or gRPC, so that `pipelines` can compute with it and stays
//! quick to build. How values travel is left to `millstream-proto`; what they mean to `pipelines` and the engines.
#![forbid(unsafe_code)]

mod error;
mod tensor;
mod value;

pub use error::{CallError, ErrorClass, Started};
pub use tensor::{DType, Tensor, TensorError};
pub use value::{MAX_DEPTH, Map, Value};
