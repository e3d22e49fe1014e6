//! Whose request it is, as far as the execution needs to know.

/// The holder of an API key. A number is never used for another key while the process lives: kept answers go by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Tenant(pub u32);

impl Tenant {
    /// All requests without a key.
    pub(crate) const ANONYMOUS: Self = Self(0);
}
