//! What a stage uses, once that is known.

use crate::FullName;
use crate::ops::Operator;

/// What a stage uses.
pub(super) enum Target {
    /// A deployment of this file.
    Own(FullName),
    /// A deployment of another pipeline.
    Foreign(FullName),
    /// An operator.
    Operator(Operator),
    /// Nothing that is known; a fault was recorded.
    Unknown,
}
