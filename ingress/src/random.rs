//! The one place of this crate that draws at random. Decisions get a number or a generator as an argument.

use rand::rngs::{SmallRng, ThreadRng};

/// This thread's generator.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that draws at random")]
pub(crate) fn rng() -> ThreadRng {
    rand::rng()
}

/// A fast generator to keep, with a seed of its own.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that draws at random")]
pub(crate) fn small_rng() -> SmallRng {
    rand::SeedableRng::from_os_rng()
}
