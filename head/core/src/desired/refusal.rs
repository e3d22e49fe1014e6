//! Why a change of what people ask for is refused.

use millstream_pipelines::Name;

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The text does not fit what is deployed; one fault a line.
    #[error("{0}")]
    Invalid(String),
    /// Another pipeline uses what would go away.
    #[error("{0}")]
    InUse(String),
    /// The pipeline is not in a state in which that can be done.
    #[error("{0}")]
    NotNow(String),
    /// There is no such pipeline.
    #[error("there is no pipeline `{0}`; `cluster status` lists those there are")]
    NotFound(Name),
    /// There is no such deployment; the text lists those there are.
    #[error("{0}")]
    NoDeployment(String),
    /// Bounds on replicas that make no sense.
    #[error("{0}")]
    Bounds(String),
    /// There is no such API key; the text lists those there are.
    #[error("{0}")]
    NoKey(String),
    /// There is such an API key already.
    #[error("{0}")]
    KeyExists(String),
}
