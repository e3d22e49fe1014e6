//! Secrets that are made on this machine and shown once; a cluster learns their SHA-256 alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};

use crate::exit::Failure;

/// A secret and what a cluster knows it by.
pub(crate) struct Secret {
    /// The secret.
    pub(crate) text: String,
    /// Its SHA-256.
    pub(crate) sha256: Vec<u8>,
}

impl Secret {
    /// 256 random bits behind a mark by which people and scanners know what it is.
    pub(crate) fn new(mark: &str) -> Result<Self, Failure> {
        let mut bits = [0; 32];
        OsRng
            .try_fill_bytes(&mut bits)
            .map_err(|error| Failure::failed(format!("the system gives no random bits: {error}")))?;
        let text = format!("{mark}{}", URL_SAFE_NO_PAD.encode(bits));
        let sha256 = Sha256::digest(&text).to_vec();
        Ok(Self { text, sha256 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_marked_and_no_two_are_alike() {
        let (one, other) = (Secret::new("mk_").unwrap(), Secret::new("mk_").unwrap());
        assert_ne!(one.text, other.text);
        assert_ne!(one.sha256, other.sha256);
        let text = one.text.strip_prefix("mk_").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(text).unwrap().len(), 32);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    }
}
