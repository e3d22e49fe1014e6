//! A head, as `cluster head list` and the REST API show it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One of the heads of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HeadStatus {
    /// Name of its node.
    pub name: String,
    /// HOST:PORT for workers, ingresses and the command.
    pub control: String,
    /// HOST:PORT of its dashboard.
    pub dashboard: String,
    /// Whether it leads.
    pub leads: bool,
}
