//! `mcp = true`: which pipelines and deployments agents may use as tools, and what is said of them there.

use std::sync::Arc;

use super::Plan;

/// What a file says of a pipeline or a deployment to those who choose what to call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct About {
    /// In words.
    pub(crate) description: Option<Arc<str>>,
    /// Whether it is a tool.
    pub(crate) is_tool: bool,
}

impl Plan {
    /// What it is for, in the words of its file.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.parts.serving.about.description.as_deref()
    }

    /// Whether it is a tool of the Model Context Protocol.
    #[must_use]
    pub fn is_tool(&self) -> bool {
        self.parts.serving.about.is_tool
    }
}
