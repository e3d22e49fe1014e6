//! Conversions between domain types and generated types. A message from the network is never trusted: what is
//! missing or inconsistent is a [`WireError`].

use millstream_values::ErrorClass;

use crate::call::Priority;
use crate::key::KeyRequest;
use crate::status::ReplicaState;
use crate::v1;

/// Why a message is not one of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// An enum has a number that this version does not know.
    #[error("field `{field}` has the unknown value {value}")]
    UnknownEnum {
        /// Which field.
        field: &'static str,
        /// What it held.
        value: i32,
    },
}

impl From<WireError> for tonic::Status {
    fn from(error: WireError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// The gRPC code of an error class.
#[must_use]
pub fn grpc_code(class: ErrorClass) -> tonic::Code {
    match class {
        ErrorClass::Malformed | ErrorClass::TooLarge | ErrorClass::Invalid => tonic::Code::InvalidArgument,
        ErrorClass::NotFound => tonic::Code::NotFound,
        ErrorClass::Conflict => tonic::Code::Aborted,
        ErrorClass::RateLimited | ErrorClass::Overloaded => tonic::Code::ResourceExhausted,
        ErrorClass::Unavailable => tonic::Code::Unavailable,
        ErrorClass::DeadlineExceeded => tonic::Code::DeadlineExceeded,
        ErrorClass::Cancelled => tonic::Code::Cancelled,
        ErrorClass::Internal => tonic::Code::Internal,
    }
}

/// A gRPC status of that class and text.
pub fn status_of(class: ErrorClass, message: impl Into<String>) -> tonic::Status {
    tonic::Status::new(grpc_code(class), message)
}

impl From<v1::KeySettings> for KeyRequest {
    fn from(settings: v1::KeySettings) -> Self {
        let v1::KeySettings {
            rate_per_s,
            burst,
            concurrency,
            weight,
            priority,
            tokens_per_minute,
            tokens_per_day,
            models,
        } = settings;
        let models = models.map(|models| models.patterns);
        Self { rate_per_s, burst, concurrency, weight, priority, tokens_per_minute, tokens_per_day, models }
    }
}

impl From<KeyRequest> for v1::KeySettings {
    fn from(request: KeyRequest) -> Self {
        let KeyRequest {
            rate_per_s,
            burst,
            concurrency,
            weight,
            priority,
            tokens_per_minute,
            tokens_per_day,
            models,
        } = request;
        let models = models.map(|patterns| v1::ModelPatterns { patterns });
        Self { rate_per_s, burst, concurrency, weight, priority, tokens_per_minute, tokens_per_day, models }
    }
}

impl From<Priority> for v1::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::High => Self::High,
            Priority::Normal => Self::Normal,
            Priority::Low => Self::Low,
        }
    }
}

impl From<v1::Priority> for Priority {
    fn from(priority: v1::Priority) -> Self {
        match priority {
            v1::Priority::High => Self::High,
            v1::Priority::Normal => Self::Normal,
            v1::Priority::Low => Self::Low,
        }
    }
}

/// The two enums side by side, once; both directions follow from it.
const REPLICA_STATES: [(ReplicaState, v1::ReplicaState); 5] = [
    (ReplicaState::Starting, v1::ReplicaState::Starting),
    (ReplicaState::Ready, v1::ReplicaState::Ready),
    (ReplicaState::Draining, v1::ReplicaState::Draining),
    (ReplicaState::Stopped, v1::ReplicaState::Stopped),
    (ReplicaState::Failed, v1::ReplicaState::Failed),
];

impl From<ReplicaState> for v1::ReplicaState {
    fn from(state: ReplicaState) -> Self {
        REPLICA_STATES.iter().find(|(ours, _)| *ours == state).map_or(Self::Unspecified, |(_, wire)| *wire)
    }
}

impl TryFrom<v1::ReplicaState> for ReplicaState {
    type Error = WireError;

    fn try_from(state: v1::ReplicaState) -> Result<Self, WireError> {
        REPLICA_STATES
            .iter()
            .find(|(_, wire)| *wire == state)
            .map(|(ours, _)| *ours)
            .ok_or(WireError::UnknownEnum { field: "state", value: state.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_survives_the_wire() {
        for (state, _) in REPLICA_STATES {
            assert_eq!(ReplicaState::try_from(v1::ReplicaState::from(state)).unwrap(), state);
        }
    }
}
