//! The compiled form of a pipeline, which the ingress executes: everything that can be decided at deploy time is.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_values::Value;

use crate::{DeploymentSpec, Faults, FullName, Name};

/// A checked pipeline, ready to run. Immutable; shared by all requests.
pub struct Plan {}

impl Plan {
    /// Parses, checks and compiles a pipeline's text. `file_name` is for messages only.
    ///
    /// # Errors
    /// All faults of the text at once.
    pub fn compile(file_name: &str, text: &str) -> Result<Self, Faults> {
        let _ = (file_name, text);
        unimplemented!()
    }

    /// The pipeline's name.
    #[must_use]
    pub fn name(&self) -> &Name {
        unimplemented!()
    }

    /// Its HTTP route; `None` for a file that holds only deployments.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        unimplemented!()
    }

    /// The deployments that it declares.
    #[must_use]
    pub fn deployments(&self) -> &BTreeMap<Name, DeploymentSpec> {
        unimplemented!()
    }

    /// The deployments that its stages call, its own and those of other pipelines; [`crate::StageCall::target`]
    /// indexes it.
    #[must_use]
    pub fn targets(&self) -> &[FullName] {
        unimplemented!()
    }

    /// The whole request's deadline, when the file sets one (`timeout = "10s"`).
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        unimplemented!()
    }

    /// Whether the response has a field that can stream.
    #[must_use]
    pub fn can_stream(&self) -> bool {
        unimplemented!()
    }

    /// Validates a JSON body against `[request]` and fills in defaults, without building a JSON tree in between.
    ///
    /// # Errors
    /// [`RequestError::Malformed`] for what is not JSON, is nested too deep or has a duplicate key;
    /// [`RequestError::Invalid`] with every fault against the schema.
    pub fn parse_request(&self, body: &[u8]) -> Result<Request, RequestError> {
        let _ = body;
        unimplemented!()
    }
}

/// A validated request body.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// A map of all fields of `[request]`.
    pub fields: Value,
    /// Whether the body asked for a stream (`"stream": true`).
    pub stream: bool,
}

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Not JSON, nested too deep, or a key twice (400).
    #[error("{message}")]
    Malformed {
        /// What and where (line and column).
        message: String,
    },
    /// JSON, but not what `[request]` asks for (422).
    #[error("the body has {} fault(s)", .0.len())]
    Invalid(Vec<FieldFault>),
}

/// One fault of a body.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldFault {
    /// JSON pointer (RFC 6901) such as `/documents/3`.
    pub path: String,
    /// What is wrong and what is asked for.
    pub message: String,
}
