//! The engine on real ONNX Runtime: tiny graphs made for the rules, the bundled classifier, and text models against
//! reference values. Without the library and the models (`tests/setup` fetches them) these tests skip with a message;
//! where `CI` is set they fail instead.
#![allow(clippy::disallowed_methods, reason = "a test takes real time")]
#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

mod library;
mod reference;
mod support;
mod tabular;
mod tensor;
mod text;
