//! The `onnx` engine: any tensor model, and text encoders, on ONNX Runtime.
//!
//! ONNX Runtime is a library that is found and loaded when the first model needs it, never linked: without it everything
//! else still runs. The map of this crate:
//!
//! - `library`, `runtime`: where the library is looked for; loading it, once per process.
//! - `external`, `model`, `bridge`: a model's file, its session, tensors in and out without needless copies.
//! - `port`, `convert`, `pack`: plain functions that check a call against the model, and join and split calls.
//! - `tensor_engine`, `text_encoder`: the two kinds of engine; texts are left to `millstream-engine-text`.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests take real time"))]

mod bridge;
mod convert;
mod external;
mod factory;
mod library;
mod model;
mod pack;
mod port;
mod runtime;
mod tensor_engine;
mod text_encoder;

pub use factory::OnnxFactory;
pub use library::{Places, places};
