//! The gRPC services for workers, ingresses and the command.

pub(crate) mod control;
pub(crate) mod node;
mod requests;
pub(crate) mod route;

use millstream_proto::grpc_code;
use tonic::Status;

use crate::control::Error;
use crate::leadership::NotLeading;

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
        let message = error.to_string();
        if error.reason.is_some() {
            // No other head is worth asking, nor is asking again at once.
            return Self::unavailable(message);
        }
        millstream_connect::NotLeading { leader: error.leader }.status(message)
    }
}
