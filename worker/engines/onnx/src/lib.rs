//! The `onnx` engine: any tensor model, and text encoders, on ONNX Runtime.
//!
//! ONNX Runtime is a library that is found and loaded when the first model needs it, never linked: without it everything
//! else still runs. The map of this crate:
//!
//! - `library`, `runtime`: where the library is looked for; loading it, once per process.
//! - `outline`, `external`: what a model's file says of its tensors; those that it keeps in other files.
//! - `signature`: what a model takes and returns, without ONNX Runtime.
//! - `model`, `session`, `shared`, `bridge`: a model's lanes, their sessions, the weights that these share, tensors in and out
//!   without needless copies.
//! - `port`, `convert`, `pack`: plain functions that check a call against the model, and join and split calls.
//! - `tensor_engine`, `text_encoder`: the two kinds of engine; texts are left to `millstream-engine-text`.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod array;
mod bridge;
mod convert;
mod external;
mod factory;
mod library;
mod model;
mod outline;
mod pack;
mod port;
mod runtime;
mod session;
mod shared;
mod signature;
mod tensor_engine;
#[cfg(test)]
mod testing;
mod text_encoder;

pub use factory::OnnxFactory;
pub use library::{Places, places};
pub use signature::signature_of;
