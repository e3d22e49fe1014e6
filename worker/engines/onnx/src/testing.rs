//! For this crate's own tests.

use std::path::{Path, PathBuf};

use ort::environment::Environment;

use crate::library::Places;
use crate::runtime;

/// A file of the tests.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// ONNX Runtime's environment; `None`, with a message, where it is not installed and may be left out.
pub(crate) fn environment() -> Option<Environment> {
    let models = std::env::var_os("MILLSTREAM_TEST_MODELS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../target/test-models"),
        Into::into,
    );
    let places = Places { explicit: Some((models.join("lib"), "the test")), folders: Vec::new() };
    match places.find() {
        Ok(files) => Some(runtime::environment(&files).unwrap()),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{error}");
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// A protobuf field with bytes.
pub(crate) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).unwrap());
    out.extend_from_slice(bytes);
    out
}
