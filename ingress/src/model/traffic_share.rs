//! How the requests of a pipeline are shared out among its revisions.

/// A routed revision and its share of the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficShare {
    /// Its number.
    pub revision: u64,
    /// Thousandths of the requests.
    pub permille: u16,
}
