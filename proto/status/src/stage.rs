//! How the stages of a pipeline do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The calls of a stage in the last minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StageTraffic {
    /// Its name.
    pub stage: String,
    /// Calls a second, failed ones included.
    pub calls_per_second: f64,
    /// Calls a second that failed, whether or not the request did.
    pub failed_per_second: f64,
    /// What half of the calls took at most, in milliseconds, with waiting and every try; at most a quarter too high.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// The same of 99%.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}
