//! The gRPC services for workers, ingresses and the command.

pub(crate) mod control;
pub(crate) mod node;
pub(crate) mod route;

use millstream_proto::grpc_code;
use tonic::Status;
use tonic::metadata::MetadataValue;

use crate::control::Error;
use crate::leadership::NotLeading;

/// Names the head that leads, in the answer of one that does not.
const LEADER: &str = "millstream-leader";

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        match error {
            Error::NotLeading(error) => error.into(),
            error => Self::new(grpc_code(error.class()), error.to_string()),
        }
    }
}

impl From<NotLeading> for Status {
    fn from(error: NotLeading) -> Self {
        let mut status = Self::unavailable(error.to_string());
        let leader = error.leader.and_then(|leader| MetadataValue::try_from(leader).ok());
        if let Some(leader) = leader {
            status.metadata_mut().insert(LEADER, leader);
        }
        status
    }
}
