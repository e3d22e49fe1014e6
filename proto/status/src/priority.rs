//! Who goes first where requests wait.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who goes first where requests wait: those of a higher one, and among equals whoever came first. In the order in which
/// they go.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Before all others.
    High,
    /// Unless asked otherwise.
    #[default]
    Normal,
    /// When nobody else waits.
    Low,
}

impl Priority {
    /// All of them, in the order in which they go.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// Its name in headers and files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The priority of that name, in any case of letters.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.as_str().eq_ignore_ascii_case(name))
    }
}
