//! Bytes in JSON and TOML are base64: the standard alphabet, padded or not.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What is base64 here, as a regular expression: groups of four, then one of two or three, whose last character has no bits to spare.
pub(super) const PATTERN: &str =
    "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]={0,2}|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=?)?$";

/// The bytes that a text stands for; `None` when it is not base64.
pub(crate) fn decode(text: &str) -> Option<Bytes> {
    LENIENT.decode(text).ok().map(Bytes::from)
}
