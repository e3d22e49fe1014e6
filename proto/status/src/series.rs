//! The last hour in numbers, second by second.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Series that begin at the same time, with the same step.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// When the first value's step begins, in milliseconds since the Unix epoch.
    pub start_unix_ms: u64,
    /// Milliseconds per value.
    pub step_ms: u64,
    /// The series, by metric and name.
    pub series: Vec<OneSeries>,
}

/// One series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OneSeries {
    /// What the numbers are, such as `ongoing`.
    pub metric: String,
    /// The pipeline that they are about, or a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<String>,
    /// The deployment: `pipeline/deployment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// The node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Means over each step, the oldest first; null where nothing was observed.
    pub values: Vec<Option<f32>>,
}

impl Series {
    /// The numbers of a deployment; empty where there are none.
    #[must_use]
    pub fn of_deployment(&self, deployment: &str, metric: &str) -> &[Option<f32>] {
        let is_it = |one: &&OneSeries| one.deployment.as_deref() == Some(deployment) && one.metric == metric;
        self.series.iter().find(is_it).map_or(&[], |one| &one.values)
    }
}
