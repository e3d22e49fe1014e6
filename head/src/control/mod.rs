//! What people ask of the cluster, whatever they ask it over. A change is checked, stored, and taken up by the reconciler; it
//! never waits for the cluster to follow. Servers turn requests into these calls, and errors into their protocol's.

pub(crate) mod cluster;
pub(crate) mod deploy;
pub(crate) mod inspect;
pub(crate) mod keys;
pub(crate) mod nodes;
pub(crate) mod rollout;
pub(crate) mod scale;
pub(crate) mod tokens;
pub(crate) mod traces;
pub(crate) mod usage;
pub(crate) mod what_if;

use millstream_core::desired::change::Refusal;
use millstream_core::reconcile::NotRemovable;
use millstream_proto::ErrorClass;

use crate::catalog;
use crate::leadership::{NotLeading, Restarting};
use crate::store;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Another head is to be asked.
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    /// What decides is not there.
    #[error(transparent)]
    Restarting(#[from] Restarting),
    /// It does not fit, or was not stored.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// The node stays.
    #[error(transparent)]
    NotRemovable(#[from] NotRemovable),
    /// Nobody else could lead.
    #[error("there is no other head to lead the cluster; start one on the same `--store` first")]
    Alone,
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is more of it than is allowed.
    #[error("{0}")]
    TooLarge(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// A fault of the head's own.
    #[error("{0}; please report it")]
    Internal(&'static str),
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Catalog(error.into())
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Catalog(refusal.into())
    }
}

impl Error {
    /// What the caller can do about it.
    pub(crate) fn class(&self) -> ErrorClass {
        match self {
            Self::NotLeading(_) | Self::Restarting(_) => ErrorClass::Unavailable,
            Self::Catalog(error) => class_of(error),
            Self::NotRemovable(NotRemovable::Unknown(_)) | Self::NotFound(_) => ErrorClass::NotFound,
            Self::NotRemovable(_) | Self::Alone => ErrorClass::Conflict,
            Self::Invalid(_) => ErrorClass::Invalid,
            Self::TooLarge(_) => ErrorClass::TooLarge,
            Self::Internal(_) => ErrorClass::Internal,
        }
    }
}

fn class_of(error: &catalog::Error) -> ErrorClass {
    match error {
        catalog::Error::Refused(refusal) => match refusal {
            Refusal::Invalid(_) => ErrorClass::Invalid,
            // It could be done if the cluster were otherwise.
            Refusal::InUse(_) | Refusal::NotNow(_) | Refusal::Bounds(_) | Refusal::KeyExists(_) => {
                ErrorClass::Conflict
            }
            Refusal::NotFound(_) | Refusal::NoDeployment(_) | Refusal::NoKey(_) => ErrorClass::NotFound,
        },
        catalog::Error::Store(error) => match error {
            store::Error::Full => ErrorClass::Overloaded,
            store::Error::Conflict { .. } => ErrorClass::Conflict,
            store::Error::TooLarge { .. } => ErrorClass::TooLarge,
            _ => ErrorClass::Unavailable,
        },
        catalog::Error::Unreadable { .. } => ErrorClass::Internal,
    }
}
