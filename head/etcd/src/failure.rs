//! What an error of etcd means for whoever asked: whether etcd has decided, and whether anything can have been written.

use std::io::ErrorKind;

use etcd_client::Error as EtcdError;
use millstream_head::store::{Error, LeaseId};
use tonic::{Code, Status};

/// Why etcd has not done what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no such lease any more.
    NoLease,
    /// Its quota is used up.
    Full,
    /// It does not do that, for this reason; no other member would.
    Refused(String),
    /// This member has not taken it, for this reason; another one may.
    NotTaken(String),
    /// Nobody knows whether it was done.
    Lost(String),
}

impl Failure {
    /// The error of an operation that writes nothing, or that does no harm when it is done twice.
    pub(crate) fn of_read(self, lease: LeaseId) -> Error {
        match self {
            Self::Lost(reason) => Error::Unavailable(reason),
            other => other.of_write(lease),
        }
    }

    /// The error of an operation that writes.
    pub(crate) fn of_write(self, lease: LeaseId) -> Error {
        match self {
            Self::NoLease => Error::LeaseEnded(lease),
            Self::Full => Error::Full,
            Self::Refused(reason) | Self::NotTaken(reason) => Error::Unavailable(reason),
            Self::Lost(reason) => Error::Unknown(reason),
        }
    }
}

impl From<EtcdError> for Failure {
    fn from(error: EtcdError) -> Self {
        match error {
            EtcdError::GRpcStatus(status) => status.into(),
            // etcd answers a renewal of a lease that it does not know with a time of zero.
            EtcdError::LeaseKeepAliveError(_) => Self::NoLease,
            EtcdError::TransportError(error) if never_connected(&error) => {
                Self::NotTaken(format!("etcd cannot be reached: {}", innermost(&error)))
            }
            other => Self::Lost(format!("etcd: {other}")),
        }
    }
}

/// What etcd says is stable: its own clients tell its errors apart by these texts.
impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let message = status.message();
        let has = |part| message.contains(part);
        if has("requested lease not found") {
            return Self::NoLease;
        }
        if has("database space exceeded") {
            return Self::Full;
        }
        // Both are said before anything is proposed to the other members.
        if has("etcdserver: no leader") || has("too many requests") {
            return Self::NotTaken(format!("etcd says: {message}"));
        }
        match status.code() {
            Code::Unauthenticated
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::InvalidArgument => Self::Refused(format!("etcd refuses it: {message}")),
            _ if never_connected(&status) => {
                Self::NotTaken(format!("etcd cannot be reached: {}", innermost(&status)))
            }
            code => Self::Lost(format!("etcd: {message} ({code:?})")),
        }
    }
}

/// Whether nothing was sent: there was no connection.
fn never_connected(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut error = Some(error);
    while let Some(this) = error {
        let refused = this.downcast_ref::<std::io::Error>();
        if refused.is_some_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            return true;
        }
        if this.to_string().contains("tcp connect error") {
            return true;
        }
        error = this.source();
    }
    false
}

/// What it comes down to.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut error = error.source();
    while let Some(this) = error {
        text = this.to_string();
        error = this.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_own_words_decide() {
        for (code, message, expected) in [
            (Code::NotFound, "etcdserver: requested lease not found", Error::LeaseEnded(LeaseId(7))),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded", Error::Full),
        ] {
            assert_eq!(Failure::from(Status::new(code, message)).of_write(LeaseId(7)), expected, "{message}");
        }
        let refused = Failure::from(Status::new(Code::PermissionDenied, "etcdserver: permission denied"));
        assert!(matches!(refused, Failure::Refused(_)));
        let no_leader = Failure::from(Status::new(Code::Unavailable, "etcdserver: no leader"));
        assert!(matches!(no_leader, Failure::NotTaken(_)), "nothing was proposed");
    }

    #[test]
    fn whether_a_cut_connection_has_written_is_not_known() {
        let cut = || Failure::from(Status::new(Code::Unavailable, "transport error"));
        assert!(matches!(cut().of_write(LeaseId(0)), Error::Unknown(_)));
        assert!(matches!(cut().of_read(LeaseId(0)), Error::Unavailable(_)));
    }
}
