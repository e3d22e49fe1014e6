//! The one place of this crate that draws at random. Decisions get a generator as an argument.

use rand::rngs::ThreadRng;
use uuid::Uuid;

/// A new id.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that draws at random")]
pub(crate) fn uuid() -> Uuid {
    Uuid::new_v4()
}

/// This thread's generator.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that draws at random")]
pub(crate) fn rng() -> ThreadRng {
    rand::rng()
}
