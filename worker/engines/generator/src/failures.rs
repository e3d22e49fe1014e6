//! How calls fail for no fault of their callers.

use millstream_values::{CallError, ErrorClass};

pub(crate) fn internal(message: &str) -> CallError {
    CallError::started(ErrorClass::Internal, message)
}

pub(crate) fn failed(error: &candle_core::Error) -> CallError {
    tracing::warn!(error = %error, "a generator failed to run its model");
    internal("the model failed on this request")
}
