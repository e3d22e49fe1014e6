//! What the tests of every crate share: one maker of echo pipelines, and waiting for a state with one limit. It depends
//! on no crate of the workspace, so that all of them can use it in their tests.
#![forbid(unsafe_code)]

mod echo;
mod wait;

pub use echo::Echo;
pub use wait::{LIMIT, eventually, until};
