//! The one place of this crate that draws at random. Decisions get a generator as an argument.

use rand::RngCore as _;

/// Bytes that nobody can foresee.
#[expect(clippy::disallowed_methods, reason = "the one place of this crate that draws at random")]
pub(crate) fn nonce() -> [u8; 32] {
    let mut nonce = [0; 32];
    rand::rng().fill_bytes(&mut nonce);
    nonce
}
